"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastinfogan.config import TrainConfig
from fastinfogan.results.evaluate import Evaluation
from fastinfogan.training.collapse import Sign


@dataclass(frozen=True)
class Facts:
    """A finished run, as its report tells of it.

    Attributes:
        name: of the run.
        command: what a command calls the run, quoted for a shell.
        config: resolved.
        iteration: iterations trained.
        seconds: spent training.
        ended: when.
        trained_on: the images, in words.
        device: what trained, in words.
        environment: name -> value: versions, commit, machine.
        collapse: its signs at the end.
        evaluation: what was measured.
        metrics: rows of metrics.jsonl.
        pictures: name -> PNG: "samples" and "traversal_CODE" for every code.
    """

    name: str
    command: str
    config: TrainConfig
    iteration: int
    seconds: float
    ended: datetime
    trained_on: str
    device: str
    environment: Mapping[str, str]
    collapse: Sequence[Sign]
    evaluation: Evaluation
    metrics: Sequence[Mapping[str, Any]]
    pictures: Mapping[str, bytes]
