"""How the program tells its user something: a line at a time, also where nobody can read it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from fastinfogan.errors import why
from fastinfogan.printable import printable

Tell = Callable[[str], None]


def on_stderr(line: str) -> None:
    """What functions do with a line unless they are handed another ``tell``."""
    if sys.stderr is None:  # closed: print() would take standard output
        return
    try:
        print(f"fastinfogan: {printable(line)}", file=sys.stderr, flush=True)
    except OSError:  # nobody can be told
        discard(sys.stderr)


@contextlib.contextmanager
def lasting_output(note: str) -> Iterator[None]:
    """Inside, standard output that can't be written is no error: it is dropped.

    A reader that leaves (``| head``), a full disk and a terminal that closes are no reason to lose
    hours of work.

    Args:
        note: said on standard error when it happens, after the reason.
    """
    if sys.stdout is None:  # closed: print() does nothing, and neither does this
        yield
        return
    stream = sys.stdout
    try:
        with contextlib.redirect_stdout(Lasting(stream, note)):  # type: ignore[type-var]
            yield
    finally:
        try:
            stream.flush()
        except OSError:  # it still has what there was no room for
            discard(stream)


def undelivered() -> OSError | None:
    """Write what is left of standard output; why that can't be done, if it can't."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        return error
    return None


def unprinted(error: OSError) -> str:
    """What is said when standard output can't be written."""
    return f"standard output can't be written ({why(error)})"


def discard(stream: TextIO) -> None:
    """Let what a stream holds, and whatever is still written to it, go nowhere.

    Otherwise the interpreter tries once more when it ends, and complains.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def open_closed_streams() -> None:
    """Give standard streams that were closed (``>&-``) a place that isn't a file of ours.

    The next file that is opened would get their number, and what a library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class Lasting:
    """A text stream that goes on where the one behind it can't.

    Args:
        stream: the one behind it.
        note: said on standard error when it can't, after the reason; None: nothing is.
    """

    def __init__(self, stream: TextIO, note: str | None = None) -> None:
        self._stream, self._note = stream, note
        self._lost = False

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[..., Any], *arguments: str) -> None:
        if self._lost:
            return
        try:
            act(*arguments)
        except BlockingIOError:
            pass  # the reader is slow: what there was no room for is dropped
        except OSError as error:
            self._lost = True
            discard(self._stream)
            if self._note is not None:
                on_stderr(f"{unprinted(error)}; {self._note}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
