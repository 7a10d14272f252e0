"""What all demos share: claims with baselines, runs from several seeds, their page."""

import math
import sys
from types import ModuleType, SimpleNamespace

import pytest

from demos import _demo
from demos._claim import Claim
from demos._demo import Demo
from demos._page import duration, page
from scratchnet import plots


def test_a_claim_that_does_not_hold_fails_the_demo(tmp_path, capsys):
    demo = Demo("x", quick=True, out=tmp_path)
    chance = {"chance": 0.1}
    demo.claim("good", 1.0, at_least=0.5, at_most=1.0, baseline=chance)
    assert demo.failed == []
    demo.claim("too small", 0.4, at_least=0.5, baseline=chance)
    demo.claim("too large", 0.4, at_most=0.05, baseline=chance)
    demo.claim("not a number", math.nan, at_most=0.05, baseline=chance)
    assert demo.failed == ["too small", "too large", "not a number"]
    assert capsys.readouterr().out.count("FAILS") == 3
    with pytest.raises(ValueError, match="needs at_least or at_most"):
        demo.claim("nothing", 1.0, baseline=chance)
    with pytest.raises(ValueError, match="needs a baseline"):
        demo.claim("nothing", 1.0, at_least=0.5, baseline={})
    assert demo.choose("full", "quick") == "quick"


def test_a_claim_fails_if_a_baseline_meets_its_bound(tmp_path, capsys):
    demo = Demo("x", quick=True, out=tmp_path)
    both = {"the mean picture": 18.6, "ridge regression": 19.8}
    demo.claim("PSNR, dB", 21.0, at_least=19.0, baseline=both)
    assert demo.failed == ["PSNR, dB"]
    assert "(at least 19; the mean picture 18.6; ridge regression 19.8; " in (
        capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="baseline 'chance' is NaN"):
        demo.claim("PSNR, dB", 21.0, at_least=20.8, baseline={"chance": math.nan})


def test_checks_targets_and_measures(tmp_path, capsys):
    demo = Demo("x", quick=True, out=tmp_path)
    demo.check("two sums apart", 1e-9, at_most=1e-8)
    demo.claim("SSIM", 0.6, at_least=0.7, baseline={"ridge": 0.5}, tried="3 layers")
    demo.measure("pictures", 10)
    assert demo.failed == []
    out = capsys.readouterr().out
    assert "MISSED  SSIM: 0.6  (at least 0.7; ridge 0.5)" in out
    demo.check("two sums apart", 1e-7, at_most=1e-8)
    assert demo.failed == ["two sums apart"]


RUNS = [
    [
        Claim("PSNR, dB", 21.0, at_least=20.5, baseline={"ridge": 19.5}),
        Claim("SSIM", 0.6, at_least=0.7, baseline={"ridge": 0.5}, tried="3 layers"),
        Claim("pictures", 10),
    ],
    [
        Claim("PSNR, dB", 20.0, at_least=20.7, baseline={"ridge": 19.7}),
        Claim("SSIM", 0.5, at_least=0.7, baseline={"ridge": 0.4}, tried="3 layers"),
        Claim("pictures", 10),
    ],
]


def test_the_page_has_medians_ranges_baselines_and_figures():
    text = page("x", "What it claims.", "run x", 200, RUNS, {"x.png": "A deer."})
    assert text.startswith(
        "# x\n\nWhat it claims.\n\n```sh\nrun x  # about 3 minutes\n"
    )
    assert "| **PSNR, dB** | ≥ 20.6 | 20.5 | 20 | 21 | 1 of 2 |\n| ridge |" in text
    assert "| ridge |  | 19.6 | 19.5 | 19.7 |  |" in text
    missed = text.index("## Targets that were missed")
    assert text.index("| **SSIM** | ≥ 0.7 | 0.55 | 0.5 | 0.6 | 0 of 2 |") > missed
    assert "- SSIM: 3 layers" in text
    assert "| **pictures** |  | 10 | 10 | 10 |  |" in text
    assert text.endswith("![A deer.](x.png)\n")


def test_bars_do_not_end_a_cell_of_the_page():
    claims = [Claim("|a - b|", 1.0, at_most=2.0, baseline={"|a|": 3.0})]
    text = page("x", "", "run x", 1, [claims], {})
    assert "| **\\|a - b\\|** | ≤ 2 |" in text
    assert "| \\|a\\| |  | 3 |" in text


@pytest.mark.parametrize("other", [RUNS[0][:2], [*RUNS[0], RUNS[0][0]]])
def test_a_page_needs_the_same_quantities_from_each_seed(other):
    with pytest.raises(ValueError, match="not measured once by every seed, alike"):
        page("x", "", "run x", 1, [RUNS[0], other], {})


def test_durations_are_rough():
    assert [duration(s) for s in (1, 44, 600, 7200)] == [
        "10 s",
        "40 s",
        "10 minutes",
        "2 hours",
    ]


class Now:
    """Runs what is submitted at once, in this process."""

    def __init__(self, *args):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def submit(self, function, *args):
        value = function(*args)
        return SimpleNamespace(result=lambda: value)


def test_a_demo_from_several_seeds(tmp_path, monkeypatch, capsys):
    """The first seed draws; the page is written; one seed that fails is a failure."""

    def run(demo):
        demo.claim("seed", demo.seed, at_most=4, baseline={"none": 9})
        demo.save(plots.loss_curve([2.0, 1.0]), alt=f"Seed {demo.seed}.")

    module = ModuleType("demos.made_up", "A demo that was made up.")
    module.run = run
    module.__spec__ = SimpleNamespace(name="demos.made_up")
    monkeypatch.setitem(sys.modules, "demos.made_up", module)
    monkeypatch.setattr(_demo, "ProcessPoolExecutor", Now)
    for name in ("OPENBLAS_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    assert _demo.perform_seeds(module, True, tmp_path, 3, 2, 1, "numpy")
    assert {path.name for path in tmp_path.iterdir()} == {"made_up.png", "made_up.md"}
    text = (tmp_path / "made_up.md").read_text()
    assert "| **seed** | ≤ 4 | 3.5 | 3 | 4 | 2 of 2 |" in text
    assert "--quick --seed 3" in text
    assert text.endswith("![Seed 3.](made_up.png)\n")
    assert capsys.readouterr().out.count("figure") == 1
    assert not _demo.perform_seeds(module, True, tmp_path, 3, 3, 1, "numpy")
