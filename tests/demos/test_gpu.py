"""The GPU's benchmark on the stand-in: it runs, and reports its times."""

import json

import numpy as np
import pytest

from demos import _gpu, _rivals, _systems, speed
from demos._demo import Demo
from scratchnet import backend
from tests.backend import compiled, device


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return the initial weights and the samples of a system."""
    monkeypatch.setattr(backend, "use", lambda name: None)

    def made(system):
        speed.prepare(tmp_path, system, rows=8, steps=3)
        with np.load(tmp_path / f"{system}.npz") as file:
            return dict(file)

    return made


@compiled.needs_compiler
@pytest.mark.parametrize("system", _systems.SYSTEMS)
def test_the_nodes_of_a_captured_step(weights, system):
    """Count them; the predictions use the same numbers."""
    start = weights(system)
    x = start.pop("x")
    del start["noise"]
    with device.use(kernels=True):
        made = _rivals.on_gpu(system, 8, start, library="cupy", captured=True)
        turn = made.turn(backend.asarray(x))
        turn()
        turn()
    assert len(turn.tape) == _gpu.NODES[system]


@pytest.mark.parametrize("system", _systems.SYSTEMS)
def test_a_captured_step_is_the_step_by_hand(weights, system):
    """Compare losses with given noise, then with its own."""
    start = weights(system)
    x, noises = start.pop("x"), start.pop("noise")
    losses = []
    for place in (device.the_host_alike, device.use):
        with place():
            made = _rivals.on_gpu(system, 8, start, library="cupy", captured=True)
            native = made.array(x)
            found = [made.step(native, *map(made.array, noise)) for noise in noises]
            turn = made.turn(native)
            for _ in range(4):
                turn()
            found += [made.step(native, *map(made.array, noises[0]))]
            losses.append([[made.value(loss) for loss in step] for step in found])
            assert made.seconds(turn) > 0
    assert losses[0] == losses[1]


def test_torch_takes_the_same_steps_on_a_given_device(weights):
    pytest.importorskip("torch")
    start = weights("VAE")
    x, noises = start.pop("x"), start.pop("noise")
    expected = _rivals.by_hand("VAE", 8, start)
    for name, rival in _rivals.RIVALS_GPU.items():
        if not name.endswith(_rivals.TORCH_GPU):
            continue
        options = rival.make.keywords | {"device": "cpu"}
        made = rival.make.func("VAE", 8, start, **options)
        for noise in noises[:1]:
            (loss,) = made.step(made.array(x), *map(made.array, noise))
            (right,) = expected.step(x, *noise)
            np.testing.assert_allclose(made.value(loss), right, rtol=1e-5)
        break


def test_the_work_of_a_step_is_its_products(weights, monkeypatch):
    for system in _systems.SYSTEMS:
        done = []
        real = np.matmul
        start = weights(system)
        noise = start.pop("noise")[0]
        x = start.pop("x")
        made = _rivals.by_hand(system, 8, start)

        def counting(a, b, out, done=done, real=real):
            if len(a) > 1:  # not a row of ones, which sums a gradient over samples
                done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
            return real(a, b, out=out)

        with monkeypatch.context() as patch:
            patch.setattr(np, "matmul", counting)
            made.step(x, *noise)
        assert _gpu.products(system, 8) == sum(done)


def made_up():
    """Make up times: every rival is slower than the captured step."""
    times = {}
    for name in _rivals.RIVALS_GPU:
        rival = name.partition(": ")[2]
        slower = {_rivals.CAPTURED: 1.0, _rivals.TORCH_GRAPH: 1.3}.get(rival, 5.0)
        if rival != _rivals.COMPILED_GRAPH:
            cells = {(s, n): [slower] for s in _systems.SYSTEMS for n in _gpu.BATCHES}
            times[name] = cells
    return times


def test_the_report(tmp_path, monkeypatch, capsys):
    def measure(rivals, *rest, **more):
        results = speed.Results()
        results.ms = {name: ms for name, ms in made_up().items() if name in rivals}
        return results, dict.fromkeys(rivals, 0.0) | {rivals[-1]: 0.5}

    monkeypatch.setattr(speed, "measure", measure)
    ceilings = _gpu.ceilings
    monkeypatch.setattr(_gpu, "ceilings", lambda *sizes: ceilings(1000, 8, 2))
    monkeypatch.setitem(_systems.SIZES, "deep autoencoder", (784, 10, 8, 6))
    demo = Demo("speed", True, tmp_path)
    monkeypatch.setattr(backend, "use", lambda name: None)
    with device.use():
        speed.run(demo)
    assert demo.failed == [f"first losses, TF32: {_rivals.TORCH_GRAPH}, apart from the "
                           "first rival's"]  # fmt: skip
    out = capsys.readouterr().out
    assert (
        "float32, minibatch 128: torch, eager / captured at least 4.0: 5.00, met"
        in (out)
    )
    assert "minibatch 128: torch, graph / captured at least 1.2: 1.30, met" in out
    assert "torch, compiled and graph / captured at least 1.0: not measured" in out
    assert "of the products' rate: " in out
    content = json.loads((tmp_path / "speed-gpu.json").read_text())
    assert content["ms"][f"TF32: {_rivals.TORCH_GPU}"]["GAN"]["16384"] == 5.0
    assert set(content["ceilings"]) < set(_gpu.PREDICTED)


def test_predictions_grow_with_the_batch_and_the_calls():
    for system in _systems.SYSTEMS:

        def expected(rival, n, system=system, precision="float32"):
            return _gpu.predicted(rival, precision, system, n)

        small, large = (expected(_rivals.CAPTURED, n) for n in (128, 16384))
        assert 0.05 < small < large
        assert expected(_rivals.EAGER_GPU, 128) > small
        assert expected(_rivals.TORCH_GPU, 128) > 2 * small
        assert expected(_rivals.CAPTURED, 16384, precision="TF32") < large
