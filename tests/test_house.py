"""The rules of the house: who may import whom, and what importing costs."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "scratchnet"

# Each floor stands on those before it. A file imports from lower floors only, or from
# its own floor without a circle.
FLOORS = [
    {"backend"},
    {"checks"},
    {"anomaly", "kernels", "twins"},
    {"graph"},
    {"table"},
    {"tensor"},
    {"derivatives", "functions"},
    {"compositions"},
    {"testing", "nn", "losses", "optim"},
    {"models"},
    {"training"},
    {"runs"},
    {"cli"},
    {"__main__"},
]
# What stands beside the floors, and on what alone.
ASIDE = {
    "byhand": {"backend", "checks", "kernels", "twins", "byhand"},
    "data": {"checks", "data"},
    "metrics": {"backend", "checks"},
    "plots": {"checks"},
}
STANDARD = set(sys.stdlib_module_names)


def modules():
    """Yield for each file its part of the house and the parts that it imports."""
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            yield path, part, imports(path)


def imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
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
    ("path", "part", "names"), list(modules()), ids=lambda x: getattr(x, "name", "")
)
def test_a_file_imports_from_lower_floors_only(path, part, names):
    if part in ASIDE:
        allowed = ASIDE[part]
    else:
        floor = next(i for i, floor in enumerate(FLOORS) if part in floor)
        allowed = set().union(*FLOORS[: floor + 1])
        if part == "runs":
            allowed |= {"byhand", "data"}
        if part in ("cli", "__main__"):
            allowed |= set(ASIDE)
    assert set(parts_of(names)) <= allowed


def test_no_file_imports_itself_through_others():
    """Also not inside a folder, and not by an import that waits for a call."""
    files = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in files.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    names.add(inside if inside in files else node.module)
        graph[name] = (names & files.keys()) - {name}
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names the circle


def name_of(path):
    """Return the name by which a file is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_argparse_stays_in_the_command_line():
    assert {part for _, part, names in modules() if "argparse" in names} == {"cli"}


# Third-party packages, and the only parts that may import them.
THIRD_PARTY = {
    "numpy": None,  # anybody
    "matplotlib": {"plots"},
    "tqdm": {"training", "data"},
    "hypothesis": {"testing"},
    "cupy": {"backend"},
}


def test_third_party_packages_are_imported_where_they_may_be():
    for path, part, names in modules():
        for name in {name.split(".")[0] for name in names} - STANDARD - {"scratchnet"}:
            assert name in THIRD_PARTY, f"{path} imports {name}"
            assert THIRD_PARTY[name] is None or part in THIRD_PARTY[name], path


def test_importing_scratchnet_is_silent_and_imports_numpy_only():
    code = (
        "import sys, numpy; before = set(sys.modules); import scratchnet;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    added = set(run.stdout.split()) - STANDARD
    assert added == {"scratchnet", "numpy"}  # numpy: its submodule of types


def test_by_hand_runs_without_the_engine():
    code = (
        "import sys; from scratchnet import byhand;"
        "import scratchnet.byhand.autoencoder as module;"
        "names = vars(module); assert 'Tensor' not in names and 'tensor' not in names"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
