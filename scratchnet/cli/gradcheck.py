"""`gradcheck`: check a gradient in CI without pytest.

    python -m scratchnet gradcheck package.module:function

The function takes no arguments and returns what to check: `(f, inputs)`, or a dict of
arguments of `scratchnet.testing.gradcheck`.
"""

import argparse
import importlib
import os
import sys
import traceback
from typing import Any

from scratchnet import testing


class TargetError(Exception):
    """The command line does not name a function that returns what to check."""


def gradcheck(args: argparse.Namespace) -> int:
    """Check each target and print its report.

    Returns:
        0 if all gradients are right, 1 if one is not, 2 if one could not be checked.

    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return max(_status(target, args) for target in args.targets)


def _status(target: str, args: argparse.Namespace) -> int:
    """Check one target and print its report; return its exit status."""
    options = {
        "order": args.order, "rng": args.seed, "dtype": args.dtype,
        "seconds": args.seconds, "raise_exception": False,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    try:
        report = testing.gradcheck(**(_arguments(target) | given))
    except TargetError as error:
        print(f"scratchnet: {target}: {error}", file=sys.stderr)
        return 2
    except (Exception, SystemExit) as error:  # sys.exit(0) would look like a pass
        if str(error).startswith("gradcheck: "):  # a wrong argument, not an error of f
            print(f"scratchnet: {target}: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 2
    print(report if len(args.targets) == 1 else f"{target}: {report}", flush=True)
    return 0 if report else 1


def _arguments(target: str) -> dict[str, Any]:
    """Call the function that the target names; return the arguments of a check."""
    module_name, colon, name = target.partition(":")
    if not all([*module_name.split("."), colon, name]):
        raise TargetError("use package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the user's module imports
        raise TargetError(
            f"there is no module {error.name}, neither in the current folder nor "
            "installed"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise TargetError(f"{module_name} has no function {name}")
    returned = function()
    if isinstance(returned, dict):
        if {"f", "inputs"} <= returned.keys():
            return returned
    elif isinstance(returned, tuple) and len(returned) == 2:
        f, inputs = returned
        if not callable(inputs):  # (f, gradient) is half of what is needed
            return {"f": f, "inputs": inputs}
    raise TargetError(
        f"{name}() must return (f, inputs), or a dict with f, inputs and other "
        "arguments of gradcheck"
    )
