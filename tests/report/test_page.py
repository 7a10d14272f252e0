"""The page of a run: its contents, its policy, and what comes from a run."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import image

from scratchnet import plots, report
from scratchnet.cli.main import main
from scratchnet.report import contents, page
from scratchnet.runs import images
from scratchnet.training import GANHistory, History

SMALL = "--examples 300 --batch-size 100 --hidden 32"
TRAIN = {
    "autoencoder": f"{SMALL} --code 4 --epochs 2",
    "stacked": f"{SMALL} 8 --code 4 --pretrain 1 --epochs 1 --engine autograd",
    "denoising": f"{SMALL} --code 8 --epochs 1",
    "vae": f"{SMALL} --code 2 --epochs 2",
    "iwae": f"{SMALL} --code 4 --k 3 --epochs 1",
    "gan": f"{SMALL} --noise 4 --steps 8",
}


@pytest.fixture(autouse=True, scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "SYNTHETIC", {"drawn": (300, 200), "deer": (120, 40)})
        patch.setitem(plots.STYLE, "savefig.dpi", 20)
        yield


@pytest.fixture(scope="module")
def runs(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, options in TRAIN.items():
        out = str(folder / name)
        assert main(["train", name, *options.split(), "--out", out]) == 0
    deer = ["--data", "deer", "--batch-size", "20", "--hidden", "8", "--epochs", "1"]
    assert main(["train", "denoising", *deer, "--out", str(folder / "deer")]) == 0
    return folder


@pytest.fixture(scope="module")
def pages(runs):
    return {
        folder.name: report.write(folder).read_text(encoding="utf-8")
        for folder in runs.iterdir()
    }


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_every_system_has_a_page(pages):
    assert set(pages) == {*TRAIN, "deer"}
    for text in pages.values():
        assert text.startswith("<!doctype html>")
        assert "scratchnet" in text
        assert "$" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
        assert len(text) < 3_000_000


def test_the_same_run_gives_the_same_page(runs, pages):
    for name in ("vae", "gan"):
        assert report.write(runs / name).read_text(encoding="utf-8") == pages[name]


def test_a_page_asks_for_nothing(pages):
    for text in pages.values():
        elements = Elements(text).found
        for tag, attributes in elements:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            source = attributes.get("src", "data:")
            assert source.startswith("data:image/png;base64,") or source == "data:"
            assert tag not in ("link", "iframe", "object", "form")
        links = [a["href"] for tag, a in elements if tag == "a"]
        assert links == ["weights.npz"]


def test_the_policy_admits_the_pages_own_style_and_script_only(pages):
    for text in pages.values():
        policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
        assert policy.startswith("default-src 'none'; img-src data:; ")
        for tag in ("style", "script"):
            (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy


def test_ids_are_unique_and_labels_hold_their_inputs(pages):
    for text in pages.values():
        ids = [a["id"] for _, a in Elements(text).found if "id" in a]
        assert len(ids) == len(set(ids))
        for match in re.finditer(r"<(input|select)", text):
            before = text[: match.start()]
            assert before.rindex("<label") > before.rfind("</label>")


def embedded(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def decoded(net, code):
    """Decode as page.js does, from the float16 weights in the page."""
    h = np.array(code)
    for k, (W, b, n, m) in enumerate(net["layers"]):
        W, b = (np.frombuffer(base64.b64decode(a), "<f2").astype(float) for a in (W, b))
        h = h @ W.reshape(n, m) + b
        last = k == len(net["layers"]) - 1
        f = {
            "relu": lambda a: np.maximum(a, 0),
            "leaky_relu": lambda a: np.where(a > 0, a, net["slope"] * a),
            "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
            "linear": lambda a: a,
        }[net["output"] if last else net["activation"]]
        h = f(h)
    return h


@pytest.mark.parametrize("name", ["autoencoder", "stacked", "vae", "iwae", "gan"])
def test_the_decoder_of_the_page_decodes_as_the_model(pages, name):
    net = embedded(pages[name])["decoder"]
    checks = np.frombuffer(base64.b64decode(net["checks"]), "<f4").reshape(8, -1)
    own = np.stack([decoded(net, code) for code in net["codes"][:8]])
    assert np.max(np.abs(own - checks)) < 1e-3


def test_names_from_a_run_cannot_leave_their_place(runs):
    found = contents.read(runs / "vae")
    evil = '</script><script>alert(1)</script>"><img src=x onerror=alert(1)>'
    found.about = replace(found.about, options={**found.about.options, "data": evil})
    found.run = found.run._replace(data=f"/tmp/{evil}")
    text = page.render(found, "en")
    assert "<script>alert" not in text
    assert "onerror" not in {n for _, a in Elements(text).found for n in a}
    assert text.count("<script") == 2


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_language_that_is_shown_first(runs, tmp_path, language):
    out = tmp_path / "page.html"
    assert (
        main(["report", str(runs / "gan"), "--out", str(out), "--lang", language]) == 0
    )
    text = out.read_text(encoding="utf-8")
    assert f'<html lang="{language}" data-language="{language}">' in text
    assert "판별 네트워크" in text
    assert "discriminator" in text


@pytest.mark.parametrize(
    ("history", "curves"),
    [
        (History([3.0, 2.0], [3.5, 2.5], [1, 1]), 2),
        (GANHistory([1, 2], [-1.0, -1.3], [0.9, 0.6], [0.1, 0.4]), 3),
    ],
)
def test_a_history_alone_has_its_curves(tmp_path, history, curves):
    out = report.write(history, tmp_path / "page.html")
    text = out.read_text(encoding="utf-8")
    assert text.count("<polyline") == curves
    assert "<canvas" not in text
    with pytest.raises(ValueError, match="pass path="):
        report.write(history)


def test_other_languages_are_refused(runs):
    with pytest.raises(ValueError, match="'en' or 'ko' expected"):
        report.write(runs / "vae", language="de")


def test_a_large_decoder_is_left_out_and_said(runs, monkeypatch):
    monkeypatch.setattr(contents, "MOST_WEIGHTS", 100)
    text = page.render(contents.read(runs / "vae"), "en")
    assert "left out" in text
    assert embedded(text)["decoder"] is None


def test_a_page_that_is_too_large_is_refused(runs, monkeypatch):
    monkeypatch.setattr(report, "MOST", 1000)
    with pytest.raises(ValueError, match="the page would have"):
        report.write(runs / "vae")


def test_no_run_is_an_error_in_a_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err


def test_report_belongs_to_the_run(runs):
    assert main(["report", str(runs / "vae")]) == 0
    assert "report.html" in json.loads((runs / "vae" / "run.json").read_text())["files"]


def test_a_png_has_the_pixels():
    x = np.array([[0.0, 1.0], [0.5, 2.0]])
    shown = image.imread(io.BytesIO(plots.png(x, ink=False)))
    np.testing.assert_allclose(shown[:, :, 0], [[0, 1], [0.5, 1]], atol=0.01)
    shown = image.imread(io.BytesIO(plots.png(x)))
    np.testing.assert_allclose(shown[:, :, 0], [[1, 0], [0.5, 0]], atol=0.01)
    with pytest.raises(ValueError, match="rows, columns"):
        plots.png(x[0])
