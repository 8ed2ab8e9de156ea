"""The command line: parse with tyro, run the command, turn a mistake into one line and exit code 2.

A command is a dataclass in one of this folder's files: its fields are the options, its docstrings
the help, and calling it does the work and returns the exit code. Whatever needs torch is imported
in that call, so that ``--help`` doesn't wait. A new command also needs a row in ``COMMANDS``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from operator import or_
from typing import Annotated, Any, NoReturn

import tyro

from fastinfogan.cli.animate import Animate
from fastinfogan.cli.data import Datasets, Ingest
from fastinfogan.cli.doctor import Doctor
from fastinfogan.cli.explore import Explore
from fastinfogan.cli.foreign import command_hint
from fastinfogan.cli.interrupt import interrupted
from fastinfogan.cli.loading import loading
from fastinfogan.cli.options import DASHES, fill_lines, mistake, spelt_out
from fastinfogan.cli.results import Evaluate, Export, Sample, Traverse
from fastinfogan.cli.study import Study
from fastinfogan.cli.train import Train
from fastinfogan.errors import TrainingDiverged, UserError, is_out_of_memory, one_line
from fastinfogan.ranks.place import only_the_first_speaks, several
from fastinfogan.tell import on_stderr, open_closed_streams, undelivered, unprinted

COMMANDS = {
    "train": Train,
    "study": Study,
    "evaluate": Evaluate,
    "sample": Sample,
    "traverse": Traverse,
    "animate": Animate,
    "explore": Explore,
    "export": Export,
    "ingest": Ingest,
    "datasets": Datasets,
    "doctor": Doctor,
}
READER_LEFT = 128 + 13  # as if SIGPIPE had ended the command
_STYLE = (tyro.conf.OmitArgPrefixes,)
_SHELLS = ("bash", "zsh", "tcsh", "fish")  # that tyro writes completions for


def parse(arguments: Sequence[str]) -> Any:
    """The command that the arguments ask for.

    Args:
        arguments: what was typed after ``fastinfogan``.

    Returns:
        An instance of one of ``COMMANDS``.

    Raises:
        SystemExit: the arguments ask for help (code 0), or can't be parsed (code 2, after a line
            that says why).
        UserError: an option was given twice, or ``--resume`` names no run directory.
    """
    arguments = arguments or [""]
    name, *rest = arguments
    if name in ("-h", "--help", "help") or _asks_for_completion(arguments):
        _show_help(["--help"] if name == "help" else arguments)
    kind = COMMANDS.get(name)
    if kind is None:
        known = f"fastinfogan COMMAND --help says more of {', '.join(COMMANDS)}"
        if not name:
            _refuse(f"name a command; {known}")
        if name[0] in DASHES:
            _refuse(f"{name}: the command comes first, as in fastinfogan train; {known}")
        _refuse(f"{name!r} is no command; {known}{command_hint(name)}")
    command = _parse_one(name, rest)
    # What isn't given keeps the value that the run, or study, was started with, not the default.
    if isinstance(command, Train | Study) and (saved := command.saved()) is not None:
        default = type(command)(saved.data, saved.model, saved.optim, saved.run)
        command = _parse_one(name, rest, default=default)
    return command


def _asks_for_completion(arguments: Sequence[str]) -> bool:
    """Whether they ask tyro for a script with which a shell completes options."""
    words = {"--tyro-print-completion": 2, "--tyro-write-completion": 3}.get(arguments[0], 0)
    if words and (len(arguments) < words or arguments[1] not in _SHELLS):
        file = " and a file" if words == 3 else ""
        raise UserError(f"{arguments[0]}: name a shell ({', '.join(_SHELLS)}){file} after it")
    return words > 0


def _show_help(arguments: Sequence[str]) -> None:
    choices = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()]
    with _wide_enough():
        tyro.cli(
            reduce(or_, choices), prog="fastinfogan", args=arguments, config=_STYLE,
            description="Train InfoGAN, and see what its codes have learned.",
        )  # fmt: skip


def _parse_one(name: str, arguments: Sequence[str], **options: Any) -> Any:
    """One command's options: building the parsers of all the others takes longer than the rest."""
    kind, said = COMMANDS[name], io.StringIO()
    if "-h" in arguments or "--help" in arguments:
        fill_lines(kind)
    as_typed = arguments and _asks_for_completion(arguments)
    words = arguments if as_typed else spelt_out(kind, arguments)
    try:
        with contextlib.redirect_stderr(said), _wide_enough():
            return tyro.cli(kind, prog=f"fastinfogan {name}", args=words, config=_STYLE, **options)
    except SystemExit as refused:
        if not refused.code:  # help
            raise
    # A box: what is wrong, a rule, help on it.
    inside = [line.strip("│╭╰╮╯─| ") for line in said.getvalue().splitlines()[1:]]
    reason = " ".join(inside[: inside.index("")] if "" in inside else inside)
    _refuse(mistake(name, COMMANDS, arguments, reason))


def _refuse(reason: str) -> NoReturn:
    on_stderr(f"error: {reason}")
    raise SystemExit(2)


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Inside, no terminal has fewer than 40 columns: in a few, tyro lays its help out for ever."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns >= 40:
        yield
        return
    os.environ["COLUMNS"] = "40"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _any_text(*streams: Any) -> None:
    """Let the streams print any text: a file's name may hold what the terminal can't show."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what was typed after ``fastinfogan``; None for this process's own.

    Returns:
        The exit code: 0, 2 for a mistake, 1 for a run that diverged, 128 + the signal if one
        ended the command.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    open_closed_streams()
    _any_text(sys.stdout, sys.stderr)
    try:
        with only_the_first_speaks():
            code, problem = _run(arguments), undelivered()
    except SystemExit as end:  # help, a mistake, or rich's answer to a broken pipe
        broken = isinstance(end.__context__, BrokenPipeError)
        code, problem = (0, end.__context__) if broken else (end.code, undelivered())
        if problem is None:
            raise
    if problem is None or code:
        return code
    if isinstance(problem, BrokenPipeError):
        return READER_LEFT
    on_stderr(f"error: {unprinted(problem)}")
    return 2


def _check_current_folder() -> None:
    """Libraries end the process, or name no file, where it is gone."""
    try:
        os.getcwd()
    except OSError:
        raise UserError("the current folder is not there any more; change to another") from None


def _together(arguments: Sequence[str]) -> AbstractContextManager[Any]:
    """What makes ranks of the processes that torchrun has started, before a mistake can part them.

    Other commands than those that train do the same in any process.
    """
    if arguments[:1] not in (["train"], ["study"]) or not several(os.environ):
        return contextlib.nullcontext()
    with loading():
        from fastinfogan.ranks.joining import joined
    return joined()


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] in (["--version"], ["-V"], ["version"]):
        from importlib.metadata import version

        print(f"fastinfogan {version('fastinfogan')}")
        return 0
    try:
        _check_current_folder()
        with _together(arguments):
            return parse(arguments)()
    except UserError as error:
        on_stderr(f"error: {error}")
        return 2
    except TrainingDiverged as error:
        on_stderr(f"stopped: {error}")
        return 1
    except BrokenPipeError:  # whoever read this has seen enough
        return READER_LEFT
    except OSError as error:  # a full disk, a folder that can't be written to
        # What writes files names them.
        printing = error.errno == errno.ENOSPC and error.filename is None
        on_stderr(f"error: {unprinted(error) if printing else one_line(error)}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        on_stderr(f"error: out of memory; ask for less at once, or free some ({one_line(error)})")
        return 2
    except KeyboardInterrupt as error:  # while training, the trainer takes it, and saves
        on_stderr(interrupted("".join(arguments[:1]), error))
        return 130
