"""The rules of the house: who may import whom, and what importing costs."""

import ast
import graphlib
import importlib
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

import scratchnet

PACKAGE = Path(__file__).parent.parent / "scratchnet"

# Each floor uses those before it. A file imports from lower floors, or from its own
# floor without a circle.
FLOORS = [
    {"backend"},
    {"checks"},
    {"anomaly", "kernels", "twins"},
    {"graph"},
    {"table"},
    {"fused", "tensor"},
    {"derivatives", "functions"},
    {"compositions"},
    {"testing", "nn", "losses", "optim"},
    {"models"},
    {"training"},
    {"runs"},
    {"report"},
    {"cli"},
    {"__main__", "_pytest"},
]
# Parts next to the floors, and all that they may import.
ASIDE = {
    "byhand": {"backend", "checks", "kernels", "twins", "byhand"},
    "data": {"checks", "data"},
    "metrics": {"backend", "checks"},
    "plots": {"checks"},
}
STANDARD = set(sys.stdlib_module_names)


@cache
def modules():
    """Return (file, its part of the package, imported names) for each file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            found.append((path, part, imports(path)))
    return found


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def statements(path):
    """Yield the statements of a file that run; only type checkers read the others."""
    waiting = [tree_of(path)]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def imports(path):
    found = set()
    for node in statements(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "scratchnet":
                found |= {f"scratchnet.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def parts_of(names):
    for name in names:
        if name.startswith("scratchnet.") and not name.endswith("__version__"):
            yield name.split(".")[1]


def test_every_file_has_its_place():
    known = set().union(*FLOORS) | set(ASIDE)
    assert {part for _, part, _ in modules()} <= known


@pytest.mark.parametrize(
    ("path", "part", "names"), modules(), ids=lambda x: getattr(x, "name", "")
)
def test_a_file_imports_from_lower_floors_only(path, part, names):
    if part in ASIDE:
        allowed = ASIDE[part]
    else:
        floor = next(i for i, floor in enumerate(FLOORS) if part in floor)
        allowed = set().union(*FLOORS[: floor + 1])
        if part == "runs":
            allowed |= {"byhand", "data"}
        if part in ("report", "cli", "__main__"):
            allowed |= set(ASIDE)
    assert set(parts_of(names)) <= allowed


def test_no_file_imports_itself_through_others():
    """Imports inside a folder and inside functions count too."""
    files = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in files.items():
        names = set()
        for node in statements(path):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    names.add(inside if inside in files else node.module)
        graph[name] = (names & files.keys()) - {name}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def name_of(path):
    """Return the name by which a file is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_argparse_stays_in_the_command_line():
    assert {part for _, part, names in modules() if "argparse" in names} == {"cli"}


# Third-party packages, and the only parts that may import them.
THIRD_PARTY = {
    "numpy": None,  # all parts
    "matplotlib": {"plots"},
    "tqdm": {"training", "data"},
    "hypothesis": {"testing"},
    "cupy": {"backend"},
    "pytest": {"_pytest"},
    # Each only in the file that is loaded for an object of that library.
    "torch": {"testing"},
    "jax": {"testing"},
}


def test_third_party_packages_are_imported_only_where_allowed():
    for path, part, names in modules():
        for name in {name.split(".")[0] for name in names} - STANDARD - {"scratchnet"}:
            assert name in THIRD_PARTY, f"{path} imports {name}"
            assert THIRD_PARTY[name] is None or part in THIRD_PARTY[name], path


def python(code):
    """Run code in a fresh process, warnings as errors; return its output."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not run.stderr, run.stderr
    return run.stdout


def test_importing_scratchnet_is_silent_and_loads_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import scratchnet;"
        "dir(scratchnet); print(*sorted(set(sys.modules) - before))"
    )
    added = set(python(code).split())
    assert {name.partition(".")[0] for name in added} - STANDARD == {"scratchnet"}
    assert [name for name in added if name.startswith("scratchnet.")] == []


def test_the_engine_loads_nothing_for_compiling():
    code = (
        "import os, sys, numpy; os.environ.pop('SCRATCHNET_BACKEND', None);"
        "import scratchnet; numpy.exp(scratchnet.Tensor(1.0));"
        "print(*({'scratchnet.backend.compiler', 'subprocess'} & set(sys.modules)))"
    )
    assert python(code).split() == []


ENGINE = {"anomaly", "backend", "checks", "graph", "table", "tensor"}
FUNCTIONS = ENGINE | {"functions", "fused"}
NETWORKS = FUNCTIONS | {"derivatives", "kernels", "nn"}
BY_HAND = {"backend", "byhand", "checks", "kernels", "twins"}
TRAINING = NETWORKS | {"optim", "training", "twins"}
RUNS = TRAINING | BY_HAND | {"data", "losses", "models", "runs"}

# What users import, and the other parts that each one loads.
PUBLIC = {
    "graph": {"anomaly", "backend"},
    "table": {"anomaly", "backend", "checks", "graph"},
    "tensor": ENGINE,
    "functions": FUNCTIONS,
    "anomaly": {"backend"},
    "losses": FUNCTIONS,
    "nn": NETWORKS,
    "optim": ENGINE | {"kernels"},
    "models": NETWORKS | {"losses", "twins"},
    "byhand": BY_HAND,
    "testing": ENGINE,
    "backend": set(),
    "metrics": {"backend", "checks"},
    "data": set(),
    "data.corruption": {"backend", "checks"},
    "data.deer": {"backend", "checks"},
    "data.digits": {"backend", "checks"},
    "data.filters": {"backend", "checks"},
    "data.idx": {"backend", "checks"},
    "data.mixtures": {"backend", "checks"},
    "training": TRAINING,
    "runs": RUNS,
    "plots": {"backend", "checks"},
}
# Imports each module as the first one; prints the modules that this loads, and the
# results of a rule and a rewrite.
ALONE = """
import sys, importlib, numpy as np
for name in {names}:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "scratchnet"]:
        del sys.modules[loaded]
    before = set(sys.modules)
    importlib.import_module("scratchnet." + name)
    added = sorted(set(sys.modules) - before)
    import scratchnet
    x = scratchnet.Tensor([1.0, 2.0], requires_grad=True)
    np.einsum("i,i->", np.exp(x), x).backward()
    print(name, x.grad[0] / np.exp(1), *added)
"""


def test_each_module_imported_alone_works_and_loads_only_what_is_allowed():
    for line in python(ALONE.format(names=list(PUBLIC))).splitlines():
        name, slope, *added = line.split()
        assert float(slope) == pytest.approx(2), name  # of x exp(x) at 1
        rooms = {m.split(".")[1] for m in added if m.startswith("scratchnet.")}
        assert rooms == PUBLIC[name] | {name.partition(".")[0]}, name
        third = {m.partition(".")[0] for m in added} & set(THIRD_PARTY)
        assert third - {"numpy"} == ({"matplotlib"} if name == "plots" else set()), name


@pytest.mark.parametrize("name", ["", *PUBLIC])
def test_all_lists_exactly_what_users_call(name):
    """A name is in `__all__`, or private, or used by another file of the package."""
    module = importlib.import_module(f"scratchnet.{name}".rstrip("."))
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert [n for n in module.__all__ if n.startswith("_")] == []
    assert set(module.__all__) <= set(dir(module))
    for n in module.__all__:
        getattr(module, n)
    own = {
        n for n, x in vars(module).items()
        if not n.startswith("_") and getattr(x, "__module__", "") == module.__name__
    }  # fmt: skip
    path = Path(module.__file__)
    files = [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    others = [p.read_text() for p in files if p != path]
    for n in own - set(module.__all__):
        assert any(re.search(rf"\b{n}\b", text) for text in others), n


def test_every_name_is_loaded_on_first_use():
    code = (
        "import scratchnet; print([getattr(scratchnet, n) for n in scratchnet.__all__])"
    )
    assert "Tensor" in python(code)
    code = "from scratchnet import *; print(losses.squared_error, Tensor, data.idx)"
    assert "squared_error" in python(code)
    with pytest.raises(AttributeError, match="no attribute 'tensors'"):
        _ = scratchnet.tensors
    with pytest.raises(AttributeError, match="no attribute 'cats'"):
        _ = scratchnet.data.cats
    assert set(scratchnet.__all__) <= set(dir(scratchnet))
    assert set(scratchnet.data.__all__) <= set(dir(scratchnet.data))


def test_a_row_of_the_users_own_stays_when_the_table_is_loaded():
    code = (
        "import numpy as np; from scratchnet.table import rule;"
        "from scratchnet.tensor import Tensor;"
        "rule(np.sin, lambda g, y, x: 7 * g); x = Tensor(1.0, requires_grad=True);"
        "(np.sin(x) + np.cos(0 * x)).backward(); print(x.grad)"
    )
    assert python(code) == "7.0\n"


def test_a_row_of_the_users_own_replaces_ours_whatever_is_imported_later():
    code = (
        "import numpy as np; from scratchnet import Tensor, rule;"
        "rule(np.sin, lambda g, y, x: 7 * g); import scratchnet.derivatives;"
        "x = Tensor(1.0, requires_grad=True); np.sin(x).backward(); print(x.grad)"
    )
    assert python(code) == "7.0\n"


# --- Sizes --------------------------------------------------------------------------

LONGEST_FUNCTION, LONGEST_FILE = 60, 600  # lines of code
# Longer ones, with the reason.
LONG = {
    "data/deer.py: _deer": "a list of outlines, in pixels",
}
SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def sizes(path):
    """Yield a file and each of its functions, with their lines of code.

    Blank lines, comments and docstrings do not count.
    """
    text = path.read_text()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {token.start[0] for token in tokens if token.type not in SILENT}
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                code -= set(range(node.lineno, node.end_lineno + 1))
    name = path.relative_to(PACKAGE).as_posix()
    yield name, len(code), LONGEST_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = code & set(range(node.lineno, node.end_lineno + 1))
            yield f"{name}: {node.name}", len(lines), LONGEST_FUNCTION


def test_files_and_functions_are_short():
    found = [size for path in PACKAGE.rglob("*.py") for size in sizes(path)]
    long = {name for name, lines, most in found if lines > most}
    assert long == set(LONG)


# --- By hand ------------------------------------------------------------------------


def test_by_hand_runs_without_the_engine():
    code = (
        "import sys; from scratchnet import byhand;"
        "import scratchnet.byhand.autoencoder as module;"
        "names = vars(module); assert 'Tensor' not in names and 'tensor' not in names"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
