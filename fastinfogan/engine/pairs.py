"""Pairs of samples that share one continuous code: what the contrastive regulariser tells apart.

Samples 2 j and 2 j + 1 of an iteration are a pair. Of the continuous regularised codes one, drawn
at random, is the same in both. So are the noise and the free codes (as in the code of Lin,
Thekumparampil, Fanti and Oh 2020), and all others are drawn apart: another uniform code is c in the
first sample and in the second

    c' = c + gap + (1 - gap) (u + 1),  less 2 if that is above 1,       0 <= gap <= 1

where u is what the second sample would have had on its own. So |c - c'| is at least the gap, and c'
is uniform whatever the gap, which is what lets the images of pairs serve D and Q as any others do.
The paper makes images for its pairs alone, and its gap, of up to the whole range, makes the codes'
extremes more frequent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.codes import Code
from fastinfogan.model.latent_spec import LatentSpec


def codes_of_pairs(spec: LatentSpec) -> tuple[Code, ...]:
    """What has to be drawn: the codes, and as a category which of them a pair shares.

    That one is the last, so that all others are what they are without it.
    """
    return (*spec.codes, Code("categorical", len(spec.continuous)))


class Pairs:
    """Makes pairs of latent samples.

    Args:
        spec: two continuous regularised codes or more.
        gap_until: the gap falls from 1 to 0 over so many samples of the stream; 0: there is none.
        device: where samples are drawn.

    Attributes:
        codes: what has to be drawn (``codes_of_pairs``).
    """

    def __init__(self, spec: LatentSpec, gap_until: int, device: torch.device) -> None:
        self.codes = codes_of_pairs(spec)
        self._width, self._gap_until = spec.input_width, gap_until

        def constant(numbers: list[bool] | list[int]) -> Tensor:
            return torch.tensor(numbers, device=device)

        # Of each code, and of each column of G's input.
        kept = [not code.regularized for code in spec.codes]
        uniform = [code.kind == "uniform" for code in spec.codes]
        place = [spec.continuous.index(i) if i in spec.continuous else -1 for i in range(len(kept))]
        self._kept, self._uniform, self._place = constant(kept), constant(uniform), constant(place)
        columns = [i for i, code in enumerate(spec.codes) for _ in range(code.input_width)]
        noise = [True] * spec.noise
        self._kept_columns = constant(noise + [kept[i] for i in columns])
        self._number_columns = constant(
            [False] * spec.noise + [i in spec.continuous for i in columns]
        )
        self._code_of = constant([0] * spec.noise + columns)

    def __call__(
        self, latents: Tensor, values: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Samples as pairs.

        Args:
            latents: (B, width), with the last code of ``codes`` in its last columns.
            values: (B, codes) float32, likewise.
            offset: int64 (1,), the first sample of the iteration in the stream.

        Returns:
            G's input (B, input_width), like ``latents``; its codes (B, spec's), float32; and the
            place of the shared code among the continuous ones, int64 (B / 2,).
        """
        first, second = latents[0::2, : self._width], latents[1::2, : self._width]
        one, two = values[0::2, :-1], values[1::2, :-1]
        shared = values[0::2, -1].long()
        gap = self._gap(offset)
        apart = one + gap + (1.0 - gap) * (two + 1.0)
        apart = torch.where(apart > 1.0, apart - 2.0, apart)
        same = self._kept | (shared.unsqueeze(1) == self._place)
        two = torch.where(same, one, torch.where(self._uniform, apart, two))
        numbers = two.index_select(1, self._code_of).to(latents.dtype)
        second = torch.where(self._kept_columns, first, second)
        second = torch.where(self._number_columns, numbers, second)
        return _in_turn(first, second), _in_turn(one, two), shared

    def _gap(self, offset: Tensor) -> Tensor:
        """(1,) float32."""
        if not self._gap_until:
            return torch.zeros_like(offset, dtype=torch.float32)
        return (1.0 - offset.double() / self._gap_until).clamp_min(0.0).float()


def _in_turn(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], dim=1).flatten(0, 1)
