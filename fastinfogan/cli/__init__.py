"""The command line: parse with tyro, run the command, turn a mistake into one line and exit code 2.

A command is a dataclass in one of this folder's files: its fields are the options, its docstrings
the help, and calling it does the work and returns the exit code. Whatever needs torch is imported
in that call, so that ``--help`` doesn't wait. A new command also needs a row in ``COMMANDS``.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

import tyro

from fastinfogan.cli.data import Datasets, Ingest
from fastinfogan.cli.doctor import Doctor
from fastinfogan.cli.interrupt import INTERRUPTED
from fastinfogan.cli.results import Evaluate, Export, Sample, Traverse
from fastinfogan.cli.study import Study
from fastinfogan.cli.train import Train
from fastinfogan.errors import TrainingDiverged, UserError, one_line
from fastinfogan.tell import on_stderr, open_closed_streams, undelivered, unprinted

COMMANDS = {
    "train": Train,
    "study": Study,
    "evaluate": Evaluate,
    "sample": Sample,
    "traverse": Traverse,
    "export": Export,
    "ingest": Ingest,
    "datasets": Datasets,
    "doctor": Doctor,
}
READER_LEFT = 128 + 13  # as if SIGPIPE had ended the command
_STYLE = (tyro.conf.OmitArgPrefixes,)

# Yes, no, or whatever suits the device when not given: a flag to type, True or False to tyro.
_SWITCHES = ("augment", "compile", "cuda-graphs")


def _spell_out(arguments: Sequence[str]) -> list[str]:
    """``--compile`` -> ``--compile True``, ``--no-compile`` -> ``--compile False``."""
    spelled = []
    for i, argument in enumerate(arguments):
        spelled.append(argument)
        for name in _SWITCHES:
            if argument == f"--no-{name}":
                spelled[-1:] = [f"--{name}", "False"]
            elif argument == f"--{name}" and arguments[i + 1 : i + 2] not in (["True"], ["False"]):
                spelled.append("True")
    return spelled


def parse(arguments: Sequence[str]) -> Any:
    """The command that the arguments ask for.

    Args:
        arguments: what was typed after ``fastinfogan``.

    Returns:
        An instance of one of ``COMMANDS``.

    Raises:
        SystemExit: the arguments can't be parsed (code 2), or ask for help (code 0).
        UserError: ``--resume`` names no run directory.
    """
    arguments = _spell_out(arguments)
    kind = COMMANDS.get(arguments[0]) if arguments else None
    if kind is None:  # help, or a mistake
        choices = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()]
        return tyro.cli(
            reduce(or_, choices), prog="fastinfogan", args=arguments, config=_STYLE,
            description="Train InfoGAN, and see what its codes have learned.",
        )  # fmt: skip
    command = _parse_one(kind, arguments)
    # What isn't given keeps the value that the run, or study, was started with, not the default.
    if isinstance(command, Train | Study) and (saved := command.saved()) is not None:
        default = type(command)(saved.data, saved.model, saved.optim, saved.run)
        command = _parse_one(kind, arguments, default=default)
    return command


def _parse_one(kind: type, arguments: Sequence[str], **options: Any) -> Any:
    """One command's options: building the parsers of all the others takes longer than the rest."""
    return tyro.cli(
        kind, prog=f"fastinfogan {arguments[0]}", args=arguments[1:], config=_STYLE, **options
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what was typed after ``fastinfogan``; None for this process's own.

    Returns:
        The exit code: 0, 2 for a mistake, 1 for a run that diverged, 128 + the signal if one
        ended the command.
    """
    open_closed_streams()
    try:
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


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return parse(sys.argv[1:] if arguments is None else arguments)()
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
    except KeyboardInterrupt:  # while training, the trainer takes it, and saves
        on_stderr(INTERRUPTED)
        return 130
