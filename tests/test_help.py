"""What ``--help`` shows: its lines are as long as they can be, whatever the source's are."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fastinfogan.cli import COMMANDS, main

WIDTH = 90
FRAME = 2  # columns of a box's side: its line, and a blank


@pytest.mark.parametrize("command", COMMANDS)
def test_lines_end_where_they_are_full(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    continued = 0
    for line, following in pairwise(lines):
        indented = following.startswith(" " * 10)  # as an option's help is, and no option's name
        only_a_name = line.lstrip().startswith("-") and "  " not in line.strip()
        if indented and not only_a_name:
            room = WIDTH - FRAME - len(line)
            assert len(following.split()[0]) + 1 > room, (line, following)
            continued += 1
    assert continued >= (10 if command in ("train", "study") else 0)
