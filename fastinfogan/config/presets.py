"""The presets: the paper's tables as rows, and the settings each experiment was published with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastinfogan.config.jitter import COLOUR, GREY
from fastinfogan.config.layers import Architecture, conv, everywhere, fc, upconv
from fastinfogan.errors import UserError

TABLE_1_MNIST = Architecture(
    image_shape=(1, 28, 28),
    generator=(
        fc(1024, "relu", bn=True),
        fc((128, 7, 7), "relu", bn=True),
        upconv(64, "relu", bn=True),
        upconv(1, "sigmoid"),
    ),
    trunk=(conv(64, "lrelu"), conv(128, "lrelu", bn=True), fc(1024, "lrelu", bn=True)),
    q_hidden=(fc(128, "lrelu", bn=True),),
)

TABLES_2_AND_3_SVHN_CELEBA = Architecture(
    image_shape=(3, 32, 32),
    generator=(
        fc((448, 2, 2), "relu", bn=True),
        upconv(256, "relu", bn=True),
        upconv(128, "relu"),
        upconv(64, "relu"),
        upconv(3, "tanh"),
    ),
    trunk=(conv(64, "lrelu"), conv(128, "lrelu", bn=True), conv(256, "lrelu", bn=True)),
    q_hidden=(fc(128, "lrelu", bn=True),),
)

TABLE_4_FACES = Architecture(
    image_shape=(1, 32, 32),
    generator=(
        fc(1024, "relu", bn=True),
        fc((128, 8, 8), "relu", bn=True),
        upconv(64, "relu", bn=True),
        upconv(1, "sigmoid"),
    ),
    trunk=(conv(64, "lrelu"), conv(128, "lrelu", bn=True), fc(1024, "lrelu", bn=True)),
    q_hidden=(),
)

TABLE_6_CHAIRS = Architecture(
    image_shape=(1, 64, 64),
    generator=(
        fc(1024, "relu", bn=True),
        fc((256, 8, 8), "relu", bn=True),
        upconv(256, "relu", bn=True, stride=1),
        upconv(256, "relu", bn=True, stride=1),
        upconv(128, "relu", bn=True),
        upconv(64, "relu", bn=True),
        upconv(1, "sigmoid"),
    ),
    trunk=(
        conv(64, "lrelu"),
        conv(128, "lrelu", bn=True),
        conv(256, "lrelu", bn=True),
        conv(256, "lrelu", bn=True, stride=1),
        conv(256, "lrelu", bn=True, stride=1),
        fc(1024, "lrelu", bn=True),
    ),
    q_hidden=(),
)

# What dSprites is learned with (Kim and Mnih 2018; Lin et al. 2020), but for D's spectral norm.
DSPRITES = Architecture(
    image_shape=(1, 64, 64),
    generator=(
        fc(128, "relu", bn=True),
        fc((64, 4, 4), "relu", bn=True),
        upconv(64, "relu", bn=True),
        upconv(32, "relu", bn=True),
        upconv(32, "relu", bn=True),
        upconv(1, "sigmoid"),
    ),
    trunk=(
        conv(32, "lrelu"),
        conv(32, "lrelu"),
        conv(64, "lrelu"),
        conv(64, "lrelu"),
        fc(128, "lrelu"),
    ),
    q_hidden=(fc(128, "lrelu"),),
    init="he",
)

MNIST_MLP = Architecture(  # wiseodd/generative-models
    image_shape=(1, 28, 28),
    generator=(fc(256, "relu"), fc((1, 28, 28), "sigmoid")),
    trunk=(fc(128, "relu"),),
    q_hidden=(),
    init="he",
)


# Of a D whose weights are scaled: all its layers' largest singular values multiplied. An image of
# twice the side has twice the norm, and a convolution more makes up to twice of it again (at 64x64
# 7.5 let D win: docs/log.md).
TOTAL_GAIN = {32: 32.0, 64: 4.0}


def folder_architecture(size: int, channels: int) -> Architecture:
    """Table 2's family for ``channels`` x ``size`` x ``size`` images, ``size`` = 16, 32, 64, 128.

    Convolutions halve the image down to 4x4 while the width doubles from 64 to at most 512; the
    generator mirrors them. Batchnorm everywhere but next to the image, as in Tables 1, 4 and 6.
    """
    if size not in (16, 32, 64, 128):
        raise UserError(f"--image-size {size}: 16, 32, 64 and 128 work")
    _check_channels(channels)
    widths = [min(64 << i, 512) for i in range(size.bit_length() - 3)]
    return Architecture(
        image_shape=(channels, size, size),
        generator=(
            fc((widths[-1], 4, 4), "relu", bn=True),
            *(upconv(width, "relu", bn=True) for width in reversed(widths[:-1])),
            upconv(channels, "tanh"),
        ),
        trunk=(
            conv(widths[0], "lrelu"),
            *(conv(width, "lrelu", bn=True) for width in widths[1:]),
        ),
        q_hidden=(fc(128, "lrelu", bn=True),),
    )


def sprites_architecture(size: int, channels: int) -> Architecture:
    """Ours, for shapes that move, in ``channels`` x ``size`` x ``size`` images, ``size`` = 32, 64.

    A G and a D that see where they are, and a D that can't make much of little (docs/log.md).
    """
    if size not in (32, 64):
        raise UserError(f"--image-size {size}: 32 and 64 work with preset sprites")
    _check_channels(channels)
    widths = (16, 32, 64, 64)[: size.bit_length() - 3]  # D's, down to 4x4
    grows = (32, 16)[: size.bit_length() - 5]  # G's, from 8x8 to half the side
    return Architecture(
        image_shape=(channels, size, size),
        generator=(
            fc(64, "relu", bn=True),
            everywhere((64, 8, 8), "relu", bn=True),
            upconv(64, "relu", bn=True, stride=1),
            *(upconv(width, "relu", bn=True) for width in grows),
            upconv(channels, "sigmoid"),
        ),
        trunk=(
            conv(widths[0], "lrelu", coordinates=True),
            *(conv(width, "lrelu") for width in widths[1:]),
            fc(256, "lrelu"),
        ),
        q_hidden=(),
        init="torch",
        spectral=TOTAL_GAIN[size] ** (1 / (len(widths) + 2)),
    )


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise UserError(f"--channels {channels}: 1 (grey) and 3 (colour) work")


RENDERED_CHAIRS = replace(  # a G twice as wide: chairs have more to them than shapes
    sprites_architecture(64, 1),
    generator=(
        fc(128, "relu", bn=True),
        everywhere((128, 8, 8), "relu", bn=True),
        upconv(128, "relu", bn=True, stride=1),
        upconv(64, "relu", bn=True),
        upconv(32, "relu", bn=True),
        upconv(1, "sigmoid"),
    ),
)


@dataclass(frozen=True)
class Preset:
    """A named experiment: networks, codes and settings.

    Where ``source`` is one of the paper's tables, or a repository, they are as published there, but
    for what that doesn't say; presets of our own have a comment that says so in ``PRESETS``.

    Attributes:
        source: where the networks are from, and what is ours about them.
        architecture: their rows.
        codes: as ``--codes`` takes them.
        noise: numbers beside the codes.
    """

    source: str
    architecture: Architecture
    codes: str
    noise: int
    lr_d: float = 2e-4
    lr_g: float = 1e-3
    lambda_disc: float = 1.0
    lambda_cont: float = 1.0
    batch_size: int = 128
    iterations: int = 20_000  # ours: the paper gives none
    separate_q: bool = False
    consistency: float = 0.0
    augment: bool = False
    jitter: str = GREY
    average: int = 0
    contrastive: float = 0.0
    gap_until: int = 0
    orthogonal: float = 0.0
    decay: float = 0.0


PRESETS: dict[str, Preset] = {
    # openai/InfoGAN trains MNIST for 50 epochs of 100 updates, with sigma fixed at 1.
    "mnist": Preset("Table 1", TABLE_1_MNIST, "cat10,2xuni", 62, iterations=5_000),
    # Ours: Table 1 with what makes its categories digits on every seed (docs/log.md).
    "digits": Preset(
        "Table 1, with consistency, augmented judging and averaging",
        TABLE_1_MNIST,
        "cat10,2xuni",
        62,
        iterations=1_000,
        consistency=1.0,
        augment=True,
        average=100,
    ),
    "svhn": Preset(
        "Table 2", TABLES_2_AND_3_SVHN_CELEBA, "4xcat10,4xuni:learned", 124, jitter=COLOUR
    ),
    "celeba": Preset(
        "Table 3", TABLES_2_AND_3_SVHN_CELEBA, "10xcat10", 128, jitter=f"{COLOUR},flip=1"
    ),
    "faces-azimuth": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 2e-4, 5e-4, lambda_cont=0.2
    ),
    "faces-elevation": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 4e-4, 3e-4, lambda_cont=0.1
    ),
    "faces-lighting": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 8e-4, 3e-4, lambda_cont=0.1
    ),
    # Ours: Table 4 with what has single codes find the factors of rendered-faces (docs/log.md).
    "rendered-faces": Preset(
        "Table 4, with sigma fixed, less noise, a faster D, augmented judging and averaging",
        TABLE_4_FACES,
        "5xuni",
        4,
        lr_d=2e-3,
        iterations=3_000,
        augment=True,
        jitter="rotation=0.3,shear=0.2",  # to shift a face is too like raising the camera
        average=100,
    ),
    "chairs-rotation": Preset(
        "Tables 6, 7", TABLE_6_CHAIRS, "3xcat20,uni:learned", 128, lambda_cont=10.0
    ),
    "chairs-width": Preset(
        "Tables 6, 7",
        TABLE_6_CHAIRS,
        "3xcat20,uni:learned",
        128,
        lambda_disc=2.0,
        lambda_cont=0.05,
    ),
    # Ours: what finds the factors of sprites, with noise for what else tells chairs apart.
    "rendered-chairs": Preset(
        "our own networks, orthogonal codes and augmented judging",
        RENDERED_CHAIRS,
        "6xuni",
        16,
        lr_d=2e-3,
        batch_size=64,
        iterations=2_000,
        augment=True,
        jitter="rotation=0.3,shear=0.2",
        average=200,
        orthogonal=3.0,
        decay=0.5,
    ),
    "mnist-mlp": Preset(
        "wiseodd/generative-models",
        MNIST_MLP,
        "cat10",
        16,
        lr_d=1e-3,
        lr_g=1e-3,
        batch_size=32,
        separate_q=True,
    ),
    # Ours: InfoGAN-CR's settings for dSprites but for codes, noise and spectral norm
    # (docs/disentanglement.md).
    "infogan-cr": Preset(
        "InfoGAN-CR's networks for dSprites, with its contrastive regulariser",
        DSPRITES,
        "cat3,5xuni",
        0,
        lr_d=1e-3,
        lambda_disc=0.2,
        lambda_cont=0.2,
        batch_size=64,
        iterations=5_000,
        contrastive=1.0,
    ),
    # Ours: see docs/disentanglement.md.
    "sprites": Preset(
        "our own networks, orthogonal codes and augmented judging",
        sprites_architecture(32, 1),
        "6xuni",
        0,
        lr_d=2e-3,
        batch_size=64,
        iterations=4_000,
        augment=True,
        jitter="rotation=0.6,exposure=0.4",  # to move a shape or scale it is a factor here
        average=400,
        orthogonal=3.0,
        decay=0.5,
    ),
    # Ours.
    "folder": Preset(
        "Table 2's family", folder_architecture(32, 3), "cat10,4xuni", 128, jitter=COLOUR
    ),  # rebuilt for --image-size and --channels
}


# Presets whose networks are built for the images.
FAMILIES = {"folder": folder_architecture, "sprites": sprites_architecture}


def architecture_of(preset: str, image_size: int, channels: int) -> Architecture:
    """The rows of a preset's networks; those of ``FAMILIES`` depend on the images."""
    if preset in FAMILIES:
        return FAMILIES[preset](image_size, channels)
    return PRESETS[preset].architecture
