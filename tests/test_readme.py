"""Everything that README.md shows is run, and must print what it shows."""

import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_examples_print_what_the_readme_says():
    blocks = re.findall(r"```(python|text)\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    printed = None
    for kind, block in blocks:
        before = README.partition(block)[0].count("\n")
        if kind == "text":
            assert printed == block
            printed = None
        else:
            assert not printed, "the README does not show what an example prints"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                # With the lines that it has in the file.
                exec(compile("\n" * before + block, "README.md", "exec"), names)
            printed = out.getvalue()
    assert len(blocks) >= 6
    assert not printed


def test_every_file_that_the_readme_links_to_is_there():
    root = Path(__file__).parent.parent
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (root / link).exists()] == []


def test_both_newcomer_commands_are_one_line():
    for name in ("run", "test"):
        after = README.split(f"<!-- newcomer: {name} -->\n")[1]
        block = re.match(r"```sh\n(.*?)```", after, re.DOTALL)
        assert block is not None
        assert block[1].count("\n") == 1
