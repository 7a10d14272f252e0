"""The command line, from its arguments to its files and its exit status."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchnet import __version__, backend, plots
from scratchnet.cli import judge
from scratchnet.cli.main import main
from scratchnet.cli.options import parser
from scratchnet.data.digits import draw_digits
from scratchnet.runs import images
from scratchnet.runs.systems import SYSTEMS
from scratchnet.training import checkpoint
from tests.commands import draw_nothing
from tests.commands import run_command as run

SEED = 3
COMMON = f"--examples 300 --batch-size 100 --seed {SEED}"
SMALL = {
    "autoencoder": f"train autoencoder {COMMON} --hidden 32 --code 4 --epochs 2",
    "stacked": f"train stacked {COMMON} --hidden 32 8 --code 4 --pretrain 1 --epochs 2",
    "denoising": f"train denoising {COMMON} --hidden 32 --code 8 --epochs 2",
    "vae": f"train vae {COMMON} --hidden 32 --code 2 --epochs 2",
    "iwae": f"train iwae {COMMON} --hidden 32 --code 4 --k 3 --epochs 2",
    "gan": f"train gan {COMMON} --noise 4 --hidden 32 --steps 8 --ema 0.5 --packing 2",
}
PICTURES = {
    "autoencoder": "reconstructions loss codes",
    "stacked": "reconstructions loss codes",
    "denoising": "reconstructions loss",
    "vae": "reconstructions samples loss plane codes",
    "iwae": "reconstructions samples loss codes",
    "gan": "samples game",
}


@pytest.fixture(autouse=True, scope="module")
def few():
    """Draw and judge few images, and write small pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "SYNTHETIC", {"drawn": (300, 200), "deer": (120, 40)})
        patch.setattr(judge, "LIKELIHOOD_IMAGES", 100)
        patch.setattr(judge, "LIKELIHOOD_DRAWS", 10)
        patch.setattr(judge, "IMAGES_SHOWN", 2)
        patch.setitem(plots.STYLE, "savefig.dpi", 20)
        yield


@pytest.fixture(scope="module")
def runs(few, tmp_path_factory):
    """Train every system by hand; return the folder of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, command in SMALL.items():
        assert main([*command.split(), "--out", str(folder / name)]) == 0
    return folder


def held_out(n=200):
    """Draw the images that a run with SEED has held out."""
    return draw_digits(n, backend.streams(SEED, 2)[1])


def dense(weights, net, x, activation):
    """Compute a network from its weights by name, in float64."""
    layers = sorted(int(k.split(".")[1]) for k in weights if re.match(rf"{net}.*W", k))
    for i in layers:
        x = x @ weights[f"{net}.{i}.W"].astype(float) + weights[f"{net}.{i}.b"]
        x = activation(x) if i != layers[-1] else x
    return x


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numbers(line):
    return [float(x) for x in re.findall(r"-?\d+\.\d+", line)]


# --- train --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEMS)
def test_training_writes_the_files_that_it_lists(runs, name):
    for picture in PICTURES[name].split():
        path = runs / name / f"{picture}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
    own = {f"{picture}.png" for picture in PICTURES[name].split()}
    own |= {"weights.npz", "history.json", "moments.npz"}
    there = {path.name for path in (runs / name).iterdir()}
    assert there == own | {"run.json", "checkpoints"}
    about = json.loads((runs / name / "run.json").read_text("utf-8"))
    assert set(about["files"]) == own
    assert about["finished"] is True
    assert len(list((runs / name / "checkpoints").iterdir())) == 1
    weights, facts = checkpoint.load(runs / name / "weights.npz")
    assert all(np.isfinite(a).all() for a in weights.values())
    assert facts["system"] == name
    assert facts["options"]["seed"] == SEED
    assert facts["versions"]["scratchnet"] == __version__
    history = json.loads((runs / name / "history.json").read_text())
    if name == "gan":
        assert history["steps"] == list(range(1, 9))
        assert len(history["v"]) == len(history["real"]) == 8
    else:
        assert len(history["losses"]) == len(history["validation_losses"]) == 2
        assert history["losses"][1] < history["losses"][0]
    assert [len(h["losses"]) for h in history.get("pretraining", [])] == (
        [1, 1, 1] if name == "stacked" else []
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_both_engines_learn_the_same(runs, tmp_path, capsys, monkeypatch, name):
    draw_nothing(monkeypatch)
    command = f"{SMALL[name]} --engine autograd --out {tmp_path}"
    status, _, err = run(capsys, command)
    assert (status, err) == (0, "")  # no terminal, no progress bar
    byhand, _ = checkpoint.load(runs / name / "weights.npz")
    autograd, _ = checkpoint.load(tmp_path / "weights.npz")
    assert list(byhand) == list(autograd)
    for key, W in byhand.items():
        # float32, a few steps; each system's tests compare to 1e-12 in float64. Norms
        # are compared, because Adam's first step is as long for a gradient of 1e-9,
        # which is all rounding, as for any other.
        assert np.linalg.norm(autograd[key] - W) < 0.03 * np.linalg.norm(W)


def test_equal_seeds_agree_and_other_seeds_do_not(runs, tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    first, _ = checkpoint.load(runs / "vae" / "weights.npz")
    for seed, same in ((SEED, True), (SEED + 1, False)):
        run(capsys, f"{SMALL['vae']} --seed {seed} --out {tmp_path} --overwrite")
        weights, _ = checkpoint.load(tmp_path / "weights.npz")
        assert all(np.array_equal(first[key], W) for key, W in weights.items()) == same


def test_the_error_of_autoencoders_against_numpy(tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    _, out, _ = run(capsys, f"{SMALL['autoencoder']} --out {tmp_path}")
    weights, facts = checkpoint.load(tmp_path / "weights.npz")
    assert facts["model"]["sizes"] == [784, 32, 4]
    x = held_out().x
    x_hat = sigmoid(dense(weights, "decoder", dense(weights, "encoder", x, relu), relu))
    error = np.sum((x_hat - x) ** 2) / len(x)
    train = draw_digits(300, backend.streams(SEED, 1)[0]).x
    mean = train.mean(axis=0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:4]
    far = (x - mean) - (x - mean) @ axes.T @ axes
    pca = np.sum(far**2) / len(x)
    line = out.splitlines()[-1]
    assert line.startswith("squared error per held-out image, 4 numbers each: auto")
    np.testing.assert_allclose(numbers(line), [error, pca, error / pca], atol=0.006)


def test_the_bound_of_a_vae_against_numpy(runs, capsys, tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    _, out, _ = run(capsys, f"{SMALL['vae']} --out {tmp_path}")
    weights, _ = checkpoint.load(tmp_path / "weights.npz")
    both = dense(weights, "encoder", held_out().x[:100], relu)
    mu, log_var = both[:, :2], both[:, 2:]
    kl = np.sum(mu**2 + np.exp(log_var) - 1 - log_var) / 2 / 100
    elbo, log_p_x_z, printed, log_p_x = numbers(out.splitlines()[-1])
    assert printed == pytest.approx(kl, abs=0.006)
    assert elbo == pytest.approx(log_p_x_z - printed, abs=0.011)
    assert elbo < log_p_x < 0


def test_the_balance_of_a_gan_against_numpy(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "save", lambda figure, path: path)
    drawn = []
    monkeypatch.setattr(
        judge,
        "draw",
        lambda *args, draw=judge.draw: drawn.append(draw(*args)) or drawn[-1],
    )
    _, out, _ = run(capsys, f"{SMALL['gan']} --out {tmp_path}")
    weights, _ = checkpoint.load(tmp_path / "weights.npz")

    def D(x):
        pairs = x.reshape(100, 2 * 784)  # packing 2
        return sigmoid(
            dense(weights, "discriminator", pairs, lambda a: np.maximum(a, a / 5))
        )

    real, fake = D(held_out().x), D(drawn[0])
    v = np.mean(np.log(real)) + np.mean(np.log(1 - fake))
    found = numbers(out.splitlines()[-1])
    expected = [v, -math.log(4), real.mean(), fake.mean()]
    np.testing.assert_allclose(found[:4], expected, atol=6e-4)


def test_the_saved_generator_is_the_average(tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    states = []
    for ema in (0, 0.9, 0.9999):
        run(capsys, f"{SMALL['gan']} --ema {ema} --out {tmp_path} --overwrite")
        states.append(checkpoint.load(tmp_path / "weights.npz")[0])
    last, mixed, first = (state["generator.0.W"] for state in states)
    # The longer the memory, the nearer to the initial weights.
    assert np.abs(mixed - first).max() < np.abs(last - first).max()
    for key in states[0]:
        if key.startswith("discriminator"):
            np.testing.assert_array_equal(states[0][key], states[2][key])


@pytest.mark.parametrize(
    ("options", "corrupted"),
    [
        ("--corruption masking --level 1", lambda x: 0 * x),
        ("--corruption gaussian --level 0", lambda x: x),
        ("--corruption salt-and-pepper --level 0", lambda x: x),
    ],
)
def test_the_level_is_that_of_the_corruption(
    tmp_path, capsys, monkeypatch, options, corrupted
):
    rows = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: path)
    monkeypatch.setattr(plots, "picture_rows", lambda shown, **_: rows.update(shown))
    run(capsys, f"{SMALL['denoising']} {options} --out {tmp_path}")
    assert rows["noisy"].shape[1:] == (28, 28)
    np.testing.assert_array_equal(rows["noisy"], corrupted(rows["original"]))


def test_a_denoiser_is_judged_by_psnr(tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    command = f"{SMALL['denoising']} --corruption masking --level 1 --out {tmp_path}"
    _, out, _ = run(capsys, command)
    x = held_out().x.astype(float)
    black = np.mean(-10 * np.log10(np.mean(x**2, axis=1)))
    weights, _ = checkpoint.load(tmp_path / "weights.npz")
    code = dense(weights, "encoder", np.zeros((1, 784)), relu)
    made = sigmoid(dense(weights, "decoder", code, relu))
    cleaned = np.mean(-10 * np.log10(np.mean((made - x) ** 2, axis=1)))
    found = numbers(out.splitlines()[-1])
    np.testing.assert_allclose(found, [black, cleaned], atol=0.006)


def test_the_deer_comes_out_of_the_fog(tmp_path, capsys):
    command = (
        "train denoising --data deer --hidden --code 32 --epochs 2 --batch-size 40"
    )
    status, out, _ = run(capsys, f"{command} --lr 3e-3 --out {tmp_path}")
    assert status == 0
    assert checkpoint.load(tmp_path / "weights.npz")[1]["model"]["corruption"] == [
        "fog",
        0.25,
    ]
    in_fog, cleaned = numbers(out.splitlines()[-1])
    assert cleaned > in_fog + 3
    status, again, _ = run(capsys, f"reconstruct {tmp_path} --engine autograd")
    assert status == 0
    assert again.splitlines()[-1] == out.splitlines()[-1]  # the same fog
    status, _, _ = run(capsys, f"encode {tmp_path} --out {tmp_path}/codes.npz")
    assert status == 0
    assert np.isfinite(np.load(tmp_path / "codes.npz")["codes"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("autoencoder --data nowhere", "nowhere"),
        ("autoencoder --lr -1", "lr"),
        ("autoencoder --batch-size 301", "--batch-size 301: there are 300 images"),
        ("autoencoder --code 301", "301"),
        ("stacked --code 800", "800"),
        ("autoencoder --loss cross_entropy --output linear", "sigmoid"),
        ("denoising --corruption fog", "depth"),
        ("denoising --corruption masking --level 2", "p is 2.0; a number in [0, 1]"),
        ("denoising --level -1", "sigma"),
        ("vae --beta -1", "beta"),
        ("gan --packing 3", "packing"),
        ("gan --examples 1 --batch-size 1", "at least 2"),
        ("gan --r1 1 --activation tanh", "r1"),
        ("gan --ema 1", "decay"),
        ("gan --hidden 1000000000 1000000000", "allocate"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, options, message):
    system, _, rest = options.partition(" ")
    options = f"{system} {COMMON} {rest}"
    status, _, err = run(capsys, f"train {options} --out {tmp_path}/run")
    assert status == 1
    assert err.startswith("scratchnet: ")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "weights.npz").exists()


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "train rnn",
        "train autoencoder --epochs 0",
        "train autoencoder --code x",
        "train autoencoder --engine gpu",
        "train autoencoder --beta 1",
        "train stacked --pretrain -1",
        "train gan --epochs 3",
        "train gan --objective wasserstein",
        "sample",
    ],
)
def test_invalid_arguments_are_refused(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2


def test_the_command_of_the_readme_gives_the_defaults():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    command = re.search(r"-m scratchnet (train .*)", readme)
    args = vars(parser().parse_args(command[1].split()))
    given = set(args) - set(vars(parser().parse_args(["train", "autoencoder"])))
    assert given == {"data", "code", "epochs", "seed"}
    for name in given:
        assert args[name] == SYSTEMS["autoencoder"].defaults[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_help_names_every_default(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main(["train", name, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option, default in SYSTEMS[name].defaults.items():
        assert f"--{option.replace('_', '-')} " in text
        if isinstance(default, (int, float, str)):
            assert f"(default: {default})" in text


# --- sample, reconstruct, encode ----------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "iwae", "gan"])
def test_samples_are_the_noise_decoded_by_the_weights(
    runs, tmp_path, capsys, monkeypatch, name
):
    shown = []
    monkeypatch.setattr(
        plots, "sheets", lambda sheets, ink: shown.extend(sheets.values())
    )
    monkeypatch.setattr(plots, "save", lambda figure, path: path)
    for engine in ("byhand", "autograd"):
        command = f"sample {runs / name} --n 5 --seed 7 --engine {engine}"
        status, out, _ = run(capsys, f"{command} --out {tmp_path}/x.png")
        assert status == 0
        assert f"{tmp_path}/x.png: 5 samples" in out
    weights, _ = checkpoint.load(runs / name / "weights.npz")
    columns = 2 if name == "vae" else 4
    z = np.random.default_rng(7).standard_normal((5, columns), np.float32)
    net = "generator" if name == "gan" else "decoder"
    f = (lambda a: np.maximum(a, a / 5)) if name == "gan" else relu
    expected = sigmoid(dense(weights, net, z, f))
    for x in shown:
        np.testing.assert_allclose(x.reshape(5, 784), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["autoencoder", "stacked", "denoising", "vae", "iwae"])
def test_codes_are_the_images_encoded_by_the_weights(runs, tmp_path, capsys, name):
    weights, _ = checkpoint.load(runs / name / "weights.npz")
    digits = held_out()
    expected = dense(weights, "encoder", digits.x, relu)
    c = weights["decoder.0.W"].shape[0]
    file = tmp_path / "codes.csv"
    status, out, _ = run(capsys, f"encode {runs / name} --out {file}")
    assert (status, out) == (0, f"{file}: 200 codes of {c} numbers, and the labels\n")
    header, *rows = file.read_text().splitlines()
    assert header.split(",") == ["label", *(f"z{i}" for i in range(c))]
    table = np.array([[float(x) for x in row.split(",")] for row in rows])
    np.testing.assert_array_equal(table[:, 0], digits.label)
    np.testing.assert_allclose(table[:, 1:], expected[:, :c], atol=1e-4)
    archive = tmp_path / "codes.npz"
    path = runs / name / "weights.npz"  # the file works like the folder
    assert run(capsys, f"encode {path} --engine autograd --out {archive}")[0] == 0
    found = np.load(archive)
    np.testing.assert_allclose(found["codes"], table[:, 1:], atol=1e-4)
    np.testing.assert_array_equal(found["label"], digits.label)


def test_reconstructions_are_of_the_run_and_of_others(runs, tmp_path, capsys):
    path = runs / "autoencoder"
    weights, _ = checkpoint.load(path / "weights.npz")
    for options, x in {
        "": held_out().x,
        "--seed 8 --engine autograd": draw_digits(200, backend.streams(8, 2)[1]).x,
    }.items():
        picture = tmp_path / "two.png"
        command = f"reconstruct {path} --n 2 --out {picture} {options}"
        status, out, _ = run(capsys, command)
        assert status == 0
        assert picture.read_bytes().startswith(b"\x89PNG")
        codes = dense(weights, "encoder", x, relu)
        x_hat = sigmoid(dense(weights, "decoder", codes, relu))
        error = np.sum((x_hat - x) ** 2) / len(x)
        assert numbers(out.splitlines()[-1]) == [pytest.approx(error, abs=0.006)]


def test_results_go_to_the_run_by_default(runs, capsys):
    for command, file in {
        "sample": "sample.png",
        "reconstruct": "reconstruct.png",
        "encode": "codes.csv",
    }.items():
        status, out, _ = run(capsys, f"{command} {runs / 'vae'}")
        assert status == 0
        path = runs / "vae" / file
        assert str(path) in out
        path.unlink()


def refused(capsys, command):
    status, out, err = run(capsys, command)
    assert (status, out) == (1, "")
    assert err.startswith("scratchnet: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", ["autoencoder", "stacked", "denoising"])
def test_systems_without_a_distribution_have_no_samples(runs, capsys, name):
    err = refused(capsys, f"sample {runs / name}")
    assert "no distribution of codes" in err
    assert "vae" in err


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_a_gan_has_no_encoder(runs, capsys, command):
    assert "no encoder" in refused(capsys, f"{command} {runs / 'gan'}")


def change(runs, path, drop="", **changed):
    """Write the VAE's weights with other facts."""
    weights, facts = checkpoint.load(runs / "vae" / "weights.npz")
    weights.pop(drop, None)
    checkpoint.save(path, weights, **{**facts, **changed})


def test_a_file_that_is_not_a_run_gives_one_line(runs, tmp_path, capsys):
    path = tmp_path / "weights.npz"
    assert "no such file" in refused(capsys, f"sample {tmp_path}")
    assert "no such file" in refused(capsys, f"sample {tmp_path}/typo.npz")
    path.write_bytes((runs / "vae" / "weights.npz").read_bytes()[:-100])
    assert "not a file of weights" in refused(capsys, f"sample {path}")
    np.savez(path, a=np.zeros(3))
    assert "not a file of weights" in refused(capsys, f"sample {path}")
    checkpoint.save(path, {"a": np.zeros(3)}, epoch=7)
    assert "not written by `train`" in refused(capsys, f"sample {path}")
    change(runs, path, format=checkpoint.FORMAT + 1)
    assert "later" in refused(capsys, f"sample {path}")
    change(runs, path, system="rnn")
    assert "'rnn'" in refused(capsys, f"sample {path}")
    change(runs, path, drop="encoder.0.W")
    assert "missing: encoder.0.W" in refused(capsys, f"sample {path}")


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "gan"},
        {"system": "autoencoder"},
        {"model": None},
        {"model": {}},
        {"model": {"sizes": "abc"}},
        {"model": {"sizes": [784, 32, 3], "activation": "relu"}},
        {"model": {"sizes": [784, 32, 2], "activation": "swish"}},
        {"options": {}},
        {"options": None},
    ],
)
@pytest.mark.parametrize("engine", ["byhand", "autograd"])
def test_facts_that_do_not_fit_are_damage(runs, tmp_path, capsys, changed, engine):
    path = tmp_path / "weights.npz"
    change(runs, path, **changed)
    command = "encode" if changed == {"system": "autoencoder"} else "sample"
    err = refused(capsys, f"{command} {path} --engine {engine}")
    assert f"{path}: damaged (" in err


def test_impossible_uses_of_a_run_are_refused(runs, tmp_path, capsys):
    vae = runs / "vae"
    assert "48 x 48; 28 x 28 expected" in refused(capsys, f"encode {vae} --data deer")
    assert "nowhere" in refused(capsys, f"encode {vae} --data nowhere")
    assert ".csv" in refused(capsys, f"encode {vae} --out {tmp_path}/codes.txt")
    assert "docx" in refused(capsys, f"sample {vae} --out {tmp_path}/x.docx")
    assert "no/x.png" in refused(capsys, f"sample {vae} --out {tmp_path}/no/x.png")


# --- The module ---------------------------------------------------------------------


def test_the_module_runs_and_says_its_version():
    command = [sys.executable, "-W", "error", "-m", "scratchnet", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


@pytest.mark.data
def test_real_mnist_from_a_folder(tmp_path, capsys, real_mnist):
    options = f"--data {real_mnist} --examples 5000 --epochs 20 --out {tmp_path}/ae"
    status, out, _ = run(capsys, f"{SMALL['autoencoder']} {options}")
    assert status == 0
    assert float(out.split()[-1]) < 0.9  # compared with the error of PCA
