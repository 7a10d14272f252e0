"""The moments of a training: what is kept, when, and that nothing else changes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scratchnet import byhand, models, optim
from scratchnet.runs import moments
from scratchnet.runs.identity import RunError
from scratchnet.runs.images import Images, load_images
from scratchnet.runs.job import Job
from scratchnet.runs.model import facts_of
from scratchnet.runs.moments import Moments, schedule
from scratchnet.runs.streams import Streams
from scratchnet.runs.systems import SYSTEMS
from scratchnet.runs.trained import load
from scratchnet.training import checkpoint
from scratchnet.training.history import History

COMMON = "--data data --batch-size 4 --seed 3 --save-every 0"
RUNS = {
    "autoencoder": "train autoencoder --hidden 5 --code 3 --epochs 3",
    "stacked": "train stacked --hidden 5 3 --code 2 --pretrain 2 --epochs 3",
    "denoising": "train denoising --hidden 5 --code 3 --epochs 3",
    "vae": "train vae --hidden 5 --code 2 --epochs 3",
    "iwae": "train iwae --hidden 5 --code 2 --k 2 --epochs 3",
    "gan": "train gan --noise 3 --hidden 5 --steps 9 --ema 0.5 --packing 2",
}
OLD = Path(__file__).parent / "old_runs"
ENGINES = ("byhand", "autograd")
BOTH = [(name, engine) for name in RUNS for engine in ENGINES]


def arrays_in(folder, name="weights.npz"):
    return checkpoint.load(Path(folder) / name)[0]


def same(one, two):
    assert one.keys() == two.keys()
    for name, a in one.items():
        np.testing.assert_array_equal(a, two[name], err_msg=name)


# --- When ---------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2, 3, 25])
@pytest.mark.parametrize("total", [1, 2, 3, 20, 24, 25, 50, 1000])
def test_moments_are_denser_at_the_start(total, most):
    found = schedule(total, most)
    assert (found[0], found[-1]) == (0, total)
    assert len(found) == min(most, total + 1)
    gaps = np.diff(found)
    assert gaps.min() > 0
    if total > most:
        assert gaps[: len(gaps) // 2].max(initial=0) <= gaps[-1]


def test_moments_of_a_default_training():
    for system in SYSTEMS.values():
        total = system.defaults[system.length]
        every = max(1, total // 200) if system.length == "steps" else 1
        found = schedule(total, every=every)
        assert 20 <= len(found) <= 30
        assert all(step % every == 0 for step in found)
    assert schedule(8, every=3) == [0, 3, 6, 8]


def test_large_images_have_fewer_pictures_and_moments():
    def kept(rows, columns, epochs):
        x = np.zeros((20, rows * columns), np.float32)
        images = Images(x, (rows, columns), None)
        model = byhand.VAE((rows * columns, 2), rng=np.random.default_rng(0))
        one = Moments(images, np.random.default_rng(0))
        one.watch(model, epochs, batch_size=4)
        history = History()
        for _ in range(epochs):
            history.losses.append(0.0)
            one(history)
        return one.kept

    for size, n, m in (((28, 28), 16, 25), ((48, 48), 16, 25), ((96, 96), 4, 25),
                       ((250, 250), 1, 15)):  # fmt: skip
        found = kept(*size, 40)
        assert found.pictures["samples"].shape == (m, n, *size)
        assert sum(a.nbytes for a in found.pictures.values()) < 2e6


# --- What ---------------------------------------------------------------------------


def inputs(name, model):
    """Return the shown images, the input of the model and z, as a run draws them."""
    streams = Streams.of(3)
    images = load_images("data", None, streams.held_out, held_out=True)
    rng = streams.moments
    shown = images.x[images.mixed(16)]
    if name == "denoising":
        return shown, model.corruption.corrupt(shown, rng), None
    columns = 3 if name == "gan" else 2
    n = 64 if name == "gan" else len(shown)
    return shown, shown, rng.standard_normal((n, columns), np.float32)


def untrained(name, engine):
    options = json.loads(Path("p/run.json").read_text("utf-8"))["options"]
    images = load_images("data", None, Streams.of(3).train, held_out=False)
    facts = facts_of(name, options, images.x.shape[1])
    return Job(name, options, facts, images, images, Streams.of(3), None, None).build()


def as_shown(x):
    return np.rint(255 * np.clip(x, 0, 1)).reshape(-1, 4, 4)


@pytest.mark.parametrize(("name", "engine"), BOTH)
def test_moments_show_the_untrained_and_the_finished_model(run, name, engine):
    assert run(f"{RUNS[name]} {COMMON} --engine {engine} --out p")[0] == 0
    found = moments.read("p")
    assert found.steps.tolist() == [*range(10 if name == "gan" else 4)]
    kinds = {"vae": 2, "iwae": 2}.get(name, 1)
    assert len(found.pictures) == kinds
    for a in found.pictures.values():
        assert a.dtype == np.uint8
        assert a.shape == (len(found.steps), 8, 4, 4)
    for i, model in ((0, untrained(name, engine)), (-1, load("p", engine))):
        shown, x, z = inputs(name, model)
        np.testing.assert_array_equal(found.references["original"], as_shown(shown))
        made = {}
        if name == "denoising":
            np.testing.assert_array_equal(found.references["corrupted"], as_shown(x))
        if name != "gan":
            made["reconstructions"] = model.reconstruct(x)
        if name in ("vae", "iwae"):
            made["samples"] = model.decode(z)
        if name == "gan":
            made["samples"] = model.generate(z)[:8]
        assert made.keys() == found.pictures.keys()
        for kind, expected in made.items():
            difference = found.pictures[kind][i] - as_shown(expected)
            assert abs(difference).max() <= 1  # another batch size may round otherwise
    moved = [len(np.unique(a, axis=0)) > 1 for a in found.pictures.values()]
    assert all(moved)


@pytest.mark.parametrize("objective", ["saturating", "non_saturating", "relativistic"])
def test_numbers_about_a_gan_are_those_of_both_twins_and_of_the_formulas(objective):
    rng = np.random.default_rng(0)
    sizes = (3, 5, 16), (32, 5, 1)
    options = {"objective": objective, "packing": 2, "dtype": np.float64}
    hand = byhand.GAN(*sizes, rng=rng, batch_size=12, **options)
    engine = models.GAN(*sizes, rng=rng, **options)
    engine.load_state_dict(hand.state_dict())
    real, z = rng.random((8, 16)), rng.standard_normal((8, 3))
    marks = [object() for _ in engine.generator.parameters()]
    for p, mark in zip(engine.generator.parameters(), marks, strict=True):
        p.grad = mark
    samples = hand.generate(z)
    one, two = (moments.numbers_of(g, real, z, samples, 12) for g in (hand, engine))
    assert (hand.objective, engine.objective) == (objective, objective)
    assert [p.grad for p in engine.generator.parameters()] == marks
    assert one == pytest.approx(two, rel=1e-12)
    assert one["real"] == pytest.approx(hand.discriminate(real).mean(), rel=1e-12)
    assert one["generated"] == pytest.approx(
        hand.discriminate(samples).mean(), rel=1e-12
    )
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(samples) for b in samples[:i]]
    assert one["distance"] == pytest.approx(np.mean(pairs), rel=1e-12)
    # Against differences of the losses, along each weight.
    for loss, value in (
        ("saturating", lambda d: np.log(1 - d)),
        ("non_saturating", lambda d: -np.log(d)),
    ):
        squares = 0.0
        for i in range(hand.theta_g.size):
            values = []
            for step in (1e-5, -2e-5):
                hand.theta_g[i] += step
                values.append(value(hand.discriminate(hand.generate(z))).mean())
            hand.theta_g[i] += 1e-5
            squares += ((values[0] - values[1]) / 2e-5) ** 2
        assert one[f"gradient_{loss}"] == pytest.approx(np.sqrt(squares), rel=1e-6)


def test_samples_are_drawn_by_the_averaged_weights_which_are_swapped_back():
    rng = np.random.default_rng(0)
    gan = byhand.GAN((3, 5, 16), (16, 5, 1), rng=rng, batch_size=8)
    average = optim.AverageUpdate([gan.theta_g], 0.9)
    gan.theta_g += 1
    weights = gan.state_dict()
    images = Images(rng.random((20, 16), np.float32), (4, 4), None)
    one = Moments(images, np.random.default_rng(1))
    one.watch(gan, 9, batch_size=8, average=average)
    same(gan.state_dict(), weights)
    z = np.random.default_rng(1).standard_normal((64, 3), np.float32)
    assert one.kept.numbers["generated"] == pytest.approx(
        gan.discriminate(gan.generate(z)).mean(), rel=1e-6
    )
    with average.average():
        samples = gan.generate(z)
    np.testing.assert_array_equal(
        one.kept.pictures["samples"][0], as_shown(samples[:16])
    )
    assert one.kept.numbers["distance"] == moments.spread(samples)


def test_the_distance_of_one_row_is_zero():
    assert moments.spread(np.ones((1, 3))) == 0


# --- Nothing else changes -----------------------------------------------------------


@pytest.mark.parametrize(("name", "engine"), BOTH)
def test_weights_and_history_are_those_without_moments(run, monkeypatch, name, engine):
    command = f"{RUNS[name]} {COMMON} --engine {engine}"
    assert run(f"{command} --out a")[0] == 0
    monkeypatch.setattr(Moments, "watch", lambda self, *args, **options: None)
    monkeypatch.setattr(Moments, "__call__", lambda self, history: None)
    assert run(f"{command} --out b")[0] == 0
    assert moments.read("b") is None
    same(arrays_in("a"), arrays_in("b"))
    (one,), (two,) = (Path(p, "checkpoints").glob("*.npz") for p in "ab")
    with_moments, facts = checkpoint.load(one)
    without, others = checkpoint.load(two)
    kept = {k: a for k, a in with_moments.items() if not k.startswith("moments.")}
    assert len(kept) < len(with_moments)
    same(kept, without)
    assert facts["generators"] == others["generators"]
    for found in (facts, others):
        found["history"].pop("seconds", None)
    assert facts["history"] == others["history"]


def test_the_stream_of_moments_is_the_last_one():
    assert Streams._fields[-1] == "moments"
    before = np.random.SeedSequence(3).spawn(6)
    for rng, seed in zip(Streams.of(3)[:6], before, strict=True):
        assert rng.random() == np.random.default_rng(seed).random()


# --- Resuming -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "engine"), BOTH)
def test_a_resumed_run_has_the_same_file_byte_for_byte(run, stopped, name, engine):
    command = f"{RUNS[name]} {COMMON} --engine {engine}"
    assert run(f"{command} --out whole")[0] == 0
    stopped(f"{command} --out p", 2)
    assert not Path("p/moments.npz").exists()
    stopped(f"train {name} --resume p --save-every 0", 3)
    assert run(f"train {name} --resume p")[0] == 0
    whole, found = (Path(p, "moments.npz").read_bytes() for p in ("whole", "p"))
    assert found == whole


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_an_extended_run_keeps_its_moments(run, stopped, monkeypatch, name):
    monkeypatch.setattr(moments, "MOST", 5)
    # 9, the last step before, is a moment of 27 steps too; it is taken once.
    length, more = ("steps", 27) if name == "gan" else ("epochs", 60)
    assert run(f"{RUNS[name]} {COMMON} --out p")[0] == 0
    before = moments.read("p")
    shutil.copytree("p", "q")
    assert run(f"train {name} --resume p --{length} {more}")[0] == 0
    after = moments.read("p")
    m, last = len(before.steps), before.steps[-1]
    later = [step for step in schedule(more, 5) if step > last]
    assert after.steps.tolist() == [*before.steps, *later]
    for kind, a in before.pictures.items():
        np.testing.assert_array_equal(after.pictures[kind][:m], a)
    stopped(f"train {name} --resume q --{length} {more} --save-every 0", 11)
    assert run(f"train {name} --resume q")[0] == 0
    assert Path("p/moments.npz").read_bytes() == Path("q/moments.npz").read_bytes()


@pytest.mark.filterwarnings("ignore:.*the last bits may differ")
@pytest.mark.parametrize("kind", ["unfinished", "finished"])
def test_a_run_from_before_has_no_moments(run, here, kind):
    shutil.copytree(OLD / "2" / kind, here / "p")
    assert moments.read("p") is None
    status, _, err = run("train vae --resume p --data data --epochs 6")
    assert status == 0, err
    assert moments.read("p") is None


def test_moments_in_a_state_that_are_damaged(run, stopped):
    stopped(f"{RUNS['vae']} {COMMON} --out p", 8)
    path = max(Path("p/checkpoints").glob("*.npz"))
    arrays, facts = checkpoint.load(path)
    cut = {k: a[..., :3] if "samples" in k else a for k, a in arrays.items()}
    checkpoint.save(path, cut, **facts)
    status, _, err = run("train vae --resume p")
    assert (status, "the moments in the state are not from this run" in err) == (
        1,
        True,
    )
    checkpoint.save(path, arrays | {"moments.steps": np.arange(2.0)}, **facts)
    status, _, err = run("train vae --resume p")
    assert (status, "damaged (moments with a wrong name" in err) == (1, True)


# --- Reading ------------------------------------------------------------------------


def test_a_damaged_file_is_named_with_what_to_do(run, here):
    assert run(f"{RUNS['gan']} {COMMON} --out p")[0] == 0
    path = here / "p" / "moments.npz"
    whole = path.read_bytes()
    arrays, facts = checkpoint.load(path)
    damaged = [
        arrays | {"steps": arrays["steps"][::-1]},
        arrays | {"steps": arrays["steps"] + 1},
        arrays | {"numbers.real": arrays["numbers.real"][1:]},
        arrays | {"pictures.samples": arrays["pictures.samples"].astype(float)},
        arrays | {"references.original": arrays["references.original"][0]},
        arrays | {"other": np.zeros(3)},
        {k: a for k, a in arrays.items() if k != "steps"},
    ]
    for content in damaged:
        checkpoint.save(path, content, **facts)
        with pytest.raises(RunError, match=r"moments\.npz: damaged .*; remove moments"):
            moments.read("p")
    path.write_bytes(whole[:1000])
    with pytest.raises(RunError, match=r"moments\.npz: .*; remove moments\.npz"):
        moments.read(here / "p")
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError, match=r"moments\.npz"):
        moments.read("p")
    path.rmdir()
    assert moments.read("p") is None
    assert moments.read("nowhere") is None


def test_the_file_belongs_to_the_run(run, here):
    (here / "p").mkdir()
    (here / "p/moments.npz").write_bytes(b"mine")
    status, _, err = run(f"{RUNS['vae']} {COMMON} --out p")
    assert (status, "moments.npz would be overwritten" in err) == (1, True)
    (here / "p/moments.npz").unlink()
    assert run(f"{RUNS['vae']} {COMMON} --out p")[0] == 0
    assert "moments.npz" in json.loads((here / "p/run.json").read_text())["files"]
    status, _, err = run("sample p --out p/moments.npz")
    assert (status, "this file is part of the run" in err) == (1, True)
