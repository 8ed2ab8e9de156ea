"""Block: one row of a table as a module, linear map, batchnorm, activation, on our kernels."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastinfogan.config import KERNEL, NORM_EPS, NORM_MOMENTUM, SLOPES, Layer, Shape
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.bn_act.arguments import Exchange
from fastinfogan.kernels.channels_last import in_rows
from fastinfogan.kernels.conv import conv_and_sums
from fastinfogan.kernels.linear import linear
from fastinfogan.kernels.linear_bn_act import linear_bn_act

SLOPES_OF = {**SLOPES, "linear": 1.0}


class Unnormalised(NamedTuple):
    """What a convolution hands to the next layer, which begins with the batchnorm in between."""

    maps: Tensor
    norm: Normalising


class Block(nn.Module):
    """One row: linear map, batchnorm, activation. Parameters: op.weight, op.bias, norm.*.

    A batchnorm behind a convolution is the next layer's affair, where that takes it: see ``front``
    of ``conv_and_sums`` and ``linear_bn_act``.
    """

    def __init__(self, row: Layer, inputs: Shape) -> None:
        super().__init__()
        self.row = row
        if row.coordinates:
            place = places(*(row.shape or inputs)[1:])
            self.register_buffer("place", place, persistent=False)
        if row.spectral is not None:
            self.register_buffer("left", torch.ones(row.features))
        inputs = row.reads(inputs)
        if row.kind == "fc":
            self.op = nn.Linear(math.prod(inputs), row.features, bias=row.bias)
        else:
            # The module holds the parameters; `conv`, which knows "same" padding, does the work.
            kind = nn.Conv2d if row.kind == "conv" else nn.ConvTranspose2d
            self.op = kind(inputs[0], row.features, KERNEL, row.stride, 1, bias=row.bias)
        self.norm: nn.Module | None = None
        if row.norm:
            flat = row.kind == "fc"
            kind = nn.BatchNorm1d if flat else nn.BatchNorm2d
            self.norm = kind(row.features, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.exchange: Exchange | None = None
        self.x_slope, self.derived_behind = 1.0, False  # see `conv_and_sums`
        self.normalised_behind = False

    def forward(
        self, x: Tensor | Unnormalised, groups: int = 1, statistics: bool = True
    ) -> Tensor | Unnormalised:
        """``statistics``: let the running ones learn from the batch, if the network is learning."""
        row, weight = self.row, self.weight()
        if row.coordinates and row.kind == "fc":
            x = self._everywhere(flattened(normalised(x)), weight)
            norm = self._norm(groups, statistics) if row.norm else None
            x = bn_act(x, *norm) if norm else self._activate(x)
        elif row.kind == "fc" and row.norm:
            norm = self._norm(groups, statistics)[:-1]
            x, front = x if isinstance(x, Unnormalised) else (flattened(x), None)
            x = linear_bn_act(x, weight, *norm, front=front)
        elif row.kind == "fc":
            x = linear(flattened(normalised(x)), weight, self.op.bias)
            x = self._activate(x)
        else:
            # What has no batchnorm behind it leaves the convolution with its activation.
            follows = 1.0 if row.norm else SLOPES_OF.get(row.activation, row.activation)
            up = row.kind == "upconv"
            # Ranks exchange sums that batchnorm has gathered.
            summed = groups if row.norm and self.training and self.exchange is None else 0
            if row.coordinates:
                x = normalised(x)
                x = torch.cat([x, self.place.to(x.dtype).expand(len(x), -1, -1, -1)], dim=1)
            x, front = x if isinstance(x, Unnormalised) else (x, None)
            x, sums = conv_and_sums(
                x, weight, self.op.bias, row.stride, up, follows, summed,
                x_slope=self.x_slope, derived_behind=self.derived_behind, front=front,
            )  # fmt: skip
            if row.norm:
                norm = self._norm(groups, statistics)._replace(sums=sums)
                if self.normalised_behind:
                    return Unnormalised(x, norm)
                x = bn_act(x, *norm)
        return shaped(x, row)

    def weight(self) -> Tensor:
        """The linear map's, scaled to the largest singular value that the row asks for, if it does.

        ``left`` is the singular vector of the outputs, as far as ``turn`` has brought it.
        """
        weight = self.op.weight
        if self.row.spectral is None:
            return weight
        matrix = weight.flatten(1).to(self.left.dtype)
        scale = self.row.spectral / (matrix.T @ self.left).norm()
        return (weight * scale).to(weight.dtype)

    def _everywhere(self, x: Tensor, weight: Tensor) -> Tensor:
        """The linear map at every position, (B positions, features).

        What it makes of the features is the same at each, and of the coordinates in each sample.
        """
        of_x, of_place = weight.tensor_split([-2], dim=1)
        place = self.place.to(x.dtype).flatten(2)[0].T  # (positions, 2)
        bias = 0.0 if self.op.bias is None else self.op.bias
        by_place = place @ of_place.T + bias
        return (linear(x, of_x.contiguous(), None)[:, None] + by_place).flatten(0, 1)

    def _norm(self, groups: int, statistics: bool) -> Normalising:
        """Batchnorm and activation, as the arguments of an op that ends with them."""
        n = self.norm
        # A frozen network (see `frozen`) leaves its running statistics alone.
        update = (statistics and n.track_running_stats) or not self.training
        return Normalising(
            n.weight,
            n.bias,
            n.running_mean if update else None,
            n.running_var if update else None,
            SLOPES_OF[self.row.activation],
            groups,
            NORM_MOMENTUM,
            NORM_EPS,
            self.training,
            self.exchange,
        )

    def _activate(self, x: Tensor) -> Tensor:
        activation = self.row.activation
        # In place: no linear map needs its output again; derivatives come from the result.
        if activation in SLOPES_OF:
            slope = SLOPES_OF[activation]
            return x if slope == 1.0 else F.leaky_relu(x, slope, inplace=True)
        return torch.sigmoid_(x) if activation == "sigmoid" else torch.tanh_(x)


def flattened(x: Tensor) -> Tensor:
    """Rows of features; of maps in memory order (height, width, channel): a view, not a copy."""
    return x if x.dim() == 2 else in_rows(x)


def normalised(x: Tensor | Unnormalised) -> Tensor:
    """What a layer hands on, for who doesn't look after its batchnorm."""
    return bn_act(x.maps, *x.norm) if isinstance(x, Unnormalised) else x


def places(height: int, width: int) -> Tensor:
    """What a layer with coordinates sees, (1, 2, H, W): x and y from -1, left and top, to 1."""
    across, down = (torch.linspace(-1.0, 1.0, n, dtype=torch.float64) for n in (width, height))
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y])[None]


def shaped(x: Tensor, row: Layer) -> Tensor:
    """Rows of features as the maps that a row of the table makes of them, if it does."""
    if row.shape is None:
        return x
    channels, height, width = row.shape
    return x.view(-1, height, width, channels).permute(0, 3, 1, 2)
