"""A known factor of variation, as a dataset declares it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["categorical", "ordered", "cyclic"]


@dataclass(frozen=True)
class Factor:
    """What is known of a column of ``ImageData.factors`` beside its numbers.

    Attributes:
        name: in tables and pictures.
        kind: "categorical": values are only told apart; "ordered": a larger value is more of
            something; "cyclic": ordered, and after ``period`` they begin again.
        period: cyclic factors only, in the values' unit: v and v + period look the same. For 31
            azimuths numbered 0 to 30 it is 31, for azimuths in degrees 360.
    """

    name: str
    kind: Kind = "categorical"
    period: int | None = None

    def __post_init__(self) -> None:
        if (self.period is not None) != (self.kind == "cyclic"):
            raise ValueError(f"factor {self.name!r}: a period is for cyclic factors, and needed")
        if self.period is not None and self.period < 2:
            raise ValueError(f"factor {self.name!r}: period {self.period}; 2 or more works")


def named(rows: Sequence[Factor], names: Sequence[str]) -> tuple[Factor, ...]:
    """The rows of these names, in their order; a name without a row is a categorical factor's."""
    known = {row.name: row for row in rows}
    return tuple(known.get(name, Factor(name)) for name in names)
