"""Rows: what a layer of a network is, and what a whole architecture is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fastinfogan.model.latent_spec import LatentSpec

Activation = Literal["relu", "lrelu", "sigmoid", "tanh", "linear"]
Shape = tuple[int, ...]  # (features,) or (channels, height, width), without the batch
KERNEL = 4  # every convolution in the paper is 4x4
LEAK = 0.1  # slope of lrelu below 0: the paper's; openai/InfoGAN has 0.01
SLOPES = {"relu": 0.0, "lrelu": LEAK}  # below 0
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1  # batchnorm
ADAM_EPS = 1e-8
INIT_STD = 0.02  # weights N(0, 0.02), batchnorm scales N(1, 0.02), biases and shifts 0


@dataclass(frozen=True)
class Layer:
    """One row of a table: a linear map, then batchnorm if ``norm``, then the activation.

    Convolutions are 4x4 with "same" padding. A layer followed by batchnorm has no bias (the shift
    would be subtracted again).

    Attributes:
        kind: "upconv" is the transposed convolution.
        features: of a fully connected layer, or the channels of a map.
        norm: with batchnorm.
        activation: what comes last.
        stride: of a convolution, 1 or 2.
        shape: only on a fully connected layer that feeds convolutions: its features, in (height,
            width, channel) order, become a (channels, height, width) map.
        coordinates: the layer also sees where it is: two more inputs, x and y in [-1, 1]. Of a
            convolution they are two more channels (CoordConv: Liu et al. 2018). A fully connected
            layer with a shape is the same one at every position of its map (the spatial broadcast
            decoder: Watters et al. 2019), and its features are the map's channels.
        spectral: the largest singular value that the weight is scaled to (spectral normalisation:
            Miyato et al. 2018); None: it stays as it is.
    """

    kind: Literal["fc", "conv", "upconv"]
    features: int
    norm: bool = False
    activation: Activation = "linear"
    stride: int = 1
    shape: Shape | None = None
    coordinates: bool = False
    spectral: float | None = None

    @property
    def bias(self) -> bool:
        """Whether the linear map has one."""
        return not self.norm

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after each spatial axis ("same"; a transposed layer crops them)."""
        return (1, 1) if self.stride == 2 else (1, 2)

    def output_shape(self, inputs: Shape) -> Shape:
        """Shape after this layer for an input of shape ``inputs``."""
        if self.kind == "fc":
            return self.shape or (self.features,)
        _, height, width = inputs
        if self.kind == "upconv":
            return (self.features, height * self.stride, width * self.stride)
        return (self.features, height // self.stride, width // self.stride)

    def reads(self, inputs: Shape) -> Shape:
        """What the linear map gets of an input of shape ``inputs``: that, and the coordinates."""
        if not self.coordinates:
            return inputs
        return (math.prod(inputs) + 2,) if self.kind == "fc" else (inputs[0] + 2, *inputs[1:])

    @property
    def is_dense(self) -> bool:
        """Whether it is no more than a fully connected map, a bias and an activation."""
        extras = self.norm or self.coordinates or self.spectral is not None
        return self.kind == "fc" and not extras

    @property
    def positions(self) -> int:
        """At how many positions a fully connected layer is applied: 1, or each of its map."""
        return math.prod(self.shape[1:]) if self.coordinates and self.shape else 1

    def parameters(self, inputs: Shape) -> int:
        """Trained numbers: weight, bias, batchnorm's scale and shift."""
        inputs = self.reads(inputs)
        taps = 1 if self.kind == "fc" else KERNEL * KERNEL
        fan_in = math.prod(inputs) if self.kind == "fc" else inputs[0]
        return fan_in * self.features * taps + self.features * (2 if self.norm else 1)


def fc(features: int | Shape, activation: Activation = "linear", *, bn: bool = False) -> Layer:
    """A fully connected row; ``features=(C, H, W)`` makes it a map of that shape."""
    if isinstance(features, int):
        return Layer("fc", features, bn, activation)
    return Layer("fc", math.prod(features), bn, activation, shape=features)


def everywhere(shape: Shape, activation: Activation = "linear", *, bn: bool = False) -> Layer:
    """A fully connected row that makes a (C, H, W) map, C features of each position's x and y."""
    return Layer("fc", shape[0], bn, activation, shape=shape, coordinates=True)


def conv(
    channels: int,
    activation: Activation,
    *,
    bn: bool = False,
    stride: int = 2,
    coordinates: bool = False,
) -> Layer:
    """A 4x4 convolution row."""
    return Layer("conv", channels, bn, activation, stride, coordinates=coordinates)


def upconv(channels: int, activation: Activation, *, bn: bool = False, stride: int = 2) -> Layer:
    """A 4x4 transposed-convolution row."""
    return Layer("upconv", channels, bn, activation, stride)


@dataclass(frozen=True)
class Architecture:
    """The rows of one table. D's last FC(1) and Q's last FC(q_width) are implied.

    Attributes:
        image_shape: (channels, height, width).
        generator: G's rows.
        trunk: shared by D and Q.
        q_hidden: between the trunk and Q's output.
        init: the initial weights, see ``init_std``.
        spectral: of the rows of the trunk and of D's head, see ``Layer``.
    """

    image_shape: Shape
    generator: tuple[Layer, ...]
    trunk: tuple[Layer, ...]
    q_hidden: tuple[Layer, ...]
    init: Literal["0.02", "he", "torch"] = "0.02"
    spectral: float | None = None

    def init_std(self, fan_in: int) -> float:
        """0.02 for every weight, or by a layer's number of inputs.

        Without batchnorm 0.02 lets signals die: sqrt(2 / inputs) keeps their size (He et al. 2015).
        Where weights are scaled anyway, their size only says how fast they turn, and
        sqrt(1 / (3 inputs)), the size of PyTorch's own in fully connected layers and convolutions,
        lets them turn 2.4 times as fast at the same learning rate.
        """
        if self.init == "0.02":
            return INIT_STD
        return (2.0 / fan_in if self.init == "he" else 1.0 / (3.0 * fan_in)) ** 0.5

    @property
    def output_range(self) -> tuple[float, float]:
        """Range of G's images, and so of the real ones: sigmoid [0, 1], tanh [-1, 1]."""
        return (0.0, 1.0) if self.generator[-1].activation == "sigmoid" else (-1.0, 1.0)

    def rows(
        self, spec: LatentSpec, contrastive: bool = False
    ) -> dict[str, list[tuple[Layer, Shape, Shape]]]:
        """Every layer with its input and output shape: generator, trunk, d_head, q_head.

        ``contrastive`` adds contrast: the trunk's rows once more, on the channels of two images and
        with batchnorm but next to these (as Lin et al. 2020 have it), and FC(continuous codes).
        """
        rows = [replace(row, spectral=self.spectral) for row in (*self.trunk, fc(1))]
        trunk = list(_trace(rows[:-1], self.image_shape))
        features = trunk[-1][2] if trunk else self.image_shape
        found = {
            "generator": list(_trace(self.generator, (spec.input_width,))),
            "trunk": trunk,
            "d_head": list(_trace(rows[-1:], features)),
            "q_head": list(_trace((*self.q_hidden, fc(spec.q_width)), features)),
        }
        if contrastive:
            channels, *size = self.image_shape
            rows = [*self.trunk[:1], *(replace(row, norm=True) for row in self.trunk[1:])]
            rows.append(fc(len(spec.continuous)))
            found["contrast"] = list(_trace(tuple(rows), (2 * channels, *size)))
        return found


def _trace(layers: Sequence[Layer], shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
    for layer in layers:
        after = layer.output_shape(shape)
        yield layer, shape, after
        shape = after
