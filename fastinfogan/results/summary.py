"""summary.json read back: what a finished run says of itself, if nobody has damaged it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastinfogan.config import TrainConfig
from fastinfogan.errors import why
from fastinfogan.json_files import misfit, parse_json
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.paths import quoted
from fastinfogan.tell import Tell, on_stderr

# What is read again of codes that were compared with known factors.
DISENTANGLEMENT = {
    "scores": {str: (float, None)},
    "correlations": [{"factor": str, "code": str, "value": float}],
}
# What of a summary.json is read again.
_SHAPE = {
    "iterations": int,
    "seconds": float,
    "collapse?": [{"kind": str, "since": int, "says": str}],
    "evaluation": {
        "codes": [{"name": str, "mi": float, "correlation": (float, None)}],
        "clusterings": [
            {"error_hungarian": float, "error_majority": float, "nmi": float, "ari": float}
        ],
        "totals": {"mi": float},
        "code_to_label": {str: [(str, None)]},
        "disentanglement?": (DISENTANGLEMENT, None),  # older runs haven't measured it
    },
    "device": str,
    "versions": {str: str},
}


def read_summary(
    folder: Path, config: TrainConfig, iterations: int, tell: Tell = on_stderr
) -> dict[str, Any] | None:
    """The summary that a run left when it was finished.

    Args:
        folder: the run directory.
        config: the run's.
        iterations: that the run had done then.
        tell: gets a line if the summary is damaged.

    Returns:
        The summary; None if there is none, or one of another number of iterations, or a damaged.
    """
    path = folder / "summary.json"
    try:
        summary = parse_json(path.read_bytes(), {"iterations": int})
        if summary["iterations"] != iterations:
            return None
        problem = misfit(summary, _SHAPE) or _unfit_labels(
            summary["evaluation"]["code_to_label"], config.spec
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = why(error)
    except ValueError as error:
        problem = str(error)
    if problem is None:
        return summary
    tell(
        f"{path} is damaged, passed over: {problem}; what the categories show isn't known until "
        f"fastinfogan train --resume {quoted(folder)} has written it again"
    )
    return None


def _unfit_labels(
    code_to_label: Mapping[str, Sequence[str | None]], spec: LatentSpec
) -> str | None:
    """What of the map isn't of these codes, in words."""
    sizes = {name: code.categories for name, code in zip(spec.names, spec.codes, strict=True)}
    for name, labels in code_to_label.items():
        if sizes.get(name) != len(labels):
            return f"evaluation.code_to_label.{name} doesn't fit the run's codes"
    return None
