"""Codes nudged one at a time: whether two of them change an image in the same way.

The orthogonal Jacobian regularisation of Wei et al. 2021 asks that the changes which G's inputs
make to an image be orthogonal to each other. Here they are central differences: of every fourth
sample's continuous regularised codes two, i and k, are nudged by STEP either way, and with

    u_i = G(.., c_i + STEP, ..) - G(.., c_i - STEP, ..)

what is minimised is the mean of cos^2(u_i, u_k), so that its scale is no image's. One-sided
differences won't do: two copies of a shape moved apart share what they left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.model.latent_spec import LatentSpec

STEP = 0.2  # codes are in [-1, 1], and all are drawn in by as much, so that none leaves it
EVERY = 4  # samples: an image takes four
FAINT = 1e-12  # squared norms below count as no change


class Nudges:
    """Makes the latents whose images are compared.

    Args:
        spec: two continuous regularised codes or more.
        device: where samples are drawn.
    """

    def __init__(self, spec: LatentSpec, device: torch.device) -> None:
        starts, at = [], spec.noise
        for code in spec.codes:
            starts.append(at)
            at += code.input_width
        self._codes = torch.tensor(spec.continuous, device=device)
        self._columns = torch.tensor([starts[i] for i in spec.continuous], device=device)

    def __call__(self, latents: Tensor, values: Tensor) -> Tensor:
        """Four samples for every fourth: c_i up, c_i down, c_k up, c_k down.

        Which two codes are the ones that lie farthest out in the sample before: as good as drawn,
        and independent of the sample's own.

        Args:
            latents: (B, input_width), with the codes as they come.
            values: (B, codes) float32, the codes.

        Returns:
            (4 ceil(B / 4), input_width), the four kinds one after the other.
        """
        before = values.roll(1, 0)[::EVERY].index_select(1, self._codes)
        chosen = self._columns[before.abs().topk(2, dim=1).indices]  # (samples, 2)
        own = latents[::EVERY]
        drawn_in = own.index_select(1, self._columns) * (1.0 - STEP)
        own = own.index_copy(1, self._columns, drawn_in)
        step = torch.zeros_like(own).unsqueeze(0).repeat(2, 1, 1)
        step.scatter_(2, chosen.T.unsqueeze(2), STEP)
        first, second = own + step, own - step
        return torch.stack([first, second], dim=1).flatten(0, 2)


def crossing(images: Tensor) -> Tensor:
    """L_orth of what G made of ``Nudges``: the mean of cos^2 of two codes' changes, in [0, 1].

    Args:
        images: (4 samples, C, H, W).
    """
    wide = torch.promote_types(images.dtype, torch.float32)
    up, down, up_too, down_too = images.to(wide).flatten(1).chunk(4)
    u, v = up - down, up_too - down_too
    together = (u * v).sum(1) ** 2
    return (together / ((u * u).sum(1) * (v * v).sum(1) + FAINT)).mean()
