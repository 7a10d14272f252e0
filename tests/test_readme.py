"""The examples of README.md and its pages run, and print the output shown."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "README.ko.md",
    "demos/README.md",
    "demos/speed.md",
    "demos/gpu.md",
    "demos/distributed.md",
    "demos/papers_results/table.md",
]


def without_bounds(text: str) -> str:
    """Return a text without the sizes of rounding errors, which vary by machine."""
    return re.sub(r"\b\de-\d\d\b", "e-", text)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_print_the_output_on_the_page(page):
    content = (ROOT / page).read_text()
    blocks = re.findall(r"```(python|text)\n(.*?)```", content, re.DOTALL)
    names: dict[str, object] = {}
    printed = None
    for kind, block in blocks:
        before = content.partition(block)[0].count("\n")
        if kind == "text":
            assert printed is not None
            assert without_bounds(printed) == without_bounds(block)
            printed = None
        else:
            assert not printed, f"{page} does not show what an example prints"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                # With its line numbers in the file.
                exec(compile("\n" * before + block, page, "exec"), names)
            printed = out.getvalue()
    if page == "README.md":
        assert len(blocks) >= 10
    assert not printed


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    here = ROOT / page
    links = re.findall(r"\]\((?!http)([^)]+)\)", here.read_text())
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        there = here.parent / name if name else here
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there), link


def test_the_korean_readme_has_the_content_of_the_english_one():
    korean = (ROOT / "README.ko.md").read_text()
    first = README.partition("## The idea")[0]
    blocks = re.findall(r"```.*?```", korean, re.DOTALL)
    assert [block for block in blocks if block not in README] == []
    assert [
        b for b in re.findall(r"```.*?```", first, re.DOTALL) if b not in blocks
    ] == []
    picture = r"!\[.*\]\((.*)\)"
    assert re.findall(picture, korean) == re.findall(picture, first)
    commands = r"`(python -m scratchnet train [^`]*)`"
    assert re.findall(commands, korean) == re.findall(commands, README)


def test_the_readme_can_be_read_in_one_sitting():
    assert README.count("\n") <= 220


def test_both_newcomer_commands_are_one_line():
    for name in ("run", "test"):
        after = README.split(f"<!-- newcomer: {name} -->\n")[1]
        block = re.match(r"```sh\n(.*?)```", after, re.DOTALL)
        assert block is not None
        assert block[1].count("\n") == 1


def test_the_ratios_of_the_readme_are_those_of_its_pages():
    def ratio(page: str) -> str:
        line = next(x for x in README.splitlines() if f"]({page})" in x and "|" in x)
        return line.split("|")[2].strip()

    def cell(page: str, row: str, column: int) -> str:
        lines = (ROOT / page).read_text().splitlines()
        return next(x for x in lines if x.startswith(row)).split("|")[column].strip()

    speed = cell("demos/speed.md", "| by hand, C / best eager |", 5)
    assert speed.startswith(f"{ratio('demos/speed.md')} (")
    step = "PyTorch's eager step (fused Adam) / captured step by hand"
    row = f"| time of {step}, minibatch 128 |"
    assert ratio("demos/gpu.md") == cell("demos/gpu.md", row, 2)
