"""The command line: python -m scratchnet train autoencoder, ... gradcheck."""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import (
    __version__,
    backend,
    byhand,
    checkpoint,
    kernels,
    models,
    optim,
    plots,
)
from scratchnet.cases import CASES, Draw
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import download_mnist, load_mnist
from scratchnet.metrics import PCA, reconstruction_error
from scratchnet.tensor import TABLE, Constant, Function, name_of
from scratchnet.testing import GradientReport, gradcheck
from scratchnet.training import History, fit

CALLS = 5  # how often each way to call a function is drawn by gradcheck
HELD_OUT = 2000  # how many drawn digits are kept for the final figures


class Data(NamedTuple):
    """What to train on, and what to judge by."""

    train: np.ndarray  # (n, d) float32 in [0, 1]
    held_out: np.ndarray  # (m, d)
    label: np.ndarray  # (m,) the digits that the held-out images show


def load_data(where: str, examples: int | None, rngs: Sequence[Any]) -> Data:
    """Draw digits ("drawn"), or read MNIST ("mnist" downloads it) from a folder."""
    if where == "drawn":
        train = draw_digits(20_000 if examples is None else examples, rngs[0])
        held_out = draw_digits(HELD_OUT, rngs[1])
        return Data(train.x, held_out.x, held_out.label)
    folder = download_mnist() if where == "mnist" else Path(where)
    mnist = load_mnist(folder, "train")
    test = load_mnist(folder, "test")
    if examples is not None and examples > len(mnist.x):
        raise ValueError(f"--examples {examples}: {folder} has {len(mnist.x)}")
    return Data(mnist.x[:examples], test.x, test.label)


def train_autoencoder(args: argparse.Namespace) -> None:
    """Train an autoencoder, compare it with PCA, and write weights and pictures."""
    *data_rngs, init_rng, shuffle_rng = backend.streams(args.seed, 4)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    data = load_data(args.data, args.examples, data_rngs)
    sizes = (data.train.shape[1], *args.hidden, args.code)
    pca = PCA(args.code).fit(data.train)

    model: Any
    optimizer = None
    if args.engine == "byhand":
        model = byhand.Autoencoder(
            sizes,
            rng=init_rng,
            batch_size=args.batch_size,
            optimizer=lambda arrays: kernels.AdamUpdate(arrays, lr=args.lr),
        )
    else:
        model = models.Autoencoder(sizes, rng=init_rng)
        optimizer = optim.Adam(model.parameters(), lr=args.lr)
    history = fit(
        model,
        data.train,
        epochs=args.epochs,
        batch_size=args.batch_size,
        rng=shuffle_rng,
        optimizer=optimizer,
        validation=data.held_out,
    )
    about = {"system": "autoencoder", "sizes": sizes, "seed": args.seed}
    checkpoint.save(out / "weights.npz", model.state_dict(), **about)
    (out / "history.json").write_text(json.dumps(asdict(history), indent=1) + "\n")

    error = reconstruction_error(data.held_out, model.reconstruct(data.held_out))
    pca_error = reconstruction_error(data.held_out, pca.reconstruct(data.held_out))
    figures = draw_autoencoder(data, model, pca, pca_error, history)
    for name, figure in figures.items():
        plots.save(figure, out / name)
    print(f"pictures in {out}:", ", ".join(figures))
    print(
        f"squared error per held-out image, {args.code} numbers each: "
        f"autoencoder {error:.2f}, PCA {pca_error:.2f}, ratio {error / pca_error:.2f}"
    )


def draw_autoencoder(
    data: Data, model: Any, pca: PCA, pca_error: float, history: History
) -> dict[str, Any]:
    """Draw what a trained autoencoder does; return the figures by file name."""
    shown = [int(np.argmax(data.label == digit)) for digit in np.unique(data.label)]
    x = data.held_out[shown]
    rows = {
        "original": x,
        "autoencoder": model.reconstruct(x),
        "PCA": pca.reconstruct(x),
    }
    figures = {
        "reconstructions.png": plots.picture_rows(rows),
        "loss.png": plots.loss_curve(
            history.losses,
            history.validation_losses,
            {f"PCA, {pca.k} numbers": pca_error},
        ),
    }
    codes = model.encode(data.held_out)
    if pca.k >= 2:
        planes = {
            "the autoencoder's codes": PCA(2).fit(codes).encode(codes)[:1000],
            "the pixels": pca.encode(data.held_out[:1000])[:, :2],
        }
        figures["codes.png"] = plots.planes(
            planes, data.label[:1000], "first principal component", "second"
        )
    return figures


def check_table(args: argparse.Namespace) -> int:
    """Check every row of the table of derivatives, and print a verdict for each.

    Each row is called in each of the ways that cases.py knows, and its first and
    second derivatives are compared with differences of NumPy's values.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    verdicts = Counter[str]()
    for function in tqdm(sorted(TABLE, key=name_of), disable=None, leave=False):
        verdict, report = check_row(function, args.seed)
        verdicts[verdict.split()[0].strip(":")] += 1
        tqdm.write(f"{name_of(function):28} {verdict}", file=sys.stdout)
        if report is not None and not report.ok:
            tqdm.write(str(report), file=sys.stdout)
    print(f"{len(TABLE)} rows:", ", ".join(f"{n} {v}" for v, n in verdicts.items()))
    return 0 if set(verdicts) <= {"pass", "constant"} else 1


def check_row(function: Function, seed: int) -> tuple[str, GradientReport | None]:
    """Check one row of the table; return what to print of it, and the last report."""
    if isinstance(TABLE[function], Constant):
        return "constant", None
    report = None
    calls, entries = 0, 0
    for way in CASES.get(function, []):
        for attempt in range(CALLS):
            draw = Draw(random.Random(f"{name_of(function)} {seed} {attempt}"))
            call, inputs = way(draw, function)
            if not all(np.size(x) and np.all(np.isfinite(x)) for x in inputs):
                continue  # an empty input has nothing to check, NaN no derivative
            found = gradcheck(call_of_all(call), inputs, order=2, rng=seed)
            if found.verdict == "vacuous":
                continue  # an input fell out of this call
            report = found
            calls += 1
            entries += sum(np.size(x) for x in inputs)
            if not report.ok:
                return report.verdict, report
    if report is None:
        return "not checked: cases.py has no call for it", None
    return f"pass  {calls} calls, {entries} entries", report


def call_of_all(call: Function) -> Function:
    """Join the results of `call`, of which some functions have several, into one."""

    def joined(*inputs: Any) -> Any:
        result = call(*inputs)
        if isinstance(result, (list, tuple)):
            return np.concatenate([np.ravel(y) for y in result])
        return result

    return joined


def positive(text: str) -> int:
    """Read a positive whole number."""
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError(f"{n} is not positive")
    return n


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m scratchnet",
        description="Deep learning from scratch in NumPy.",
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a system and draw what it learned")
    systems = train.add_subparsers(dest="system", required=True)
    ae = systems.add_parser(
        "autoencoder",
        help="squeeze images through a short code, beside PCA",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    ae.set_defaults(run=train_autoencoder)
    ae.add_argument(
        "--data",
        default="drawn",
        help="'drawn', a folder of MNIST's files, or 'mnist' to download them",
    )
    ae.add_argument("--examples", type=positive, help="how many images to train on")
    ae.add_argument("--code", type=positive, default=16, help="numbers in the code")
    ae.add_argument(
        "--hidden",
        type=positive,
        nargs="*",
        default=[256],
        help="widths of the encoder's hidden layers; the decoder mirrors them",
    )
    ae.add_argument("--epochs", type=positive, default=20)
    ae.add_argument("--batch-size", type=positive, default=128)
    ae.add_argument("--lr", type=float, default=2e-3, help="Adam's learning rate")
    ae.add_argument("--seed", type=int, default=0)
    ae.add_argument(
        "--engine",
        choices=["byhand", "autograd"],
        default="byhand",
        help="the gradient derived on paper, or by the engine",
    )
    ae.add_argument("--out", default="runs/autoencoder", help="folder for the results")

    check = commands.add_parser(
        "gradcheck", help="check the whole table of derivatives"
    )
    check.set_defaults(run=check_table)
    check.add_argument("--seed", type=int, default=0)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"scratchnet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scratchnet: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
