"""Tests the tests: changes the source in small ways, and counts which changes are seen.

    python -m tests.mutation                   # everything, which takes hours
    python -m tests.mutation byhand/vae.py     # one file
    python -m tests.mutation optim.py --lines 120 121

A mutant is the source with one change: + becomes -, < becomes <=, a number grows by
one, a call is removed. It is killed if a test of its file fails (or never ends), and
survives otherwise. Each survivor is printed with its line: it needs a new test, or has
no visible effect.

Each mutant runs in its own process, forked after NumPy and pytest are loaded. Mutants
without a visible effect are listed in EQUIVALENT, with the reason.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "scratchnet"
TIMEOUT = 150  # seconds; killed mutants take far less

# For each file, the tests that should notice a change, most sensitive first.
TESTS = {
    "functions.py": ["functions", "derivatives"],
    "losses.py": ["losses", "misuse", "derivatives", "models/vae"],
    "optim.py": ["optim", "anomaly", "gan"],
    "kernels/activations.py": [
        "activations", "updates", "autoencoder", "gan", "models/vae", "fused",
    ],
    "kernels/buffers.py": ["buffers", "optim", "updates", "averages", "misuse"],
    "kernels/initializers.py": ["initializers", "nn", "misuse"],
    "kernels/schedules.py": ["schedules", "optim"],
    "kernels/updates.py": ["updates", "averages", "optim", "gan", "fused", "misuse"],
    "twins.py": ["models/vae", "stacked", "training"],
    "byhand/mlp.py": ["autoencoder", "models/vae", "gan"],
    "byhand/system.py": ["autoencoder", "models/vae", "gan", "training", "device"],
    "byhand/autoencoder.py": ["autoencoder", "stacked"],
    "byhand/denoising.py": ["stacked", "misuse"],
    "byhand/stacked.py": ["stacked", "training"],
    "byhand/vae.py": ["models/vae"],
    "byhand/iwae.py": ["models/vae"],
    "byhand/gan.py": ["gan"],
    "derivatives.py": ["derivatives", "axes"],
    "compositions.py": ["derivatives", "axes"],
}  # fmt: skip

# Files whose rows are defined again for each mutant; they come last.
TABLES = ("derivatives.py", "compositions.py")

# --- Mutants ------------------------------------------------------------------------

BINARY = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.Pow: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv,
}  # fmt: skip
COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
CALLS = {
    "add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply",
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max",
    "sum": "mean", "mean": "sum", "exp": "expm1", "expm1": "exp", "log": "log1p",
    "log1p": "log", "sqrt": "square", "square": "sqrt", "negative": "positive",
    "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "tanh": "sin",
    "ceil": "floor", "abs": "negative", "sign": "negative", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "cumsum": "cumprod", "triu": "tril", "tril": "triu",
}  # fmt: skip
# The order of their arguments has no effect.
COMMUTATIVE = {
    "add", "multiply", "maximum", "minimum", "logaddexp", "max", "min",
    "broadcast_shapes", "nondifferentiable",
}  # fmt: skip
# Nothing in these affects a result.
SKIPPED = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.arguments)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield (kind of change, new node) for each change of a node."""
    if isinstance(node, ast.BinOp):
        if other := BINARY.get(type(node.op)):
            yield "operator", ast.BinOp(node.left, other(), node.right)
        elif isinstance(node.op, ast.MatMult):
            yield "operands", ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "sign", node.operand
        if is_negative(node):
            yield "number", ast.Constant(1 - node.operand.value)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = COMPARE[type(node.ops[0])]
        yield "comparison", ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield "and/or", ast.BoolOp(other(), node.values)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "flag", ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield "number", ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield "branches", ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.If | ast.While):
        made = copy.copy(node)
        made.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition", made
    elif isinstance(node, ast.Call):
        f = node.func
        if isinstance(f, ast.Attribute) and f.attr in CALLS:
            swapped = ast.Attribute(f.value, CALLS[f.attr], f.ctx)
            yield "function", ast.Call(swapped, node.args, node.keywords)
        called = getattr(f, "attr", getattr(f, "id", ""))
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        same = called in COMMUTATIVE or len(set(map(ast.dump, node.args[:2]))) < 2
        if not starred and not same:
            turned = [node.args[1], node.args[0], *node.args[2:]]
            yield "arguments", ast.Call(f, turned, node.keywords)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "left out", ast.Pass()
    elif isinstance(node, ast.AugAssign) and (other := BINARY.get(type(node.op))):
        yield "operator", ast.AugAssign(node.target, other(), node.value)


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield (parent, field, index in a list or None, node) of each node to change."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for i, node in items:
            if isinstance(node, ast.AST) and not skipped(node):
                yield tree, name, i, node
                if not is_negative(node):  # -1 is one number
                    yield from places(node)


def is_negative(node: ast.AST) -> bool:
    """Return whether a node is a negative number."""
    minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    return minus and isinstance(node.operand, ast.Constant)


def skipped(node: ast.AST) -> bool:
    """Return whether a node is left as it is."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        # Argument validation: test_misuse.py tests every argument.
        f = node.value.func
        checks = isinstance(f, ast.Attribute) and getattr(f.value, "id", "") == "checks"
        return checks or (isinstance(f, ast.Attribute) and f.attr.startswith("_check"))
    strict = isinstance(node, ast.keyword) and node.arg == "strict"
    return strict or isinstance(node, SKIPPED)


def mutants(path: Path) -> Iterator[tuple[int, int, str, ast.Module]]:
    """Yield (line, column, kind of change, changed tree) of all mutants of a file."""
    tree = ast.parse(path.read_text())
    for parent, name, i, node in list(places(tree)):
        for kind, other in changes(node):
            ast.copy_location(other, node)
            ast.fix_missing_locations(other)
            where = getattr(parent, name)
            if i is None:
                setattr(parent, name, other)
            else:
                where[i] = other
            yield node.lineno, node.col_offset + 1, kind, tree
            if i is None:
                setattr(parent, name, node)
            else:
                where[i] = node


# --- One mutant, in its own process -------------------------------------------------


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from the changed source."""

    def __init__(self, name: str, path: Path, code: Any) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self.path))

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self.path)
        exec(self.code, vars(module))


# How many mutants of a file each test has killed; the best tests run first.
KILLERS: dict[Path, Counter[str]] = defaultdict(Counter)


def survives(path: Path, code: Any) -> str:
    """Run the tests with changed source; return killed, timeout or survived."""
    first = [test for test, _ in KILLERS[path].most_common(10)]
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        # All processes share its lock, and a killed one would keep it.
        tqdm.set_lock(threading.RLock())
        altered = None
        if path.name in TABLES:
            altered = altered_rows(path, code)
            if altered is None or any(map(fails_its_check, altered)):
                os._exit(9)
        status, killer = run(path, code, first, altered)
        os.write(writer, killer.encode())
        os._exit(status)
    os.close(writer)
    try:
        began = time.monotonic()
        while time.monotonic() - began < TIMEOUT:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid and os.waitstatus_to_exitcode(status) == 0:
                return "survived"
            if pid:
                if killer := os.read(reader, 1000).decode():
                    KILLERS[path][killer] += 1
                return "killed"
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "timeout"
    finally:
        os.close(reader)


def altered_rows(path: Path, code: Any) -> set[Any] | None:
    """Load the table with one file changed; return the functions whose rows differ.

    Return None if it cannot be loaded.
    """
    from scratchnet import compositions, derivatives
    from scratchnet.table import TABLE
    from tests.cases import CASES

    before = {f: rules(row) for f, row in TABLE.items()}
    others = [f"scratchnet.{name}" for name in ("tensor", "functions", "losses")]
    for f in before:
        if getattr(f, "__module__", "numpy") not in others:
            del TABLE[f]
    try:
        for module in (derivatives, compositions):
            file = Path(module.__file__)
            if file.name == path.name:
                exec(code, vars(module))
            else:
                exec(compile(file.read_text(), file, "exec"), vars(module))
        name = derivatives.__name__
        for f in [f for f in before if getattr(f, "__module__", "") == name]:
            new = getattr(derivatives, f.__name__)  # the function was defined again
            before[new] = before.pop(f)
            if f in CASES:
                CASES[new] = CASES.pop(f)
        return {f for f, rule in before.items() if rules(TABLE[f]) != rule}
    except Exception:
        return None


def fails_its_check(function: Any) -> bool:
    """Check a row of the table, as `python -m tests.gradcheck` does.

    This is fast; the tests are for mutants that it misses.
    """
    from tests.gradcheck import check_row

    try:
        verdict, _ = check_row(function, 0)
    except Exception:
        return True
    return not verdict.startswith(("pass", "constant", "not checked"))


def rules(row: Any) -> list[Any]:
    """Return the code of a row's functions, and of those that they call, to compare."""
    found: list[Any] = []
    seen: set[Any] = set()

    def add(f: Any) -> None:
        f = getattr(f, "of_arrays", f)
        if (code := getattr(f, "__code__", None)) is None or f in seen:
            return
        seen.add(f)
        waiting = [code]
        while waiting:
            code = waiting.pop()
            inside = [c for c in code.co_consts if isinstance(c, CodeType)]
            values = [repr(c) for c in code.co_consts if not isinstance(c, CodeType)]
            found.append((code.co_code, values, code.co_names))
            waiting += inside
            for name in code.co_names:
                inner = f.__globals__.get(name)
                if str(getattr(inner, "__module__", "")).startswith("scratchnet"):
                    add(inner)
        for cell in f.__closure__ or ():
            add(cell.cell_contents)

    for part in vars(row).values():
        for f in part if isinstance(part, tuple) else (part,):
            add(f)
    return found


class Watch:
    """Records the first failed test; in a test of one row each, keeps only `rows`."""

    def __init__(self, rows: set[Any] | None) -> None:
        self.failed = ""
        self.rows = rows

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.rows is not None:
            items[:] = [i for i in items if self.concerned(i)]

    def concerned(self, item: Any) -> bool:
        from scratchnet.table import TABLE

        row = getattr(item, "callspec", None) and item.callspec.params.get("function")
        return row not in TABLE or row in self.rows

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def tests_of(name: str) -> str:
    """Return the path of the test file of that name, or folder/name."""
    folder, _, last = name.rpartition("/")
    (found,) = (ROOT / "tests" / folder).rglob(f"test_{last}.py")
    return str(found)


def run(
    path: Path, code: Any, first: list[str], rows: set[Any] | None
) -> tuple[int, str]:
    """Run the tests of a file, some first; return pytest's status and the failed test.

    The process must not have imported the file, or must hold its altered `rows`.
    """
    import pytest

    name = ".".join(["scratchnet", *path.relative_to(PACKAGE).with_suffix("").parts])
    sys.meta_path.insert(0, Finder(name, path, code))
    files = [tests_of(name) for name in TESTS[str(path.relative_to(PACKAGE))]]
    watch = Watch(rows)
    try:
        for tests in (first, files) if first else (files,):
            status = pytest.main([
                "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0",
                "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests,
            ], [watch])  # fmt: skip
            if status:
                return int(status), watch.failed
    except BaseException:
        return 9, watch.failed
    return 0, ""


# --- All of them --------------------------------------------------------------------

# (file, kind of change, line) of mutants without a visible effect, by the reason.
EQUIVALENT = {
    "both give the same at equal arguments, or nearly": {
        ("derivatives.py", "comparison", "small = np.abs(u) < n + 1"),
        ("derivatives.py", "number", "small = np.abs(u) < n + 1"),
        ("derivatives.py", "number", "for k in range(n, n + 40):"),
        ("derivatives.py", "comparison",
         "y = np.where(y > 4 * np.finfo(a.dtype).eps * np.abs(mean), y, 0.0)"),
        ("derivatives.py", "number",
         "y = np.where(y > 4 * np.finfo(a.dtype).eps * np.abs(mean), y, 0.0)"),
        ("compositions.py", "comparison",
         "return x if x.ndim >= ndim else np.reshape(x, (1,) * (ndim - x.ndim) + "
         "x.shape)"),
        ("functions.py", "comparison",
         "lambda g, y, x, slope=0.2: where_or_zero(x * g, x <= 0),"),
    },
    "the value that is put in is masked out again": {
        ("derivatives.py", "number", "a = np.where((a == 0) & (n == 0), 1.0, a)"),
        ("derivatives.py", "number",
         "return np.where(zero, 0.0, a / np.where(zero, 1.0, b))"),
        ("derivatives.py", "number", "far = np.where(small, 1.0, u)"),
        ("derivatives.py", "number", "near = np.where(small, u, 0.0)"),
        ("functions.py", "number",
         "largest = np.where(np.isfinite(largest), largest, 0.0)"),
        ("functions.py", "number",
         "return g * np.exp(x - np.where(y == -np.inf, 0.0, y))"),
    },
    "dividing by 1 or -1 equals multiplying by it; k is even": {
        ("derivatives.py", "operator",
         "rule(np.copysign,        lambda g, y, a, b: g * np.sign(a) * "
         "np.copysign(1.0, plain(b)),"),
        ("derivatives.py", "operator",
         "return np.linalg.det(minors) * (sign[:, None] * sign).astype(a.dtype)"),
        ("derivatives.py", "operator",
         "series = series + (-1) ** (k // 2) * power * factor * (n + 1) / (k + 1)"),
        ("derivatives.py", "operator",
         "key = np.asarray(plain(indices), like=plain(a)) + 0"),
    },
    "a product, a sum or a squared difference, in the other order": {
        ("compositions.py", "arguments",
         "shape = tuple(m * n for m, n in zip(a.shape, b.shape, strict=True))"),
        ("compositions.py", "arguments",
         "shape = tuple(r * m for r, m in zip(reps, A.shape, strict=True))"),
        ("compositions.py", "arguments",
         "np.vecdot(x1, x2, axis=axis))  # type: ignore[call-overload]  # no axis in "
         "stubs"),
        ("byhand/vae.py", "arguments",
         'return log_gaussian(x, a, self.parameters["log_var_x"])'),
    },
    "an empty array; the last axis of one": {
        ("derivatives.py", "function", "return np.zeros_like(plain(a))"),
        ("derivatives.py", "sign", "a if b.ndim == 1 else np.expand_dims(a, -1)"),
        ("derivatives.py", "number",
         "return np.expand_dims(g, -1 if b.ndim == 1 else -2) * ("),
    },
    "both ways are right, and one is faster": {
        ("compositions.py", "comparison",
         "if np.ndim(b) == 1 or (np.ndim(a) <= 2 and np.ndim(b) == 2):"),
        ("compositions.py", "number",
         "if np.ndim(b) == 1 or (np.ndim(a) <= 2 and np.ndim(b) == 2):"),
        ("derivatives.py", "operator",
         "limit = np.finfo(a.dtype).eps ** (-1 / 3)"),
        ("derivatives.py", "sign", "limit = np.finfo(a.dtype).eps ** (-1 / 3)"),
        ("derivatives.py", "number", "limit = np.finfo(a.dtype).eps ** (-1 / 3)"),
        ("derivatives.py", "comparison",
         "if a.size == 0 or np.all(np.linalg.cond(plain(a)) < limit):"),
        ("functions.py", "number",
         "return isinstance(slope, (int, float)) and 0 < slope <= 1"),
    },
    "more memory than needed": {
        ("byhand/gan.py", "number",
         "rows=2 * batch_size, dtype=dtype, activation=f, inputs=True,"),
        ("byhand/gan.py", "number",
         "self._samples = backend.empty((2 * batch_size, generator[-1]), dtype)"),
        ("byhand/gan.py", "number",
         "self._args = backend.empty((2 * batch_size, 1), dtype)  # of softplus"),
        ("byhand/gan.py", "and/or",
         "rows = 2 * batch_size if r1 and r2 else batch_size"),
        ("byhand/gan.py", "number",
         "rows = 2 * batch_size if r1 and r2 else batch_size"),
    },
    "the size of a block": {
        ("kernels/buffers.py", "number", "BLOCK = 1 << 16"),
        ("kernels/buffers.py", "number",
         "return max(1, BLOCK * len(a) // max(1, int(a.size)))"),
        ("kernels/updates.py", "number",
         "size = max((rows_in_block(a) * a[:1].size for a in same), default=0)"),
        ("kernels/buffers.py", "condition", "if not backend.on_host():"),
        ("kernels/buffers.py", "sign", "if not backend.on_host():"),
        ("kernels/buffers.py", "number", "return max(1, len(a))"),
    },
    "no float has 3 bytes; two functions do nothing; the weights are replaced": {
        ("kernels/updates.py", "number",
         'if not all(kind.kind == "f" and kind.itemsize > 2 for kind in kinds):'),
        ("kernels/activations.py", "arguments",
         '"linear": Activation(_linear, _linear_backward),'),
        ("twins.py", "number",
         'options: dict[str, Any] = {"rng": np.random.default_rng(0)}'),
    },
    "only a type checker reads it": {
        ("kernels/updates.py", "flag", "class UpdateOptions(TypedDict, total=False):"),
        ("kernels/updates.py", "flag",
         "class GANUpdateOptions(UpdateOptions, total=False):"),
    },
    "two shapes that are known to be equal": {
        ("losses.py", "number", "if not shapes[0] or shapes[0][0] == 0:"),
        ("losses.py", "number", "return int(shapes[0][0])"),
    },
}  # fmt: skip


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--lines", type=int, nargs="*", help="only mutants of these")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # So that a child need not import them.
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    alive = 0
    known = set().union(*EQUIVALENT.values())
    for name in sorted(args.files, key=list(TESTS).index):
        if name in TABLES:  # these come last: nothing is imported again
            import scratchnet.cli.main  # noqa: F401
        path = PACKAGE / name
        source = path.read_text()
        if survives(path, compile(source, str(path), "exec")) != "survived":
            raise SystemExit(f"{name}: its tests fail without any change")
        lines = source.splitlines()
        found = [
            (line, column, kind, compile(tree, str(path), "exec"))
            for line, column, kind, tree in mutants(path)
            if args.lines is None or line in args.lines
        ]
        began = time.monotonic()
        with ThreadPoolExecutor(args.jobs) as pool:
            results = pool.map(survives, [path] * len(found), [m[-1] for m in found])
            counts = {"killed": 0, "timeout": 0, "survived": 0, "equivalent": 0}
            each = tqdm(
                zip(found, results, strict=True), name, len(found), disable=None
            )
            for (line, column, kind, _), result in each:
                text = lines[line - 1].strip()
                if result == "survived" and (name, kind, text) in known:
                    result = "equivalent"
                counts[result] += 1
                if result == "survived":
                    tqdm.write(f"{name}:{line}:{column}: {kind}: {text}")
        alive += counts["survived"]
        seconds = time.monotonic() - began
        print(f"{name}: {len(found)} mutants, {counts}, {seconds:.0f} s", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
