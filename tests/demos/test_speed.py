"""demos/speed.py: all rivals do the same work; ratios and tables of the times."""

import json
from functools import partial

import numpy as np
import pytest

from demos import _around, _rivals, _systems, speed
from demos._demo import Demo


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Leave small systems in a folder, as the benchmark leaves large ones."""
    monkeypatch.setitem(_systems.SIZES, "VAE", (784, 12, 20))
    monkeypatch.setitem(_systems.SIZES, "deep autoencoder", (784, 10, 8, 6))
    monkeypatch.setitem(_systems.NETS, "generator", (64, 9, 784))
    monkeypatch.setitem(_systems.NETS, "discriminator", (784, 9, 1))
    for system in (*_systems.SYSTEMS, _systems.WARM_UP):
        speed.prepare(tmp_path, system, rows=6, steps=3)
    return tmp_path


@pytest.mark.parametrize("system", _systems.SYSTEMS)
@pytest.mark.parametrize(
    "rival", ["engine", "torch, fused", "torch.compile", "JAX", "autograd", "mygrad"]
)
def test_a_rival_takes_the_steps_by_hand(folder, system, rival):
    """Frameworks that are not installed are skipped."""
    pytest.importorskip(_rivals.RIVALS[rival].package)
    if rival == "torch.compile":
        pytest.skip("compiles for minutes; the benchmark compares it too")
    expected = _rivals.Runner("by hand", folder).make(system, 4, False)["losses"]
    losses = _rivals.Runner(rival, folder).make(system, 4, False)["losses"]
    assert np.shape(losses) == (3, 2 if system == "GAN" else 1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    # Every step changes the weights: three steps have three losses.
    assert len(np.unique(np.array(expected)[:, 0])) == 3


@pytest.mark.parametrize("system", _systems.SYSTEMS)
def test_the_floor_multiplies_as_often_as_a_step(folder, system, monkeypatch):
    """Count the products of a step by hand."""
    shapes = {}

    def counting(kind, a, b, out):
        if len(a) > 1:  # not a row of ones, which sums a gradient over samples
            shapes.setdefault(kind, []).append((a.shape, b.shape))
        return real(a, b, out=out)

    real = np.matmul
    x = np.zeros((4, 784), np.float32)
    for kind, make in [
        ("floor", partial(_rivals.products, library="numpy")),
        ("by hand", _rivals.by_hand),
    ]:
        with np.load(folder / f"{system}.npz") as file:
            weights = {k: v for k, v in file.items() if k not in ("x", "noise")}
        with monkeypatch.context() as patch:
            patch.setattr(np, "matmul", partial(counting, kind))
            stepper = make(system, 4, weights)
            stepper.step(x, *stepper.draw(4))
    assert sorted(shapes["floor"]) == sorted(shapes["by hand"])


def test_a_runner_times_its_steps(folder):
    runner = _rivals.Runner("by hand", folder)
    assert runner.hello()["version"] == np.__version__
    made = runner.make("VAE", 4, True)
    assert made["process"] >= made["memory"] >= 0
    assert 0 < runner.time(4, 0.01)["ms"] < 1000


def test_a_process_answers_or_names_its_error(folder):
    with speed.processes(["by hand"], folder) as running:
        process = running["by hand"]
        assert process.ask("hello")["version"] == np.__version__
        with pytest.raises(RuntimeError, match=r"FileNotFoundError.*no such"):
            process.ask("make", "no such", 4, True)
        assert len(process.ask("make", _systems.WARM_UP, 4, True)["losses"]) == 3
        assert process.ask("time", 4, 0.001)["ms"] > 0
    assert process.child.returncode == 0
    with speed.processes(["no such rival"], folder) as running:
        with pytest.raises(RuntimeError, match="its process ended"):
            running["no such rival"].ask("hello")


def results():
    """Make up three rounds of two cells; by hand takes 2 or 4 times the floor."""
    made = speed.Results()
    cells = [("VAE", 32), ("VAE", 128)]
    for rival, ms in {
        "products": ([1, 1, 2], [3, 3, 3]),
        "by hand": ([2, 2, 4], [12, 12, 12]),
        "engine": ([4, 4, 4], [24, 24, 24]),
        "torch, default": ([5, 5, 5], [6, 6, 7]),
        "torch, fused": ([4, 3, 4], [12, 6, 24]),
    }.items():
        made.ms[rival] = dict(zip(cells, ms, strict=True))
    return made


def test_ratios_are_computed_within_rounds():
    made = results()
    (small, large), rivals = made.cells(), ("torch, default", "torch, fused")
    assert made.ratio("by hand", ("products",), [small]) == (2, 2, 2)
    assert made.ratio("by hand", ("products",), [large]) == (4, 4, 4)
    both = made.ratio("by hand", ("products",), [small, large])
    np.testing.assert_allclose(both, np.sqrt(8))
    # The best of several is the one with the best median, in all rounds.
    assert made.best(rivals, small) == "torch, fused"
    assert made.best(rivals, large) == "torch, default"
    found = made.ratio("engine", rivals, [small])
    np.testing.assert_allclose(found, [1, 1, 4 / 3])
    assert str(found) == "1.00 (1.00–1.33)"


def test_tables_leave_out_rivals_that_did_not_run():
    lines = speed.times_table(results()).splitlines()
    assert lines[0].split(" | ")[1:3] == ["products", " by hand"[1:]]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert "| VAE, 128" in lines[3]
    assert "12.00" in lines[3]
    ratios = speed.ratios_table(results())
    assert "JAX" not in ratios
    assert "by hand / products" in ratios.splitlines()[2]
    assert "2.83 (2.83–2.83)" in ratios.splitlines()[2]
    assert "engine / best eager" in ratios.splitlines()[-1]
    text = speed.to_json(results(), 3)
    assert json.loads(text)["ms"]["by hand"]["VAE"]["128"] == [12, 12, 12]
    again = speed.from_json(text)
    assert again.ms == results().ms
    assert speed.times_table(again) == speed.times_table(results())


def test_a_rival_with_other_losses_fails_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "measure", lambda *a: (results(), {"engine": 0.1}))
    monkeypatch.setattr(speed, "memory_table", lambda results: "")
    monkeypatch.setattr(speed, "around", lambda demo: None)
    times = {name: {"exp": 1.5} for name in ("products", "engine")}
    times["engine"] = {"exp": 3.25}
    monkeypatch.setattr(speed, "measure_calls", lambda *a: times)
    monkeypatch.setattr(speed, "measure_crowded", lambda *a: {"by hand": (2.0, 5.0)})
    monkeypatch.setattr(speed, "SYSTEMS", ("VAE",))
    demo = Demo("speed", True, tmp_path)
    speed.run(demo)
    assert demo.failed == ["first losses, engine and by hand apart"]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "Python" in json.loads((tmp_path / "speed.json").read_text())["machine"]
    out = capsys.readouterr().out
    assert "geometric mean" in out
    assert "5.00 |   2.5 |" in out
    assert "| exp       |  1.50 |   3.25 |           1.75 |" in out


def test_the_overhead_outside_a_step():
    assert len(_around.chain_times((10, 20))) == 2
    numpy, more = _around.import_time(1)
    assert numpy > 0
    assert more < 10_000
    assert _around.minibatch_ratio(256, 1) > 0
    assert _around.digits_seconds(2) > 0
    found = _around.call_times("engine", 1, 2)
    assert list(found) == list(_around.CALLS)
    pytest.importorskip("torch")
    assert list(_around.call_times("torch, default", 1, 2)) == list(_around.CALLS)


class Pretend:
    """A stand-in for a process; the engine's fails."""

    wrong = "losses"

    def __init__(self, name, folder):
        self.engine = name == "engine"
        self.child = self

    def communicate(self):
        pass

    def ask(self, command, *arguments):
        if command == "make":
            bad = self.engine and self.wrong == "losses"
            loss = float("nan") if bad else 1.0
            return {"losses": [[loss]], "memory": 1.0, "process": 1.0}
        if command == "time" and self.engine and self.wrong == "time":
            raise RuntimeError("its process ended")
        return {"version": "1", "ms": 2.0}


def test_losses_that_are_nan_differ_from_those_by_hand(monkeypatch):
    monkeypatch.setattr(speed, "Process", Pretend)
    results, apart = speed.measure(("by hand", "engine"), (4, 8), 2, 0.01, pause=0)
    assert apart["by hand"] == 0
    assert np.isnan(apart["engine"])
    assert results.ms["engine"]["GAN", 8] == [2, 2]


def test_a_rival_that_ends_early_is_left_out(monkeypatch):
    monkeypatch.setattr(speed, "Process", Pretend)
    monkeypatch.setattr(Pretend, "wrong", "time")
    results, _ = speed.measure(("by hand", "engine"), (4,), 1, 0.01, pause=0)
    assert results.missing == {"engine": "its process ended"}
    assert list(results.ms) == list(results.memory) == ["by hand"]


def test_a_killed_process_is_an_error(folder):
    with speed.processes(["by hand"], folder) as running:
        process = running["by hand"]
        process.ask("hello")
        process.child.kill()
        process.child.wait()
        with pytest.raises(RuntimeError, match="its process ended"):
            process.ask("hello")
