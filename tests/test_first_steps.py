"""The pages that a newcomer follows: commands and pictures exist, and CI finds the commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fastinfogan.cli import COMMANDS
from fastinfogan.cli.options import positionals_of, take_apart

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/first-steps.md")
BLOCKS = ROOT / ".ci" / "blocks"

needs_bash = pytest.mark.skipif(
    shutil.which("bash") is None or not BLOCKS.exists(), reason="needs bash and a checkout"
)


def blocks(*arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", BLOCKS, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def commands(page) -> list[str]:
    """What a page says to type, line by line: indented, or between fences."""
    text = (ROOT / page).read_text()
    lines = re.findall(r"^ {0,6}fastinfogan [a-z].*$", text, re.MULTILINE)
    return [line.strip() for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_with_options_that_it_has(page):
    found = commands(page)
    assert len(found) >= 8
    for line in found:
        _, name, *arguments = shlex.split(line, comments=True)
        typed = take_apart(COMMANDS[name], arguments)
        wanted = [] if "--help" in arguments else positionals_of(COMMANDS[name])
        assert not typed.unknown and len(typed.words) == len(wanted), line
        for given in typed.given:
            words = [word for word in given.words if not word.isupper()]  # D, RUN, $TASK
            assert all(map(given.option.fits, words)), line
            assert given.off or len(given.words) == given.option.values, line


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_and_page_that_is_linked_is_there(page):
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    local = [target for target in targets if not target.startswith("http")]
    assert local and not [target for target in local if not (path.parent / target).exists()]


def test_the_animation_is_small_enough_for_a_page():
    assert (ROOT / "docs" / "images" / "animation_c2_c3.gif").stat().st_size < 300_000


@needs_bash
def test_all_that_the_first_steps_say_is_executed_but_the_installation():
    page = ROOT / "docs" / "first-steps.md"
    names = blocks(page).stdout.split()
    executed = "".join(blocks(page, name).stdout for name in names)
    assert names[:2] == ["doctor", "train"] and len(set(names)) == len(names)
    assert set(commands("docs/first-steps.md")) <= set(executed.splitlines())
    trained = [
        line for line in executed.splitlines() if re.match("fastinfogan (train|study)", line)
    ]
    assert trained and all("--iterations " in line for line in trained)


@needs_bash
def test_a_marked_block_is_found_whole_or_refused_by_name(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- ci: one -->\n\n```sh\nfirst\n\n  second\n```\n```\nno\n```\n<!-- ci: empty -->\n```\n"
        "```\n<!-- ci: text -->\nwords\n```\nno\n```\n<!-- ci: open -->\n```\nlines\n"
    )
    assert blocks(page).stdout.split() == ["one", "empty", "text", "open"]
    assert blocks(page, "one").stdout == "first\n\n  second\n"
    for name in ("empty", "text", "open", "none"):
        refused = blocks(page, name)
        assert refused.returncode and f"after <!-- ci: {name} -->" in refused.stderr
    assert "there is no" in blocks(tmp_path / "none.md").stderr
