"""Correlations of continuous codes with factors whose values have an order, or go round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastinfogan.data.factors import Factor
from fastinfogan.results.factors.codes import Codes


@dataclass(frozen=True)
class FactorCorrelation:
    """The continuous code that goes best with a factor, of all that are regularised.

    Attributes:
        factor: its name.
        code: its name.
        form: "ordered": Pearson's correlation with an ordered factor; with a cyclic one whichever
            is larger of "angle" (the ends of the code's range meet) and "line" (they don't).
        value: -1 to 1; as a line 0 to 1.
    """

    factor: str
    code: str
    form: str
    value: float


def linear(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of (N,) and (N,); 0 if either is constant."""
    if (a == a[0]).all() or (b == b[0]).all():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def as_line(code: np.ndarray, angle: np.ndarray) -> float:
    """How well a linear function of cos and sin of an angle gives a code: R, 0 to 1.

        R^2 = (r_c^2 + r_s^2 - 2 r_c r_s r_cs) / (1 - r_cs^2)

    with r_c, r_s and r_cs the correlations of the code with the cosine, of the code with the sine,
    and of these two (Mardia 1976, "Linear-circular correlation coefficients and rhythmometry"). 1
    for a code that swings once there and back as the angle goes round; 0.78 for one that climbs all
    the way and falls at once.

    Args:
        code: (N,).
        angle: (N,), radians.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    r_c, r_s, r_cs = linear(code, cosine), linear(code, sine), linear(cosine, sine)
    if 1.0 - r_cs**2 < 1e-9:  # two angles at most: cosine and sine say the same
        return max(abs(r_c), abs(r_s))
    squared = (r_c**2 + r_s**2 - 2 * r_c * r_s * r_cs) / (1 - r_cs**2)
    return float(np.sqrt(np.clip(squared, 0.0, 1.0)))


def as_angle(code: np.ndarray, angle: np.ndarray) -> float:
    """How well a code goes round with an angle, if the ends of its range meet: -1 to 1.

    The code is made an angle by its rank, 2 pi rank / N (so that of K values of the angle 1 can't
    quite be reached, but sinc^2(pi / K): 0.997 of 31, 0.95 of 8), and then

        rho = sum_{i<j} sin(a_i - a_j) sin(b_i - b_j)
              / sqrt(sum_{i<j} sin^2(a_i - a_j) sum_{i<j} sin^2(b_i - b_j))

    (Fisher and Lee 1983, "A correlation coefficient for circular data"). 1: once round together;
    -1: once round against each other.

    Args:
        code: (N,).
        angle: (N,), radians.
    """
    from scipy.stats import rankdata

    if (code == code[0]).all():
        return 0.0
    turn = 2 * np.pi * rankdata(code) / len(code)

    def pairs(first: np.ndarray, second: np.ndarray) -> float:
        """Mean over all i, j of 2 sin(a_i - a_j) sin(b_i - b_j)."""
        a, b = np.exp(1j * first), np.exp(1j * second)
        return float(np.abs((a * b.conj()).mean()) ** 2 - np.abs((a * b).mean()) ** 2)

    of_code, of_angle = pairs(turn, turn), pairs(angle, angle)
    if min(of_code, of_angle) < 1e-9:  # angles that are equal or opposite go nowhere round
        return 0.0
    return float(pairs(turn, angle) / np.sqrt(of_code * of_angle))


def best_correlations(
    codes: Codes, factors: np.ndarray, rows: Sequence[Factor]
) -> tuple[FactorCorrelation, ...]:
    """Of each factor that has an order or goes round, the continuous code with the largest.

    Args:
        codes: of N images.
        factors: int64 (N, F), of the same images.
        rows: (F,), what they are.
    """
    numbers = {
        name: codes.values[:, i]
        for i, (name, count) in enumerate(zip(codes.names, codes.categories, strict=True))
        if not count
    }
    found = []
    for values, row in zip(factors.T, rows, strict=True):
        if row.kind == "categorical":
            continue
        forms = {"ordered": (linear, values)}
        if row.period is not None:
            angle = 2 * np.pi * values / row.period
            forms = {"angle": (as_angle, angle), "line": (as_line, angle)}
        every = [
            FactorCorrelation(row.name, name, form, formula(code, known))
            for name, code in numbers.items()
            for form, (formula, known) in forms.items()
        ]
        if every:
            found.append(max(every, key=lambda one: abs(one.value)))
    return tuple(found)
