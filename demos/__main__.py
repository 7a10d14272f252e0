"""Run the demos, all or those that are named: python -m demos --quick compression."""

import importlib
import sys
from collections.abc import Sequence

from demos._demo import add_seeds, options, run_module, use_backend, use_few_threads
from scratchnet.cli.console import from_console

# In the order of demos/README.md.
NAMES = (
    "chain_rule",
    "compression",
    "visualisation",
    "curse",
    "features",
    "manifold",
    "stacked",
    "denoising",
    "vae",
    "gan",
    "gan_digits",
    "twins",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run them; return 1 if something that one of them claims does not hold."""
    parser = options("One demo for each claim of the lecture.")
    add_seeds(parser)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    args = parser.parse_args(argv)
    use_backend(parser, args.backend)
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no demo {', '.join(sorted(unknown))}; there are {NAMES}")
    use_few_threads()
    wrong = []
    for name in args.names or NAMES:
        module = importlib.import_module(f"demos.{name}")
        if not run_module(module, args):
            wrong.append(name)
    if wrong:
        print("these demos have claims that fail:", ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(from_console(main))
