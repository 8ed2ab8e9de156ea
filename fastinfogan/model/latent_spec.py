"""The latent specification: parse "cat10,uni,uni", lay codes out in G's input and Q's output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from fastinfogan.errors import UserError
from fastinfogan.kernels.codes import KINDS, MAX_CATEGORIES, MAX_CODES, MAX_NOISE, Code

if TYPE_CHECKING:  # imported where needed: --help doesn't wait for torch
    import torch
    from torch import Tensor

_SPELLINGS = {kind.spelling: kind for kind in KINDS.values()}
_ITEM = re.compile(rf"(?:(\d+)x)?({'|'.join(_SPELLINGS)})(\d+)?((?::[a-z]+)*)")
_TOO_MANY = 10**9  # of anything: Python refuses to read numbers of thousands of digits
_KINDS_TEXT = ", ".join(
    f"{kind.spelling}K (K categories)" if kind.has_categories else kind.spelling
    for kind in KINDS.values()
)
_LEARNED_TEXT = " or ".join(kind.spelling for kind in KINDS.values() if kind.can_learn_sigma)
GRAMMAR = (
    f"comma-separated kinds: {_KINDS_TEXT}; repeated as in 10xcat10; "
    f":learned (sigma from the network) after {_LEARNED_TEXT}; :free (not regularised) after any"
)


class Latents(NamedTuple):
    """A batch of generator inputs before assembly.

    Attributes:
        noise: (B, noise) float32.
        values: (B, codes) float32; a category as its index.
    """

    noise: Tensor
    values: Tensor


@dataclass(frozen=True)
class LatentSpec:
    """The generator's input: noise, then the codes.

    Three layouts follow from it: G's input (categorical codes one-hot), Q's output (regularised
    codes only: K logits, a logit, a mean, or a mean and s) and the compact *values* of the codes,
    float32 of shape (B, number of codes) with a category stored as its index.

    Attributes:
        noise: how many values of N(0, 1) come first.
        codes: the codes in order.
    """

    noise: int
    codes: tuple[Code, ...]

    @cached_property
    def input_width(self) -> int:
        """Width of G's input vector."""
        return self.noise + sum(code.input_width for code in self.codes)

    @cached_property
    def q_width(self) -> int:
        """Width of Q's output vector."""
        return sum(code.q_width for code in self.codes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per code, as metrics and pictures use it: c1_cat10, c2_uni, ..."""
        return tuple(f"c{i}_{_base_name(code)}" for i, code in enumerate(self.codes, start=1))

    @cached_property
    def regularized(self) -> tuple[int, ...]:
        """Indices of the codes that L_I counts."""
        return tuple(i for i, code in enumerate(self.codes) if code.regularized)

    @cached_property
    def continuous(self) -> tuple[int, ...]:
        """Indices of the regularised codes that are numbers."""
        return tuple(i for i in self.regularized if not self.codes[i].is_discrete)

    @property
    def entropy(self) -> float:
        """H(c) of all regularised codes together, in nats: the constant in L_I."""
        return sum(self.codes[i].entropy for i in self.regularized)

    def lambdas(self, lambda_disc: float, lambda_cont: float) -> tuple[float, ...]:
        """lambda of each code (Table 7: one for discrete, one for continuous; 0 if free)."""
        return tuple(
            (lambda_disc if code.is_discrete else lambda_cont) if code.regularized else 0.0
            for code in self.codes
        )

    def sample(
        self, batch: int, seed: int, offset: int, device: torch.device | str = "cpu"
    ) -> Latents:
        """Samples ``offset`` to ``offset + batch - 1`` of the stream that ``seed`` names."""
        import torch

        from fastinfogan.kernels.latents import latents

        numbers = (torch.tensor([number], device=device) for number in (seed, offset))
        inputs, values = latents(self.noise, self.codes, batch, *numbers)
        return Latents(inputs[:, : self.noise], values)

    def assemble(self, noise: Tensor, values: Tensor) -> Tensor:
        """G's input (B, input_width) from noise (B, noise) and code values (B, codes)."""
        import torch
        from torch.nn.functional import one_hot

        parts = [noise]
        for i, code in enumerate(self.codes):
            if code.has_categories:
                parts.append(one_hot(values[:, i].long(), code.categories).to(noise.dtype))
            else:
                parts.append(values[:, i : i + 1].to(noise.dtype))
        return torch.cat(parts, dim=1)

    def split_q(self, q_params: Tensor) -> dict[int, Tensor]:
        """Q's output (B, q_width) as views: index of a regularised code -> its columns."""
        widths = [self.codes[i].q_width for i in self.regularized]
        return dict(zip(self.regularized, q_params.split(widths, dim=1), strict=True))

    def __str__(self) -> str:
        return format_codes(self.codes)


def parse_codes(text: str) -> tuple[Code, ...]:
    """The codes of a specification such as ``cat10,uni,uni`` or ``10xcat10,gauss:learned``.

    Raises:
        UserError: a kind is unknown, K is missing, misplaced or out of 2..1024, a modifier
            doesn't fit the kind, or there are more than 64 codes.
    """
    codes: list[Code] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise UserError(f"--codes {text!r}: {item!r} is not a code; write {GRAMMAR}")
        repeat, spelling, size, modifiers = match.groups()
        kind = _SPELLINGS[spelling]
        if kind.has_categories != (size is not None):
            wants = f"takes no number; for several write {size}x{spelling}"
            if kind.has_categories:
                wants = f"needs its number of categories, as in {spelling}10"
            raise UserError(f"--codes {text!r}: {item!r} {wants}")
        categories = _count(size) if kind.has_categories else 0
        if kind.has_categories and not 2 <= categories <= MAX_CATEGORIES:
            raise UserError(f"--codes {text!r}: {item!r}: 2 to {MAX_CATEGORIES} categories work")
        asked = [m for m in modifiers.split(":") if m]
        for modifier in asked:
            if modifier not in ("learned", "fixed", "free") or (
                modifier != "free" and not kind.can_learn_sigma
            ):
                raise UserError(
                    f"--codes {text!r}: {item!r} can't take :{modifier}; write {GRAMMAR}"
                )
        code = Code(
            kind=kind.name,
            categories=categories,
            std="learned" if "learned" in asked else "fixed",
            regularized="free" not in asked,
        )
        times = _count(repeat) if repeat else 1
        if not 1 <= times <= MAX_CODES - len(codes):
            raise UserError(f"--codes {text!r}: {item!r}: 1 to {MAX_CODES} codes in all work")
        codes.extend([code] * times)
    if not codes:
        raise UserError(f"--codes {text!r} names no code; write {GRAMMAR}")
    return tuple(codes)


def _count(digits: str) -> int:
    return int(digits) if len(digits.lstrip("0")) < 10 else _TOO_MANY


def format_codes(codes: tuple[Code, ...]) -> str:
    """The shortest specification that parses back to ``codes``."""
    items: list[tuple[str, int]] = []
    for code in codes:
        item = _base_name(code)
        item += ":learned" if code.std == "learned" else ""
        item += "" if code.regularized else ":free"
        if items and items[-1][0] == item:
            items[-1] = (item, items[-1][1] + 1)
        else:
            items.append((item, 1))
    return ",".join(item if times == 1 else f"{times}x{item}" for item, times in items)


def make_spec(noise: int, codes: str) -> LatentSpec:
    """A validated specification from ``--noise`` and ``--codes``.

    Raises:
        UserError: one of them can't be had.
    """
    if not 0 <= noise <= MAX_NOISE:
        raise UserError(f"--noise {noise}: 0 to {MAX_NOISE} values work")
    return LatentSpec(noise, parse_codes(codes))


def _base_name(code: Code) -> str:
    return f"{code.row.spelling}{code.categories if code.has_categories else ''}"
