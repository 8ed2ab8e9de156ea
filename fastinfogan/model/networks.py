"""Generator and Discriminator (trunk, D head, Q head), built from a preset's rows."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from fastinfogan.config import SLOPES, Architecture, Layer, Shape
from fastinfogan.kernels.bn_act.arguments import Exchange
from fastinfogan.kernels.dense import dense
from fastinfogan.kernels.linear import linear_and_tail
from fastinfogan.model.block import (
    SLOPES_OF,
    Block,
    Unnormalised,
    flattened,
    normalised,
    shaped,
)
from fastinfogan.model.latent_spec import LatentSpec


class Dense:
    """Blocks of fully connected layers without batchnorm, one after the other, in one call.

    It owns nothing: the parameters are the blocks'.
    """

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        names = [block.row.activation for block in blocks]
        self.activations = [SLOPES_OF.get(name, name) for name in names]

    def __call__(self, x: Tensor, groups: int = 1, statistics: bool = True) -> Tensor:
        maps = [block.op for block in self.blocks]
        weights, biases = [m.weight for m in maps], [m.bias for m in maps]
        return self.shaped(dense(flattened(normalised(x)), weights, biases, self.activations))

    def shaped(self, x: Tensor) -> Tensor:
        """Rows of features as the last block hands them on."""
        return shaped(x, self.blocks[-1].row)


def _parts(*stacks: nn.ModuleList) -> list[Block | Dense]:
    """The blocks of stacks as they are called: what makes one call is one part.

    A plain list, which registers no module again.
    """
    parts: list[Block | Dense] = []
    run: list[Block] = []

    def end() -> None:
        parts.extend([Dense(list(run))] if len(run) > 1 else run)
        run.clear()

    for block in (block for stack in stacks for block in stack):
        row = block.row
        if not row.is_dense:
            end()
            parts.append(block)
            continue
        run.append(block)
        if row.shape is not None:
            end()
    end()
    return parts


def _through(
    parts: list[Block | Dense], x: Tensor, groups: int, statistics: bool
) -> Tensor | Unnormalised:
    for part in parts:
        x = part(x, groups, statistics)
    return x


def _stack(rows: list[tuple[Layer, Shape, Shape]]) -> nn.ModuleList:
    blocks = [Block(row, before) for row, before, _ in rows]
    for block, behind in pairwise(blocks):
        row = block.row
        if behind.row.coordinates:  # it puts something beside what it is handed
            continue
        convolutions = row.kind != "fc" and behind.row.kind != "fc"
        takes = behind.row.kind != "fc" or behind.row.norm
        block.normalised_behind = row.kind != "fc" and row.norm and takes
        if convolutions and not row.norm and row.activation in SLOPES:
            block.derived_behind, behind.x_slope = True, SLOPES[row.activation]
    return nn.ModuleList(blocks)


class Generator(nn.Module):
    """G(z, c): (B, input_width) -> images (B, C, H, W) in the architecture's output range."""

    def __init__(self, architecture: Architecture, spec: LatentSpec) -> None:
        super().__init__()
        self.layers = _stack(architecture.rows(spec)["generator"])
        self.parts = _parts(self.layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, latents: Tensor, statistics: bool = True) -> Tensor:
        """``statistics``: as for ``Block``."""
        return _through(self.parts, latents, 1, statistics)


class Discriminator(nn.Module):
    """D and Q: images (B, C, H, W) -> logits (B,) and Q's output (B, q_width).

    With ``separate_q`` Q reads a trunk of its own. ``contrastive`` adds the network that tells
    which code two images share: it reads the images as well, and D's optimiser updates it.
    """

    def __init__(
        self,
        architecture: Architecture,
        spec: LatentSpec,
        separate_q: bool = False,
        contrastive: bool = False,
    ) -> None:
        super().__init__()
        rows = architecture.rows(spec, contrastive)
        self.trunk = _stack(rows["trunk"])
        self.d_head = _stack(rows["d_head"])
        self.q_trunk = _stack(rows["trunk"]) if separate_q else None
        self.q_head = _stack(rows["q_head"])
        self.contrast = _stack(rows["contrast"]) if contrastive else None
        self._contrast = _parts(self.contrast) if contrastive else []
        self._trunk = _parts(self.trunk)
        last = self.trunk[-1]
        last.normalised_behind = last.row.kind != "fc" and last.row.norm
        self.d_parts = _parts(self.trunk, self.d_head)
        self.q_parts = _parts(self.q_head) if not separate_q else _parts(self.q_trunk, self.q_head)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.logits(features), self.q_params(images, features)

    def features(self, images: Tensor, groups: int = 1, statistics: bool = True) -> Tensor:
        """The trunk's output.

        Args:
            images: (B, C, H, W).
            groups: 2 normalises the halves of the batch apart.
            statistics: False leaves no trace of the images in the running statistics.
        """
        return normalised(_through(self._trunk, images, groups, statistics))

    def features_for_heads(self, images: Tensor, groups: int = 1) -> Tensor | Unnormalised:
        """The same for ``logits_and_tail`` alone, which looks after a batchnorm at its end."""
        return _through(self._trunk, images, groups, True)

    def judged(self, images: Tensor, groups: int = 1) -> Tensor:
        """D's logit per image, (B,), where nobody else reads the trunk's output.

        Args:
            images, groups: see ``features``.
        """
        return _through(self.d_parts, images, groups, True).squeeze(1)

    def logits(self, features: Tensor) -> Tensor:
        """D's logit per image, (B,): positive means real."""
        return self.d_head[0](features).squeeze(1)

    def logits_and_tail(self, features: Tensor | Unnormalised, rows: int) -> tuple[Tensor, Tensor]:
        """The same, and the features of the last ``rows`` images for Q to read.

        Read from here, what goes back to the features costs no launch beside the head's own.
        """
        head, front = self.d_head[0], None
        shape = (features.maps if isinstance(features, Unnormalised) else features).shape
        if isinstance(features, Unnormalised):
            features, front = features
        else:
            features = flattened(features)
        weight, bias = head.weight(), head.op.bias
        logits, tail = linear_and_tail(features, weight, bias, rows, front=front)
        if len(shape) == 4:
            _, channels, height, width = shape
            tail = tail.view(rows, height, width, channels).permute(0, 3, 1, 2)
        return logits.squeeze(1), tail

    def contrast_logits(self, images: Tensor) -> Tensor:
        """Which continuous code images 2 j and 2 j + 1 share: (B / 2, continuous codes)."""
        pairs = torch.cat([images[0::2], images[1::2]], dim=1)
        return _through(self._contrast, pairs, 1, True)

    def q_of(self, images: Tensor, statistics: bool = True) -> Tensor:
        """Q's output on images, where D's isn't asked for."""
        features = images if self.q_trunk is not None else self.features(images, 1, statistics)
        return self.q_params(images, features, statistics)

    def q_params(self, images: Tensor, features: Tensor, statistics: bool = True) -> Tensor:
        """Q's output, from D's features or, with a trunk of its own, from the images."""
        x = features if self.q_trunk is None else images
        return _through(self.q_parts, x, 1, statistics)


def exchange_sums(network: nn.Module, exchange: Exchange | None) -> None:
    """Have a network's batchnorms train with the sums that ``bn_act``'s ``exchange`` gives."""
    for module in network.modules():
        if isinstance(module, Block):
            module.exchange = exchange


class frozen:
    """A context in which nothing of a network changes: no gradients, no running statistics.

    Batchnorm still normalises with the statistics of the batch.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = list(network.parameters())
        norms = nn.BatchNorm1d | nn.BatchNorm2d
        self._norms = [module for module in network.modules() if isinstance(module, norms)]

    def __enter__(self) -> None:
        self._set(False)

    def __exit__(self, *exception: object) -> None:
        self._set(True)

    def _set(self, learning: bool) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(learning)
        for norm in self._norms:
            norm.track_running_stats = learning
