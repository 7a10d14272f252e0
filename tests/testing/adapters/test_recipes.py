"""The recipes of demos/gradcheck.md pass as they stand, and fail if they are broken."""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "demos" / "gradcheck.md").read_text(encoding="utf-8")
SECTIONS = dict(
    re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
)

# Recipe: the package it needs, a line of its gradient, the same with a mistake, and a
# pattern of the entry that the message names.
RECIPES = {
    "torch: a Function": ("torch", "return g * torch.sigmoid(x)",
                          "return 1.01 * g * torch.sigmoid(x)", r"x\["),
    "torch: a Module": ("torch", "torch.sigmoid(self.linear(x))",
                        "torch.sigmoid(self.linear(x)).detach()", r"linear\."),
    "JAX: a custom_vjp": ("jax", "g - y * jnp.vdot(g, y)", "g - y", r"x\["),
    "SciPy: an objective": ("scipy", "2 * x.T @ off / y.size", "2 * x.T @ off",
                            r"[wx]\["),
    "Numba: a kernel": ("numba", "np.cumsum(g[::-1])[::-1]", "np.cumsum(g)", r"x\["),
    "C++, through ctypes": ("", "s + x[i] * s * (1 - s)", "s + x[i] * s", r"x\["),
    "CuPy: a kernel": ("cupy", "d = 1 / ((1 + abs(x)) * (1 + abs(x)))",
                       "d = 1 / (1 + abs(x))", r"x\["),
    "A layer of your own": ("", "g.sum(axis=0)", "g.mean(axis=0)", r"b\["),
}  # fmt: skip


def blocks(section, kind="python"):
    return re.findall(rf"```{kind}\n(.*?)```", SECTIONS[section], re.DOTALL)


def run(folder):
    """Run the tests of a folder as a user does; return what pytest prints."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip


@pytest.mark.frameworks
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_passes_and_with_a_mistake_fails(recipe, tmp_path):
    needs, right, wrong, named = RECIPES[recipe]
    if needs == "cupy":
        pytest.importorskip("cupy", reason="CuPy is not installed")
    if "C++" in recipe and not shutil.which("g++"):
        pytest.skip("there is no g++")
    (code,) = blocks(recipe)
    assert code.count(right) == 1
    (tmp_path / "test_right.py").write_text(code, encoding="utf-8")
    changed = code.replace(right, wrong)
    (tmp_path / "test_wrong.py").write_text(changed, encoding="utf-8")
    printed = run(tmp_path)
    assert "1 failed, 1 passed" in printed, printed
    assert "FAILED test_wrong.py" in printed
    message = rf"GradientError: gradcheck: WRONG .*/d {named}"
    assert re.search(message, printed), printed


def test_every_recipe_is_tested():
    recipes = [name for name in SECTIONS if "def test_" in "".join(blocks(name))]
    assert set(recipes) == {*RECIPES, "pytest"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_short_and_compiles(recipe):
    (code,) = blocks(recipe)
    compile(code, recipe, "exec")
    assert len([line for line in code.splitlines() if line.strip()]) <= 26


def test_the_report_is_what_the_example_prints():
    (code,), (shown,) = (
        blocks("How to read a report", kind) for kind in ("python", "text")
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    without_bounds = [re.sub(r"\de-\d\d", "", t) for t in (printed.getvalue(), shown)]
    assert without_bounds[0] == without_bounds[1]


def test_every_link_of_the_page_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    for link in links:
        assert (ROOT / "demos" / link).exists(), link


@pytest.mark.frameworks
@pytest.mark.parametrize("package", ["torch", "jax", "scipy", "numba"])
def test_the_framework_is_installed(package):
    assert importlib.util.find_spec(package)
