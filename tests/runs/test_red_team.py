"""Random attempts to lose, mix or hang runs, each followed by checks.

For any damage to the folder of a run, and any command after it: files of other people
do not change; a failed command changes nothing and says why; a resumed run ends with
the bits of an uninterrupted one; nothing hangs.
"""

import io
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest

from scratchnet.cli import judge
from scratchnet.cli.main import main
from scratchnet.training import checkpoint
from tests.commands import files

SMALL = "--data data --hidden 3 --batch-size 4 --seed 3 --save-every 0"
BASES = {
    "vae": f"train vae {SMALL} --code 2 --epochs 2",
    "stacked": f"train stacked {SMALL} --code 2 --pretrain 1 --epochs 2",
    "gan": f"train gan {SMALL} --noise 2 --steps 5 --activation relu",
}
OTHERS = [
    "--seed 4",
    "--lr 1e-4",
    "--activation leaky_relu",
    "--hidden 4",
    "--batch-size 3",
]
LIMIT = 20  # seconds for one command


@pytest.fixture
def bases(run, stopped, here, monkeypatch):
    """Make runs of each system: whole, interrupted, and with other options."""
    monkeypatch.setattr(judge, "LIKELIHOOD_IMAGES", 4)
    for system, command in BASES.items():
        assert run(f"{command} --out whole/{system}")[0] == 0
        stopped(f"{command} --out begun/{system}", 4)
        for i, other in enumerate(OTHERS):
            stopped(f"{command} {other} --out other{i}/{system}", 4)
    return {system: outcome(f"whole/{system}", system) for system in BASES}


def outcome(folder, system):
    """Return the weights of a run and the length of its history."""
    weights, _ = checkpoint.load(Path(folder) / "weights.npz")
    history = json.loads((Path(folder) / "history.json").read_text("utf-8"))
    curve = history["steps" if system == "gan" else "losses"]
    return {k: a.tobytes() for k, a in weights.items()}, len(curve)


def damage(folder, system, source):
    """Damage one file of a run; return a description."""
    there = sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink())
    path = source.choice(there)
    kind = source.choice(
        ["cut", "flip", "text", "empty", "gone", "pipe", "device", "folder", "loop",
         "swap", "copy", "copy", "number", "number", "number"]
    )  # fmt: skip
    if kind == "copy":
        other = Path(f"other{source.randrange(len(OTHERS))}", system, "checkpoints")
        name = source.choice(["00000000", "00000005", "99999999"])
        (folder / "checkpoints").mkdir(exist_ok=True)
        shutil.copy(source.choice(sorted(other.glob("*.npz"))),
                    folder / "checkpoints" / f"{name}.npz")  # fmt: skip
        return kind
    content = path.read_bytes() if path.is_file() else b""
    if kind == "number" and path.suffix == ".json" and content:
        damage_json(path, source)
        return f"{kind} {path}"
    path.unlink()
    if kind == "cut":
        path.write_bytes(content[: source.randrange(len(content) + 1)])
    elif kind == "flip" and content:
        i = source.randrange(len(content))
        path.write_bytes(content[:i] + bytes([content[i] ^ 1 << source.randrange(8)])
                         + content[i + 1 :])  # fmt: skip
    elif kind == "text":
        path.write_bytes(source.choice([b"[" * 100_000, b"\xff\xfe", b"{}", b"1"]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "swap":
        other = Path(f"other{source.randrange(len(OTHERS))}", system)
        name = path.relative_to(folder)
        if (other / name).is_file():
            shutil.copy(other / name, path)
    elif kind != "gone":
        path.write_bytes(content)
    return f"{kind} {path}"


def damage_json(path, source):
    """Replace one value in a JSON file."""
    content = json.loads(path.read_bytes())
    place = content
    while True:
        key = source.choice(sorted(place) if isinstance(place, dict) else [0])
        deeper = isinstance(place[key], dict | list) and place[key]
        if not deeper or source.random() < 0.3:
            break
        place = place[key]
    place[key] = source.choice(
        [0, -1, 10**400, 1.5, float("nan"), None, True, "", "x", [], [[]], {}, 2]
    )
    path.write_text(json.dumps(content), "utf-8")


def command_for(system, source):
    """Return a command to try on the run in p."""
    length = "steps" if system == "gan" else "epochs"
    resume = f"train {system} --resume p"
    again = f"{BASES[system]} --out p"
    return source.choice(
        [*[resume] * 4, f"{resume} --{length} {source.randrange(1, 9)}",
         f"{resume} {source.choice(OTHERS)}", again, f"{again} {source.choice(OTHERS)}",
         f"{again} --overwrite", f"{again} --overwrite {source.choice(OTHERS)}",
         f"{again} --overwrite --lr nan", "sample p", "encode p", "reconstruct p",
         f"encode p --data {source.choice(['data', 'nowhere', 'p'])}",
         f"sample p --out {source.choice(['x.png', 'p/run.json', 'no/x.png'])}"]
    )  # fmt: skip


def late(number, frame):
    raise RuntimeError("it hangs")


def attempt(i, whole):
    """Make one attempt; return the fault in its result, or None."""
    source = random.Random(i)
    system = source.choice(sorted(BASES))
    folder = Path("p")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source.choice(["begun", "whole", "begun"]) + f"/{system}", folder)
    done = [damage(folder, system, source) for _ in range(source.randrange(3))]
    mine = {
        "checkpoints/best.pt": b"1",
        "mine.npz": b"2",
        "checkpoints/00000077.npz": b"3",
    }
    for name, content in mine.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    readable = [p for p in folder.glob("checkpoints/*.npz") if loads(p)]
    command = command_for(system, source)
    before = files(folder)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    error = sys.stderr = io.StringIO()
    try:
        status = main(command.split())
    except SystemExit as stop:
        status = stop.code
    except Exception as surprise:
        return f"{done} {command}: {surprise!r}"
    finally:
        signal.alarm(0)
        sys.stderr = sys.__stderr__
    said = f"{done} {command}: {status} {error.getvalue()[:300]}"
    after = files(folder)
    if any(after.get(k) != v for k, v in mine.items()):
        return f"another's file was changed by {said}"
    kept = {k for k in before if after.get(k) != before[k]}
    if status and kept and "--overwrite" not in command:
        return f"{kept} changed, though it failed: {said}"
    if status and not error.getvalue().strip():
        return f"not a word: {said}"
    resumed = status == 0 and command == f"train {system} --resume p"
    if resumed and readable:
        found = outcome(folder, system)
        if found != whole[system] and found[1] == whole[system][1]:
            return f"other weights: {said}"
    return None


def loads(path):
    try:
        return path.is_file() and bool(checkpoint.load(path))
    except (ValueError, OSError):
        return False


def attack(first, n, whole):
    found = [answer for i in range(first, first + n) if (answer := attempt(i, whole))]
    assert not found, "\n".join(found)


@pytest.mark.filterwarnings("ignore")
def test_a_few_attempts(bases):
    attack(0, 10, bases)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_400_attempts(bases):
    attack(1000, 400, bases)
