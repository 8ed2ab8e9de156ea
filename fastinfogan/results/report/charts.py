"""What the report's curves show: rows of metrics as series of numbers, for curves.js to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.factors.measure import SCORES

Row = Mapping[str, Any]
MOST_POINTS = 1000  # of a curve; of more rows, so many in a row become their mean
DIGITS = 5  # of a number
_LEAST_MI = -1.0  # nats: knowing nothing costs less; a worse start would only flatten what follows
_WIDE = 8.0  # largest to smallest; from there on a logarithmic axis shows more


def charts(rows: Sequence[Row], spec: LatentSpec) -> list[dict[str, Any]]:
    """Each chart as JSON values.

    Args:
        rows: of metrics.jsonl.
        spec: of the run's codes.

    Returns:
        For each ``title``, ``unit`` (nats, %, images/s or none), ``x`` (iterations), ``series``
        (``name`` and ``y``, as long as ``x``; None where a row that somebody changed holds no
        number), ``lines`` (``name`` and ``y``, one number), ``log``
        (whether its axis begins logarithmic; None where it can't be), ``each`` (rows in a point),
        and ``range``, the least and greatest value of its axis, None where its values decide.
    """
    return [chart for chart in _all(rows, spec) if chart["series"]]


def _all(rows: Sequence[Row], spec: LatentSpec) -> Iterator[dict[str, Any]]:
    for title, discrete in (("categories", True), ("continuous codes", False)):
        codes = [i for i in spec.regularized if spec.codes[i].is_discrete == discrete]
        ceilings = {}
        for code in (spec.codes[i] for i in codes):
            name = "H(c)" if discrete else f"the best that Q's form reaches, σ {code.std}"
            ceilings.setdefault((name, code.best_mi))
        yield _chart(
            f"L_I of {title}", "nats", rows,
            {spec.names[i]: _of_code(spec.names[i]) for i in codes},
            lines=list(ceilings), limits=(_LEAST_MI, None),
        )  # fmt: skip
    yield _chart(
        "Losses", "nats", rows,
        {"D": lambda row: row["d_loss"], "G": lambda row: row["g_loss"]},
        lines=[("D knows nothing: 2 log 2", 2 * math.log(2))],
    )  # fmt: skip
    yield _chart(
        "What D believes", "", rows,
        {  # exact: the losses are means of -log of these
            "right, of real and generated images": lambda row: _exp(-row["d_loss"] / 2),
            "real, of generated images": lambda row: _exp(-row["g_loss"]),
        },
        lines=[("D knows nothing", 0.5)], limits=(0.0, 1.0),
    )  # fmt: skip
    measured = [row for row in rows if row.get("evaluation")]
    yield _chart(
        "Error against labels, Hungarian", "%", measured,
        {
            name: _error_of(name)
            for name in spec.names
            if measured and all(name in row["evaluation"] for row in measured)
        },
    )  # fmt: skip
    compared = [row for row in rows if row.get("disentanglement")]
    for title, numbers in (
        ("Best |correlation| of a code with a factor", _correlations),
        ("Scores of disentanglement", _scores),
    ):
        found = [numbers(row) for row in compared]
        yield _chart(
            title, "", compared,
            {
                name: _of_numbers(name, numbers)
                for name in (found[-1] if found else ())
                if all(name in one for one in found)
            },
            limits=(0.0, 1.0),
        )  # fmt: skip
    for title, unit, key in (
        ("Consistency, L_cons", "nats", "consistency"),
        ("Which code a pair shares, L_contr", "nats", "contrastive"),
        ("How far two codes change an image alike, L_orth", "", "orthogonal"),
        ("Speed", "images/s", "images_per_s"),
    ):  # fmt: skip
        there = all(isinstance(row.get(key), int | float) for row in rows)
        yield _chart(title, unit, rows, {key: _number(key)} if there else {})


def _of_code(name: str) -> Callable[[Row], float]:
    return lambda row: row["mi_per_code"][name]


def _error_of(name: str) -> Callable[[Row], float]:
    return lambda row: 100 * row["evaluation"][name]["error_hungarian"]


def _correlations(row: Row) -> dict[str, float]:
    return {one["factor"]: abs(one["value"]) for one in row["disentanglement"]["correlations"]}


def _scores(row: Row) -> dict[str, float]:
    scores = row["disentanglement"]["scores"]
    return {SCORES.get(name, name): value for name, value in scores.items() if value is not None}


def _of_numbers(name: str, numbers: Callable[[Row], Mapping[str, float]]) -> Callable[[Row], float]:
    return lambda row: numbers(row)[name]


def _number(key: str) -> Callable[[Row], float]:
    return lambda row: row[key]


def _chart(
    title: str,
    unit: str,
    rows: Sequence[Row],
    series: Mapping[str, Callable[[Row], float]],
    *,
    lines: Sequence[tuple[str, float]] = (),
    limits: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    each = max(1, math.ceil(len(rows) / MOST_POINTS))
    values = {name: _means([of(row) for row in rows], each) for name, of in series.items()}
    every = [value for ys in values.values() for value in ys if value is not None]
    log = None
    if every and min(every) > 0 and limits == (None, None):
        log = max(every) > _WIDE * min(every)
    return {
        "title": title,
        "unit": unit,
        "x": [row["iteration"] for row in rows[each - 1 :: each]]
        + [row["iteration"] for row in rows[-1:] if len(rows) % each],
        "series": [{"name": name, "y": ys} for name, ys in values.items() if ys],
        "lines": [{"name": name, "y": _short(value)} for name, value in lines],
        "log": log,
        "each": each,
        "range": list(limits),
    }


def _means(values: Sequence[float], each: int) -> list[float | None]:
    """Of so many values in a row, as few digits as can be seen."""
    with np.errstate(all="ignore"):
        return [_short(np.mean(values[i : i + each])) for i in range(0, len(values), each)]


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
