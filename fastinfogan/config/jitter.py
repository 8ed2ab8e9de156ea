"""``--jitter``: which small changes leave an image the same, as text."""

from __future__ import annotations

import math
from dataclasses import fields

from fastinfogan.errors import UserError
from fastinfogan.kernels.jitter import MOST, Jitter

# Of what moves in pictures of digits; colour images vary in light as well.
GREY = "rotation=0.3,scale=0.15,shear=0.2,shift=0.08"
COLOUR = f"{GREY},brightness=0.2,contrast=0.2"
_EXAMPLES = dict(item.split("=") for item in f"{COLOUR},exposure=0.4,flip=1".split(","))
AUGMENT_SHARE = 0.5  # of the ranges of --jitter, for what D sees with --augment


def parse_jitter(text: str) -> Jitter:
    """The ranges in ``NAME=RANGE,...``; what isn't named doesn't change.

    Raises:
        UserError: a name is unknown or comes twice, or a range is no number that works.
    """
    names = [f.name for f in fields(Jitter)]
    ranges: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        if name not in names:
            raise UserError(f"--jitter {item!r}: {', '.join(names)} work, as in {GREY}")
        if name in ranges:
            raise UserError(f"--jitter {text!r}: sets {name} twice")
        most = getattr(MOST, name)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name == "flip":
            fits, works = number in (0.0, 1.0), "0 and 1 work"
        else:
            fits, works = 0.0 <= number <= most, f"0 to {most:g} works"
        if not value:
            works += f", as in {name}={_EXAMPLES[name]}"
        if not fits:
            raise UserError(f"--jitter {item!r}: {works}")
        ranges[name] = number
    return Jitter(**ranges)
