"""A collapsed GAN, noticed: what shows it in the metrics and in the images, and what helps.

    discriminator  D's loss is next to zero: it is never wrong, and G learns nothing from it
    information    L_I is far below what it was: Q reads less than half of that from the images;
                   or it never rose above what Q can say without looking at them
    images         all generated images are next to the same, or are where nothing but the noise,
                   or the codes, changes

Losses are judged over the last iterations (a tenth of the run, at most 100), so that one bad moment
isn't a collapse, and images once there was time to learn any.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData
from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, Code
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.pictures import generate
from fastinfogan.tell import Tell
from fastinfogan.training.metrics import read_metrics

_NEVER_WRONG = 0.05  # nats: a D that is never wrong has nothing left to teach
_LEFT = 0.5  # of the information that there was; below it, most of it is lost
_LEARNED = 0.25  # of what can be known: with less, there is nothing yet to be lost
_NOTHING = 0.05  # of what can be known; a Q that never knew more reads nothing
_SPREAD, _SPREAD_OF_ONE = 0.05, 0.01  # of the real images'; below it, images are alike
_LOOK_AFTER, _KNOWS_AFTER = 100, 500  # iterations, before which images and L_I say nothing
_SIDE = 8  # values of noise, and of codes, that are looked at together

_WIN = "a lower --lr-d, --augment, a larger --batch-size or another --seed may help"
_CALM = "lower --lr-d and --lr-g, a larger --batch-size, --augment or another --seed may help"


class Sign(NamedTuple):
    """A sign of collapse.

    Attributes:
        kind: discriminator, information or images.
        since: iteration at which it was seen.
        says: what was seen, and what may help.
    """

    kind: str
    since: int
    says: str


class Watch:
    """Looks out for signs of collapse while a run trains.

    Args:
        config: of the run.
        data: real images, for comparison.
        metrics: the run's metrics.jsonl: what earlier sessions saw, of which nothing is said again.
        tell: gets a line when a sign is first seen, and when it has gone.
    """

    def __init__(self, config: TrainConfig, data: ImageData, metrics: Path, tell: Tell) -> None:
        self._config, self._tell = config, lambda line: None
        self._patience = min(100, max(1, config.optim.iterations // 10))
        self._rows: deque[tuple[int, int, float, float]] = deque()
        self._iteration, self._best = 0, -math.inf
        self._real = spread(data.images[:: max(1, len(data) // 1000)][:1000])
        self._signs: dict[str, Sign] = {}
        self._knows = config.optim.objective == "infogan"  # otherwise nothing makes L_I rise
        for row in read_metrics(metrics):
            self.see(row)
        self._tell = tell

    @property
    def signs(self) -> tuple[Sign, ...]:
        """What there is to see now."""
        return tuple(self._signs.values())

    def see(self, row: Mapping[str, Any]) -> None:
        """Judge a new row of metrics."""
        at = row["iteration"]
        self._rows.append((at, at - self._iteration, row["d_loss"], row["mi"]))
        self._iteration = at
        while self._rows and self._rows[0][0] <= at - self._patience:
            self._rows.popleft()
        spans = [span for _, span, _, _ in self._rows]
        if sum(spans) < min(self._patience, at):
            return
        d_loss = np.average([d for _, _, d, _ in self._rows], weights=spans)
        says = f"D's loss is {d_loss:.3f}: it is never wrong, and G learns nothing from it"
        self._judge("discriminator", d_loss < _NEVER_WRONG, says, _WIN)
        if self._knows:
            self._judge_information(np.average([mi for *_, mi in self._rows], weights=spans))

    def _judge_information(self, mi: float) -> None:
        spec = self._config.spec
        without_looking, best = blind_information(spec), self._best
        possible = sum(spec.codes[i].best_mi for i in spec.regularized) - without_looking
        self._best = max(best, mi)
        had, has = best - without_looking, mi - without_looking
        lost = had > _LEARNED * possible and has < _LEFT * had
        never = (
            self._iteration >= _KNOWS_AFTER and self._best - without_looking < _NOTHING * possible
        )
        says = f"L_I is {mi:.3f}, and was {best:.3f}"
        if never:
            says = f"L_I is {mi:.3f}: Q reads no code from the images"
        self._judge("information", lost or never, says, _CALM)

    def look(self, generator: nn.Module) -> None:
        """Judge generated images, once there was time to learn any."""
        if self._iteration < _LOOK_AFTER:
            return
        config = self._config
        with in_eval_mode(generator):
            found = variety(generator, config.spec, config.architecture.output_range)
        alike = [
            says
            for counts, value, least, says in (
                (True, found.images, _SPREAD, "all generated images are alike"),
                (self._knows, found.codes, _SPREAD_OF_ONE, "no code changes the images"),
                (
                    config.model.noise,
                    found.noise,
                    _SPREAD_OF_ONE,
                    "noise changes no image",
                ),
            )
            if counts and value < least * self._real
        ]
        self._judge("images", bool(alike), alike[0] if alike else "", _CALM)

    def _judge(self, kind: str, seen: bool, says: str, helps: str) -> None:
        before = self._signs.pop(kind, None)
        if seen:
            since = self._iteration if before is None else before.since
            self._signs[kind] = Sign(kind, since, f"{says}; {helps}")
        if seen and before is None:
            self._tell(f"warning: collapsing at iteration {self._iteration}? {says}; {helps}")
        elif before is not None and not seen:
            self._tell(f"iteration {self._iteration}: no longer ({before.says.split(';')[0]})")


class Variety(NamedTuple):
    """How much generated images differ from each other, as ``spread`` has it.

    Attributes:
        images: all.
        noise: those with the same codes.
        codes: those with the same noise.
    """

    images: float
    noise: float
    codes: float


def variety(generator: nn.Module, spec: LatentSpec, output_range: tuple[float, float]) -> Variety:
    """How much 64 images differ: of eight values of the noise, with eight of the codes each.

    Args:
        generator: in eval mode.
        spec: of its latents.
        output_range: what is black and white to it.
    """
    noise, values = spec.sample(_SIDE, 2, 0)
    every = Latents(noise.repeat_interleave(_SIDE, 0), values.repeat(_SIDE, 1))
    images = generate(generator, spec, every, output_range)
    grid = images.reshape(_SIDE, _SIDE, *images.shape[1:])
    return Variety(
        spread(images),
        float(np.mean([spread(grid[:, j]) for j in range(_SIDE)])),
        float(np.mean([spread(row) for row in grid])),
    )


def spread(images: np.ndarray) -> float:
    """How much images differ: the root of the mean variance of a pixel, 0 to 127.5.

    Args:
        images: uint8 (N, H, W, C).
    """
    return math.sqrt(images.var(axis=0, dtype=np.float64).mean())


def blind_information(spec: LatentSpec) -> float:
    """L_I of a Q that knows the codes' priors and doesn't look at images, in nats."""
    return sum(_blind(spec.codes[i]) for i in spec.regularized)


def _blind(code: Code) -> float:
    if code.is_discrete:
        return 0.0
    variance = 1 / 3 if code.kind == "uniform" else 1.0
    if code.std == "learned":
        return code.entropy - HALF_LOG_TWO_PI - 0.5 * (1 + math.log(variance))
    return code.entropy - HALF_LOG_TWO_PI - 0.5 * variance
