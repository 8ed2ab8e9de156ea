"""What may be typed after a command: options given twice, and what was wrong with the rest.

tyro reads the options. It lets the last of two win, and says what it can't read in a box of several
lines; here the first is added up or refused, and the second becomes one line.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from fastinfogan.cli.foreign import instead_of_option
from fastinfogan.config.types import kinds
from fastinfogan.errors import UserError
from fastinfogan.paths import expanded

LISTS = ("codes", "jitter", "set")  # their values are lists: two of them are one longer list
DASHES = "-–—−"  # a hyphen, and what word processors make of two


class Option(NamedTuple):
    """An option of a command.

    Attributes:
        name: as typed, without the dashes.
        kind: what its value is: int, float, str, Path, a Literal, or bool.
        values: how many words follow it.
        may_be_unset: its default is None.
        has_no: --no-NAME is there, too.
    """

    name: str
    kind: Any
    values: int
    may_be_unset: bool
    has_no: bool

    @property
    def takes(self) -> str:
        """What works as its value, in words."""
        if typing.get_origin(self.kind) is Literal:
            return f"{', '.join(map(str, typing.get_args(self.kind)))} work"
        if self.kind is bool:
            return "True and False work"
        return {int: "a whole number works", float: "a number works"}.get(
            self.kind, "its value is missing"
        )

    def fits(self, word: str) -> bool:
        """Whether a word can be its value."""
        if self.may_be_unset and word == "None":
            return True
        if typing.get_origin(self.kind) is Literal:
            return word in typing.get_args(self.kind)
        if self.kind is bool:
            return word in ("True", "False")
        if self.kind in (int, float):
            try:
                self.kind(word)
            except ValueError:
                return False
        return True


class Given(NamedTuple):
    """An option as it was typed.

    Attributes:
        option: which.
        flag: as it was spelt.
        words: its values.
        off: it was --no-NAME.
    """

    option: Option
    flag: str
    words: list[str]
    off: bool


class Typed(NamedTuple):
    """A command line, taken apart.

    Attributes:
        given: the options in order.
        unknown: what looks like an option and is none of this command's.
        words: the rest, in order.
    """

    given: list[Given]
    unknown: list[str]
    words: list[str]


@cache
def options_of(command: type) -> dict[str, Option]:
    """A command's options by their names."""
    return {option.name: option for option in _options(command)}


def _options(tree: type) -> Iterator[Option]:
    hints = typing.get_type_hints(tree, include_extras=True)
    for field in dataclasses.fields(tree):
        hint, marks = hints[field.name], []
        if typing.get_origin(hint) is typing.Annotated:
            hint, *marks = typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            yield from _options(hint)
        elif tyro.conf.Positional not in marks:
            parts = kinds(hint)
            kind = next(part for part in parts if part is not type(None))
            unset = type(None) in parts
            values = 1
            if typing.get_origin(kind) is tuple:
                values, kind = len(typing.get_args(kind)), typing.get_args(kind)[0]
            elif kind is bool and not unset:
                values = 0
            has_no = kind is bool and tyro.conf.FlagCreatePairsOff not in marks
            yield Option(field.name.replace("_", "-"), kind, values, unset, has_no)


def fill_lines(tree: type) -> None:
    """Have ``--help`` break lines where they are full, instead of where the source does.

    tyro shows the docstring of a field with the indentation that its second line has there.
    """
    import docstring_parser  # only now: --help alone needs it

    for kind in filter(dataclasses.is_dataclass, tree.__mro__):
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in docstring_parser.parse_from_object(kind).params:
            if field.arg_name in kind.__annotations__ and field.description:
                marks = tyro.conf.arg(help=" ".join(field.description.split()))
                kind.__annotations__[field.arg_name] = Annotated[hints[field.arg_name], marks]
    for part in filter(dataclasses.is_dataclass, typing.get_type_hints(tree).values()):
        fill_lines(part)


def positionals_of(command: type) -> list[str]:
    """What a command takes beside options, as --help names it."""
    hints = typing.get_type_hints(command, include_extras=True)
    marks = [typing.get_args(hint)[1:] for hint in hints.values()]
    return [
        next(mark.metavar for mark in some if getattr(mark, "metavar", None))
        for some in marks
        if tyro.conf.Positional in some
    ]


def take_apart(command: type, arguments: Sequence[str]) -> Typed:
    """Sort what was typed after a command."""
    options, typed = options_of(command), Typed([], [], [])
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            typed.words.extend(rest)
            break
        if not _looks_like_option(word):
            typed.words.append(word)
            continue
        flag, equals, value = word.partition("=")
        name = flag[2:].replace("_", "-") if flag.startswith("--") else ""
        option = options.get(name) or options.get(name.removeprefix("no-"))
        if option is None or not (option.name == name or option.has_no):
            if flag not in ("-h", "--help"):
                typed.unknown.append(flag)
            continue
        words = [value] if equals else []
        takes = option.values if option.name == name else 0  # nothing follows --no-NAME
        while not equals and len(words) < takes and rest and not _looks_like_option(rest[0]):
            words.append(rest.pop(0))
        typed.given.append(Given(option, flag, words, option.name != name))
    return typed


def _looks_like_option(word: str) -> bool:
    return word[:1] in DASHES and word.lstrip(DASHES)[:1].isalpha() and not _is_number(word)


def _is_number(word: str) -> bool:
    try:
        float(word)  # -inf, -nan
    except ValueError:
        return False
    return True


def spelt_out(command: type, arguments: Sequence[str]) -> list[str]:
    """The arguments with every option once.

    ``--augment`` becomes ``--augment True`` and ``--no-augment`` ``--augment False``: options that
    are on, off, or whatever suits the device or the preset, are flags to type and words to tyro.
    Lists that were given in parts are put together at the end.

    Raises:
        UserError: an option that isn't a list was given twice; or a path that can't be.
    """
    typed = take_apart(command, arguments)
    if typed.unknown:
        return list(arguments)  # tyro says no, or shows its help
    by_name: dict[str, list[Given]] = {}
    for given in typed.given:
        by_name.setdefault(given.option.name, []).append(given)
    for name, times in by_name.items():
        if len(times) > 1 and name not in LISTS:
            both = " and ".join(" ".join([given.flag, *given.words]) for given in times[:2])
            raise UserError(f"{both}: --{name} counts once; leave one of them out")
    helps = [word for word in arguments if word in ("-h", "--help")]
    options = [word for times in by_name.values() for word in _as_tyro(times)]
    words = [str(expanded(word)) for word in typed.words]
    return [*options, *helps, *(["--", *words] if words else [])]


def _as_tyro(times: Sequence[Given]) -> list[str]:
    """One option, given once or, if it is a list, in parts."""
    option = times[0].option
    words = [word for given in times for word in given.words]
    if option.kind is Path:
        if "" in words:
            raise UserError(f"--{option.name} '': a path is missing")
        try:
            words = [str(expanded(word)) for word in words]
        except UserError as error:
            raise UserError(f"--{option.name} {error}") from None
    if len(times) > 1:
        words = [",".join(words)]
    if option.kind is bool and option.values and not words:
        words = [str(not times[0].off)]
    elif times[0].off:
        return [f"--no-{option.name}", *words]
    # Joined, so that a value that looks like an option is none.
    return [f"--{option.name}={words[0]}"] if len(words) == 1 else [f"--{option.name}", *words]


def mistake(name: str, commands: Mapping[str, type], arguments: Sequence[str], said: str) -> str:
    """What was wrong with a command line that tyro refused, in one line.

    Args:
        name: of the command.
        commands: every command's class by its name.
        arguments: what was typed after the name.
        said: tyro's text.
    """
    command = commands[name]
    typed = take_apart(command, arguments)
    if typed.unknown:
        flag = typed.unknown[0]
        options = {name: options_of(kind) for name, kind in commands.items()}
        return f"{flag}: {instead_of_option(flag.strip(DASHES), name, options)}"
    for option, flag, words, off in typed.given:
        for word in words:
            if off or not option.values:
                return f"{flag} {word}: it takes no value; {flag} alone works"
            if not option.fits(word):
                return f"{flag} {word}: {option.takes}"
        if option.name == "compare" and len(words) < option.values:
            return f"{' '.join([flag, *words])}: two studies are needed, as in {flag} A B"
        if len(words) < option.values and words != ["None"]:
            return f"{flag}: {option.takes if not words else 'a value is missing'}"
    wanted = positionals_of(command)
    if len(typed.words) < len(wanted):
        return f"{name}: name a {wanted[0]}, as in fastinfogan {name} {wanted[0]}"
    if len(typed.words) > len(wanted):
        word = typed.words[len(wanted)]
        return f"{word!r} isn't expected here; fastinfogan {name} --help says what is"
    return said
