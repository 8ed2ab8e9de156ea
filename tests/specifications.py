"""Random command lines: what people type, what they mistype, and what nobody would."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal, get_args, get_origin

from fastinfogan.cli import COMMANDS
from fastinfogan.cli.foreign import OPTIONS
from fastinfogan.cli.options import Option, options_of, positionals_of
from fastinfogan.config import PRESETS
from fastinfogan.data import DATASETS

MANY = "9" * 5000  # digits: more than Python reads
NUMBERS = (
    "0", "-1", "1e9", "1000000000", "100000000000", str(2**63 - 1), str(2**63), str(10**30), MANY,
    f"-{MANY}", "nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "0x10", "1_0", "7.5", ".5", "٣",
    "", " 7 ", "1,5", "--", "None", "True",
)  # fmt: skip
# As paths all of them lie in the working directory: commands really write where they are told to.
WORDS = (
    "", " ", "-", "--", "---x", "=", ",", "x", "None", "True", "~", "~/x", "~nosuch/x", "%s", "{0}",
    "$HOME", "ä", "名前", "a\nb", "a\x1b[31mb", "a\tb", "\udcff\udce9", "\0", "x" * 300, "y" * 6000,
    ".", "./x", "x/", "x/y", "run/x", "images/0.png", "C:\\x", "—seed", "[red]x", "[/]", "#1", "*",
    "null", "{}", "[]",
)  # fmt: skip
KINDS = ("cat", "uni", "gauss", "bern", "dog", "")
MODIFIERS = ("", "", "", ":free", ":learned", ":fixed", ":free:learned", ":", ":nonsense")
SIZES = ("", "2", "3", "10", "10", "1024", "1025", "0", "1", "007", MANY, "-3", "1.5")
REPEATS = ("", "", "", "1x", "2x", "64x", "65x", "0x", f"{MANY}x", "x", "-1x")
JITTERS = (
    "rotation", "scale", "shear", "shift", "brightness", "contrast", "exposure", "flip", "wobble",
    "",
)  # fmt: skip
# Numbers with which a command line does its work quickly, where any would do.
QUICK = {"batch-size": ("2", "16", "64"), "jobs": ("1", "2"), "seeds": ("1", "3", "0-2", "1,4")}
SMALL = ("1", "2", "3", "5", "16")
# How often a command is drawn; one that isn't here, 3 times in so many.
OFTEN = {
    "train": 40, "study": 12, "sample": 12, "traverse": 12, "evaluate": 6, "export": 6,
    "explore": 6,
}  # fmt: skip


class Specifications:
    """A stream of command lines that depends on the seed alone.

    Args:
        seed: of the stream.
        places: paths that there are, by what is there: ``run``, ``file``, ``folder``, ``images``.
    """

    def __init__(self, seed: int, places: Mapping[str, str]) -> None:
        self.random = random.Random(seed)
        self.places = places

    def draw(self) -> list[str]:
        """The next one."""
        one = self.random
        name = one.choices(list(COMMANDS), [OFTEN.get(name, 3) for name in COMMANDS])[0]
        command = COMMANDS[name]
        options = options_of(command)
        words: list[str] = []
        for option in one.sample(list(options.values()), min(len(options), one.choice(range(7)))):
            words += self._typed(option)
        for place in positionals_of(command):
            at = one.randrange(len(words) + 1)
            words[at:at] = [self._place(place)] if one.random() < 0.95 else []
        if name == "train" and one.random() < 0.7:
            words.append("--dry-run")
        if name == "doctor" and not words:  # it looks at everything, which takes long
            words.append(one.choice(WORDS[1:]))
        line = [name, *words]
        while line and one.random() < 0.25:
            line = self._mistyped(line)
        return [word for word in line if not word.rpartition("=")[2].startswith("/")]

    def _typed(self, option: Option) -> list[str]:
        one = self.random
        flag = f"--{option.name}"
        if one.random() < 0.1:
            flag = flag.replace("-", "_").replace("__", "--")
        if option.kind is bool and one.random() < 0.9:
            return [one.choice((flag, flag, f"--no-{option.name}"))]
        values = [self._value(option) for _ in range(max(1, option.values))]
        typed = [f"{flag}={values[0]}"] if one.random() < 0.4 else [flag, *values]
        if one.random() < 0.08:
            typed += [flag, self._value(option)]
        return typed

    def _value(self, option: Option) -> str:
        one = self.random
        if one.random() < 0.08:
            return one.choice(WORDS)
        if get_origin(option.kind) is Literal:
            return one.choice(get_args(option.kind))
        if option.name in ("codes", "jitter", "set", "preset", "dataset", "seeds", "device"):
            return getattr(self, f"_{option.name}")()
        if option.kind is int:
            quick = QUICK.get(option.name, SMALL)
            return one.choice(quick if one.random() < 0.6 else NUMBERS)
        if option.kind is float:
            return one.choice(NUMBERS) if one.random() < 0.5 else f"{one.uniform(-3, 3):.3g}"
        if option.kind is bool:
            return one.choice(("True", "False", "yes", "1"))
        return self._place("path")

    def _place(self, wanted: str) -> str:
        one = self.random
        if wanted.startswith("RUN") and one.random() < 0.8:
            return self.places["run"]
        if one.random() < 0.3:
            return one.choice(WORDS)
        return one.choice([*self.places.values(), f"new-{one.randrange(10**6)}", "no/such/place"])

    def _codes(self) -> str:
        one = self.random
        if one.random() < 0.3:
            return one.choice(("cat10,uni,uni", "2xcat3,bern", "gauss:learned,cat2", "uni:free"))
        parts = (REPEATS, KINDS, SIZES, MODIFIERS)
        items = ["".join(map(one.choice, parts)) for _ in range(one.choice((1, 1, 2, 3, 70)))]
        return one.choice((",", ", ", ",,", ";")).join(items)

    def _jitter(self) -> str:
        one = self.random
        count = one.choice((0, 1, 2, 3))
        numbers = (*NUMBERS, "0.1", "0.1", "0.3", "1")
        return ",".join(f"{one.choice(JITTERS)}={one.choice(numbers)}" for _ in range(count))

    def _set(self) -> str:
        one = self.random
        count = one.choice((0, 1, 1, 2))
        codes = ("c1", "c2", "c3", "c2_uni", "c9", "c0", "c", "", "1")
        numbers = (*NUMBERS, "1", "0", "-1.5", "3")
        return ",".join(f"{one.choice(codes)}={one.choice(numbers)}" for _ in range(count))

    def _seeds(self) -> str:
        one = self.random
        if one.random() < 0.6:
            return one.choice(QUICK["seeds"])
        return one.choice(
            ("0", "5-3", "1,1", "1-", "-1", "10001", MANY, f"0-{MANY}", "1;2", "", "a")
        )

    def _device(self) -> str:
        some = ("cpu", "auto", "cuda", "cuda:99", "cuda:-1", f"cuda:{MANY}", "tpu", "cpu:7", "mps")
        return self.random.choice(some)

    def _preset(self) -> str:
        return self.random.choice([*PRESETS, "mnits", "MNIST", "resnet"])

    def _dataset(self) -> str:
        return self.random.choice(["digits"] * 10 + [*DATASETS, "digitz", "CIFAR10", "imagefolder"])

    def _mistyped(self, line: Sequence[str]) -> list[str]:
        one, line = self.random, list(line)
        at = one.randrange(len(line))
        foreign = one.choice(" ".join(OPTIONS.values()).split())
        how = one.randrange(7)
        if how == 0:
            del line[at]
        elif how == 1:
            line.insert(at, line[at])
        elif how == 2:
            line.insert(at, one.choice(WORDS))
        elif how == 3:
            line[at:at] = [f"--{foreign}", *([one.choice(NUMBERS)] * one.randrange(2))]
        elif how == 4:
            word = line[at]
            cut = one.randrange(len(word) + 1)
            line[at] = word[:cut] + word[cut + 1 :]
        elif how == 5:
            other = one.randrange(len(line))
            line[at], line[other] = line[other], line[at]
        else:
            line[at] = line[at].upper()
        return line
