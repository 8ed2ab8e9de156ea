"""A study for people: a table, and a comparison of two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastinfogan.sizes import counted, in_seconds
from fastinfogan.study.choice import CHOICES
from fastinfogan.study.folder import Study

SHARES = ("error", "majority")  # shown in per cent; the smaller the better
SMALLER_IS_BETTER = (*SHARES, "seconds")


def table(study: Study, found: Mapping[str, Any]) -> str:
    """Mean, standard deviation, best and worst of every number, and the choice without labels."""
    done = len(found["seeds"])
    of = f"{study.config.optim.iterations:,} iterations of {study.config.data.dataset}"
    if not done:
        return f"none of {counted(len(study.seeds), 'seed')} is finished: {of}"
    lines = [
        f"{done} of {counted(len(study.seeds), 'seed')}, {of}",
        f"  {'':<22}{'mean':>10}{'std':>10}{'best':>10}{'worst':>10}",
    ]
    for name, s in found["statistics"].items():
        ends = (s["min"], s["max"]) if name in SMALLER_IS_BETTER else (s["max"], s["min"])
        mean, std, *ends = (_shown(name, value) for value in (s["mean"], s["std"], *ends))
        cells = (mean, std if s["n"] > 1 else "-", *ends)
        lines.append(f"  {name:<22}{''.join(f'{cell:>10}' for cell in cells)}")
    collapsed = found["collapsed"]
    lines.append(f"  collapsed: {', '.join(map(str, collapsed)) if collapsed else 'none'}")
    if found["chosen"] is not None:
        score, checked_by, best = CHOICES[found["chosen_by"]]
        numbers = found["seeds"][str(found["chosen"])]["numbers"]
        known = ""
        if checked_by in numbers:
            known = f", {checked_by} {_shown(checked_by, numbers[checked_by])}"
        lines.append(f"  chosen without labels, by {score}: seed {found['chosen']}{known}")
        if found["rank_correlation"] is not None:
            both = {score, checked_by}
            ranked = sum(both <= row["numbers"].keys() for row in found["seeds"].values())
            lines.append(
                f"  its rank correlation with the {checked_by} over {ranked} seeds ({best} is "
                f"best): {found['rank_correlation']:.2f}"
            )
    return "\n".join(lines)


def comparison(names: tuple[str, str], compared: Mapping[str, Mapping[str, float]]) -> str:
    """Two studies side by side, with the p of a two-sided Mann-Whitney test."""
    lines = [f"  {'mean of':<22}{names[0][-16:]:>18}{names[1][-16:]:>18}{'p':>10}"]
    for name, row in compared.items():
        a, b = _shown(name, row["mean_a"]), _shown(name, row["mean_b"])
        lines.append(f"  {name:<22}{a:>18}{b:>18}{row['p']:>10.2g}")
    return "\n".join(lines)


def _shown(name: str, value: float) -> str:
    if name in SHARES:
        return f"{value:.2%}"
    return in_seconds(value) if name == "seconds" else f"{value:.3f}"
