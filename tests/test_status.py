"""What a person sees while a run trains: plain lines in a log, one live row on a terminal."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from fastinfogan.training.status import LiveStatus, Status, open_status

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def row(iteration, **changed):
    """A row of metrics, in what a display uses of it."""
    means = {"d_loss": 1.386, "g_loss": 0.693, "mi": 2.3014, "best_mi": 3.6889}
    return {"iteration": iteration, **means, "images_per_s": 380.4, **changed}


@pytest.fixture
def clock(monkeypatch):
    """The time that plain lines go by; the test sets it."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("fastinfogan.training.status.time", clock)
    return clock


# -- Plain lines -----------------------------------------------------------------------------


def test_a_plain_line_says_where_the_run_stands_and_how_long_it_will_take(clock, capsys):
    with Status(1000, 0) as status:
        clock.now = 20.0
        status.metrics(row(250))
    assert capsys.readouterr().out == (
        "    250/1000  D 1.39  G 0.69  L_I 2.301 of 3.689  380 images/s  1:00 left\n"
    )


def test_the_pace_of_a_continued_run_is_that_of_this_session(clock, capsys):
    status = Status(10_000, 9_000)
    clock.now = 40.0
    status.metrics(row(9_010))  # 10 iterations in 40 seconds
    assert capsys.readouterr().out.endswith("  1:06:00 left\n")


def test_the_first_iteration_is_left_out_of_the_pace(clock, capsys):
    status = Status(100, 0)
    clock.now = 30.0  # kernels were compiled
    status.advance(1)
    clock.now = 40.0
    status.advance(11)
    status.metrics(row(11))  # 10 iterations in 10 seconds, 89 to come
    assert capsys.readouterr().out.endswith("  1:29 left\n")


def test_a_first_stretch_is_all_there_is_to_go_by_at_its_end(clock, capsys):
    """As on a GPU, which is asked for many iterations at once."""
    status = Status(200, 0)
    clock.now = 30.0
    status.advance(50)
    status.metrics(row(50))
    clock.now = 40.0
    status.advance(100)
    status.metrics(row(100))
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("  1:30 left") and second.endswith("  0:20 left")


def test_plain_lines_come_at_most_every_ten_seconds_and_the_last_always(clock, capsys):
    status = Status(1000, 0)
    for iteration, clock.now in ((100, 9.9), (200, 10.0), (300, 19.9), (400, 20.0), (1000, 20.1)):
        status.advance(iteration)
        status.metrics(row(iteration))
    shown = [int(line.split("/")[0]) for line in capsys.readouterr().out.splitlines()]
    assert shown == [200, 400, 1000]


def test_messages_are_never_held_back(clock, capsys):
    status = Status(1000, 0)
    status.line("run directory runs/x")
    status.line("done")
    assert capsys.readouterr().out == "run directory runs/x\ndone\n"


# -- The live row ----------------------------------------------------------------------------


def live(width, total, rows, lines=()):
    """What a terminal of ``width`` columns is sent: a row of metrics every 10 seconds."""
    clock, file = SimpleNamespace(now=0.0), io.StringIO()
    console = Console(
        file=file, force_terminal=True, width=width, height=25, get_time=lambda: clock.now,
        highlight=False, soft_wrap=True, legacy_windows=False,
    )  # fmt: skip
    with LiveStatus(console, total, 0) as status:
        for text in lines:
            status.line(text)
        for metrics in rows:
            clock.now += 10.0
            status.advance(metrics["iteration"])
            status.metrics(metrics)
    return [line.rstrip() for line in re.split(r"[\r\n]+", ANSI.sub("", file.getvalue()))]


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_row_fits_and_says_where_the_run_stands(width):
    sent = live(width, 1000, [row(100), row(150), row(200)])
    assert max(map(len, sent)) <= width
    last = [line for line in sent if line][-1]
    # 100 iterations in the last 20 seconds.
    ending = "  200/1000 D 1.39  G 0.69  L_I 2.301 of 3.689  380 images/s 0:02:40 left"
    assert last.endswith(ending)
    assert len(last) > len(ending)  # something of the bar is left


def test_the_live_row_fits_80_columns_with_long_numbers():
    fast = {"mi": -0.1234, "images_per_s": 123_456.0}
    sent = live(80, 20_000, [row(10, **fast), row(20, **fast), row(10_001, **fast)])
    assert max(map(len, sent)) <= 80
    last = [line for line in sent if line][-1]
    for part in ("10001/20000", "D 1.39", "G 0.69", "L_I -0.123 of 3.689", "123,456 images/s"):
        assert part in last
    assert re.search(r"\d:\d\d:\d\d left$", last)


def test_messages_stay_above_the_live_row_as_they_are():
    text = "run directory [red]runs/x, " + 60 * "long "
    sent = live(80, 1000, [row(500)], [text])
    assert any(line.endswith(text.rstrip()) for line in sent)


def test_the_display_suits_the_output(capsys, monkeypatch):
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    assert type(open_status(10, 0)) is Status  # captured output is no terminal
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert type(open_status(10, 0)) is LiveStatus
