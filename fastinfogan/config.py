"""The configuration: one frozen dataclass tree (command line = config.json) and the preset rows."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg

from fastinfogan.errors import UserError
from fastinfogan.model.latent_spec import LatentSpec, make_spec

# --------------------------------------------------------------------------------------
# Rows: what a layer is. Every network here is a tuple of these.

Activation = Literal["relu", "lrelu", "sigmoid", "tanh", "linear"]
Shape = tuple[int, ...]  # (features,) or (channels, height, width), without the batch
KERNEL = 4  # every convolution in the paper is 4x4
LEAK = 0.1  # slope of lrelu below 0: the paper's; openai/InfoGAN has 0.01
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1  # batchnorm
ADAM_EPS = 1e-8
INIT_STD = 0.02  # weights N(0, 0.02), batchnorm scales N(1, 0.02), biases and shifts 0


@dataclass(frozen=True)
class Layer:
    """One row of a table: a linear map, then batchnorm if ``norm``, then the activation.

    Convolutions are 4x4 with "same" padding; ``upconv`` is the transposed convolution. A layer
    followed by batchnorm has no bias (the shift would be subtracted again). ``shape`` is set on
    a fully connected layer that feeds convolutions: its features, in (height, width, channel)
    order, become a (channels, height, width) map.
    """

    kind: Literal["fc", "conv", "upconv"]
    features: int
    norm: bool = False
    activation: Activation = "linear"
    stride: int = 1
    shape: Shape | None = None

    @property
    def bias(self) -> bool:
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

    def parameters(self, inputs: Shape) -> int:
        """Trained numbers: weight, bias, batchnorm's scale and shift."""
        taps = 1 if self.kind == "fc" else KERNEL * KERNEL
        fan_in = math.prod(inputs) if self.kind == "fc" else inputs[0]
        return fan_in * self.features * taps + self.features * (2 if self.norm else 1)


def fc(features: int | Shape, activation: Activation = "linear", *, bn: bool = False) -> Layer:
    """A fully connected row; ``features=(C, H, W)`` makes it a map of that shape."""
    if isinstance(features, int):
        return Layer("fc", features, bn, activation)
    return Layer("fc", math.prod(features), bn, activation, shape=features)


def conv(channels: int, activation: Activation, *, bn: bool = False, stride: int = 2) -> Layer:
    """A 4x4 convolution row."""
    return Layer("conv", channels, bn, activation, stride)


def upconv(channels: int, activation: Activation, *, bn: bool = False, stride: int = 2) -> Layer:
    """A 4x4 transposed-convolution row."""
    return Layer("upconv", channels, bn, activation, stride)


@dataclass(frozen=True)
class Architecture:
    """The rows of one table. D's last FC(1) and Q's last FC(q_width) are implied."""

    image_shape: Shape  # (channels, height, width)
    generator: tuple[Layer, ...]
    trunk: tuple[Layer, ...]  # shared by D and Q
    q_hidden: tuple[Layer, ...]  # between the trunk and Q's output
    init: Literal["0.02", "fan-in"] = "0.02"  # the initial weights; fan-in: fully connected only

    def init_std(self, fan_in: int) -> float:
        """0.02 for every weight, or sqrt(2 / inputs): without batchnorm 0.02 lets signals die."""
        return INIT_STD if self.init == "0.02" else (2.0 / fan_in) ** 0.5

    @property
    def output_range(self) -> tuple[float, float]:
        """Range of G's images, and so of the real ones: sigmoid [0, 1], tanh [-1, 1]."""
        return (0.0, 1.0) if self.generator[-1].activation == "sigmoid" else (-1.0, 1.0)

    def rows(self, spec: LatentSpec) -> dict[str, list[tuple[Layer, Shape, Shape]]]:
        """Every layer with its input and output shape: generator, trunk, d_head, q_head."""
        trunk = list(_trace(self.trunk, self.image_shape))
        features = trunk[-1][2] if trunk else self.image_shape
        return {
            "generator": list(_trace(self.generator, (spec.input_width,))),
            "trunk": trunk,
            "d_head": list(_trace((fc(1),), features)),
            "q_head": list(_trace((*self.q_hidden, fc(spec.q_width)), features)),
        }


def _trace(layers: tuple[Layer, ...], shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
    for layer in layers:
        after = layer.output_shape(shape)
        yield layer, shape, after
        shape = after


# --------------------------------------------------------------------------------------
# The paper's tables

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

MNIST_MLP = Architecture(  # wiseodd/generative-models
    image_shape=(1, 28, 28),
    generator=(fc(256, "relu"), fc((1, 28, 28), "sigmoid")),
    trunk=(fc(128, "relu"),),
    q_hidden=(),
    init="fan-in",
)


def folder_architecture(size: int, channels: int) -> Architecture:
    """Table 2's family for ``channels`` x ``size`` x ``size`` images, ``size`` = 16, 32, 64, 128.

    Convolutions halve the image down to 4x4 while the width doubles from 64 to at most 512; the
    generator mirrors them. Batchnorm everywhere but next to the image, as in Tables 1, 4 and 6.
    """
    if size not in (16, 32, 64, 128):
        raise UserError(f"--image-size {size}: 16, 32, 64 and 128 work")
    if channels not in (1, 3):
        raise UserError(f"--channels {channels}: 1 (grey) and 3 (colour) work")
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


@dataclass(frozen=True)
class Preset:
    """A named experiment: networks, codes and the settings it was published with."""

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


PRESETS: dict[str, Preset] = {
    # openai/InfoGAN trains MNIST for 50 epochs of 100 updates, with sigma fixed at 1.
    "mnist": Preset("Table 1", TABLE_1_MNIST, "cat10,2xuni", 62, iterations=5_000),
    "svhn": Preset("Table 2", TABLES_2_AND_3_SVHN_CELEBA, "4xcat10,4xuni:learned", 124),
    "celeba": Preset("Table 3", TABLES_2_AND_3_SVHN_CELEBA, "10xcat10", 128),
    "faces-azimuth": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 2e-4, 5e-4, lambda_cont=0.2
    ),
    "faces-elevation": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 4e-4, 3e-4, lambda_cont=0.1
    ),
    "faces-lighting": Preset(
        "Tables 4, 5", TABLE_4_FACES, "5xuni:learned", 128, 8e-4, 3e-4, lambda_cont=0.1
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
    "folder": Preset(
        "Table 2's family", folder_architecture(32, 3), "cat10,4xuni", 128
    ),  # rebuilt for --image-size and --channels
}

# --------------------------------------------------------------------------------------
# The tree. None means "the preset's" (or the dataset's) until resolve() fills it in.


def unset_as(metavar: str, default: str) -> Any:
    """How --help shows a field whose default is None."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from."""

    dataset: str = "digits"
    """Name of a dataset; `fastinfogan datasets` lists them."""
    data_dir: Annotated[Path | None, unset_as("DIR", "none")] = None
    """Folder that holds the dataset's files (digits needs none)."""
    image_size: Annotated[int | None, unset_as("PIXELS", "32")] = None
    """folder only: side of the square images; 16, 32, 64 or 128 (28 with preset mnist)."""
    channels: Annotated[int | None, unset_as("1|3", "3")] = None
    """folder only: 1 for grey, 3 for colour."""
    allow_bad: FlagCreatePairsOff[bool] = False
    """Leave out files that can't be read even if they are more than 1 %."""


@dataclass(frozen=True)
class ModelConfig:
    """Networks and latent codes. What isn't given comes from the preset."""

    preset: Annotated[str | None, unset_as("NAME", "fits the dataset")] = None
    """mnist, svhn, celeba, faces-azimuth, faces-elevation, faces-lighting, chairs-rotation,
    chairs-width, mnist-mlp or folder."""
    codes: Annotated[str | None, unset_as("SPEC", "the preset's")] = None
    """Latent codes, e.g. cat10,uni,uni: catK, uni, gauss, bern; 10xcat10 repeats; uni:learned has
    the network put out sigma; uni:free isn't regularised."""
    noise: Annotated[int | None, unset_as("COUNT", "the preset's")] = None
    """Number of noise values z beside the codes."""
    separate_q: Annotated[bool | None, unset_as("True|False", "the preset's")] = None
    """Give Q a trunk of its own that shares nothing with D."""


@dataclass(frozen=True)
class OptimConfig:
    """What is minimised, and how. What isn't given comes from the preset."""

    objective: Literal["infogan", "gan"] = "infogan"
    """infogan: V(D, G) - lambda L_I. gan: the baseline; Q watches, and nothing learns from it."""
    update: Literal["alternating", "simultaneous"] = "alternating"
    """alternating: D and G each see fresh codes. simultaneous: one fake batch serves both."""
    iterations: Annotated[int | None, unset_as("COUNT", "1000 for digits, else the preset's")] = (
        None
    )
    """Training length; one iteration updates D once and G once."""
    batch_size: Annotated[int | None, unset_as("COUNT", "the preset's")] = None
    """Real images per iteration, and as many generated ones."""
    lr_d: Annotated[float | None, unset_as("X", "the preset's")] = None
    """Adam's learning rate for D and Q."""
    lr_g: Annotated[float | None, unset_as("X", "the preset's")] = None
    """Adam's learning rate for G."""
    lambda_disc: Annotated[float | None, unset_as("X", "the preset's")] = None
    """Weight of L_I for categorical and Bernoulli codes."""
    lambda_cont: Annotated[float | None, unset_as("X", "the preset's")] = None
    """Weight of L_I for uniform and Gaussian codes."""
    beta1: float = 0.5
    """Adam's first decay rate."""
    beta2: float = 0.999
    """Adam's second decay rate."""


@dataclass(frozen=True)
class RunConfig:
    """Where and how to run, what to leave behind."""

    out: Annotated[Path | None, unset_as("DIR", "runs/DATASET-DATE-TIME")] = None
    """Run directory; it must not exist yet."""
    seed: int = 0
    """Fixes weights, codes and the order of images."""
    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, cuda or cuda:N."""
    resident: Literal["auto", "yes", "no"] = "auto"
    """Keep all images on the device; auto: if they take at most a quarter of its free memory.
    Otherwise the same batches are read ahead from the ingested file."""
    engine: Literal["fast", "reference"] = "fast"
    """fast, or the one-page plain PyTorch reference: same mathematics, same draws."""
    amp: bool = False
    """Mixed precision: bfloat16 where the hardware has it, float16 with loss scaling on older
    GPUs; statistics, losses, moments and weights proper stay in float32."""
    amp_dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """With --amp: choose the type by hand; a CPU without bfloat16 arithmetic emulates it."""
    compile: Annotated[bool | None, unset_as("", "on a GPU")] = None
    """Or --no-compile: torch.compile for what is left between the kernels."""
    cuda_graphs: Annotated[bool | None, unset_as("", "on a GPU")] = None
    """Or --no-cuda-graphs: replay whole iterations that the GPU has recorded."""
    profile: bool = False
    """Leave a trace of a few iterations in trace.json (open it in Perfetto) and print the five
    most expensive things."""
    log_every: int = 20
    """Iterations between lines of metrics.jsonl."""
    sample_every: int = 250
    """Iterations between pictures; 0 leaves only the ones at the end."""
    checkpoint_every: int = 250
    """Iterations between checkpoints; the two newest are kept."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a training run. This tree is the command line and config.json."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def spec(self) -> LatentSpec:
        """The latent specification of a resolved configuration."""
        return make_spec(self.model.noise, self.model.codes)

    @property
    def architecture(self) -> Architecture:
        """The rows of a resolved configuration's networks."""
        return _architecture(self.model.preset, self.data)

    @property
    def lambdas(self) -> tuple[float, ...]:
        """lambda per code of a resolved configuration."""
        return self.spec.lambdas(self.optim.lambda_disc, self.optim.lambda_cont)

    def fingerprint(self) -> str:
        """SHA-256 of what decides an iteration: the tree without what may change on resuming."""
        tree = to_dict(self)
        for name in RESUMABLE_CHANGES:
            part, key = name.split(".")
            del tree[part][key]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


# What may differ between a run and its continuation: the mathematics stays, though another device,
# engine or compiler rounds differently. Everything else would make it another run.
RESUMABLE_CHANGES = frozenset(
    {
        "optim.iterations", "data.data_dir", "data.allow_bad", "run.out", "run.device",
        "run.resident", "run.engine", "run.compile", "run.cuda_graphs", "run.profile",
        "run.log_every", "run.sample_every", "run.checkpoint_every",
    }
)  # fmt: skip


def resolve(config: TrainConfig) -> TrainConfig:
    """Fill every None from the preset and the dataset, and check every value.

    Raises:
        UserError: a value that can't work, naming its flag.
    """
    from fastinfogan.data import find_dataset

    dataset = find_dataset(config.data.dataset)
    name = dataset.default_preset if config.model.preset is None else config.model.preset
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"--preset {name!r} is unknown; choose one of {', '.join(PRESETS)}{hint}")
    data = config.data
    dataset.check_shape(data.image_size, data.channels)
    if name == "folder":
        channels, size, _ = dataset.image_shape or (3, 32, 32)
        data = _filled(data, image_size=size, channels=channels)
    architecture = _architecture(name, data)
    channels, size = architecture.image_shape[0], architecture.image_shape[1]
    if dataset.image_shape is None:  # a folder's images become whatever size is asked for
        for flag, given, wanted in (
            ("--image-size", data.image_size, size), ("--channels", data.channels, channels),
        ):  # fmt: skip
            if given not in (None, wanted):
                raise UserError(f"{flag} {given}: preset {name} works on {wanted}")
        data = replace(data, image_size=size, channels=channels)
    elif dataset.image_shape != architecture.image_shape:
        raise UserError(
            f"--preset {name} works on {_times(architecture.image_shape)} images, but --dataset "
            f"{dataset.name} has {_times(dataset.image_shape)}; {_fitting(dataset.image_shape)}"
        )
    own = preset_config(name)
    model = _filled(config.model, **vars(own.model))
    optim = config.optim
    if dataset.iterations is not None:
        optim = _filled(optim, iterations=dataset.iterations)
    optim = _filled(optim, **vars(own.optim))
    spec = make_spec(model.noise, model.codes)
    if not spec.regularized:
        raise UserError(f"--codes {model.codes!r}: at least one code must not be :free")
    model = replace(model, codes=str(spec))  # one spelling, so that runs compare
    resolved = TrainConfig(data, model, optim, config.run)
    _check_ranges(resolved)
    return resolved


def preset_config(name: str) -> TrainConfig:
    """The resolved configuration of a preset, on no dataset in particular."""
    preset = PRESETS[name]
    channels, size, _ = preset.architecture.image_shape
    return TrainConfig(
        data=DataConfig(image_size=size, channels=channels),
        model=ModelConfig(name, preset.codes, preset.noise, preset.separate_q),
        optim=OptimConfig(
            iterations=preset.iterations,
            batch_size=preset.batch_size,
            lr_d=preset.lr_d,
            lr_g=preset.lr_g,
            lambda_disc=preset.lambda_disc,
            lambda_cont=preset.lambda_cont,
        ),
    )


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The tree as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_dict(tree: dict[str, Any]) -> TrainConfig:
    """The configuration that ``to_dict`` wrote.

    Raises:
        UserError: a field is missing, unknown, or of the wrong type.
    """
    return _build(TrainConfig, tree, "config.json")


def differences(saved: TrainConfig, wanted: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (saved, wanted) wherever two configurations differ."""
    before, after = (dict(_flatten(to_dict(config))) for config in (saved, wanted))
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _architecture(preset: str, data: DataConfig) -> Architecture:
    if preset == "folder":
        return folder_architecture(data.image_size, data.channels)
    return PRESETS[preset].architecture


def _filled(config: Any, **defaults: Any) -> Any:
    """``config`` with the given defaults in place of its Nones."""
    missing = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    return replace(config, **missing)


def _check_ranges(config: TrainConfig) -> None:
    optim, run = config.optim, config.run
    limits = [  # flag, value, fits, what works
        ("--iterations", optim.iterations, 1 <= optim.iterations < 10**9, "1 to 999999999"),
        ("--batch-size", optim.batch_size, optim.batch_size >= 2, "2 or more (batchnorm)"),
        ("--lr-d", optim.lr_d, 0 < optim.lr_d < 1, "above 0 and below 1"),
        ("--lr-g", optim.lr_g, 0 < optim.lr_g < 1, "above 0 and below 1"),
        ("--lambda-disc", optim.lambda_disc, 0 <= optim.lambda_disc < 1e6, "0 or more"),
        ("--lambda-cont", optim.lambda_cont, 0 <= optim.lambda_cont < 1e6, "0 or more"),
        ("--beta1", optim.beta1, 0 <= optim.beta1 < 1, "0 or more and below 1"),
        ("--beta2", optim.beta2, 0 <= optim.beta2 < 1, "0 or more and below 1"),
        ("--seed", run.seed, 0 <= run.seed < 2**63, "0 to 2^63 - 1"),
        ("--log-every", run.log_every, run.log_every >= 1, "1 or more"),
        ("--sample-every", run.sample_every, run.sample_every >= 0, "0 or more"),
        ("--checkpoint-every", run.checkpoint_every, run.checkpoint_every >= 1, "1 or more"),
    ]
    for flag, value, fits, works in limits:
        if not fits:
            raise UserError(f"{flag} {value}: {works} works")
    if run.engine == "reference":
        for flag, given in (
            ("--amp", run.amp), ("--compile", run.compile), ("--cuda-graphs", run.cuda_graphs),
        ):  # fmt: skip
            if given:
                raise UserError(f"{flag}: only --engine fast has it; the reference stays plain")
    if run.amp_dtype != "auto" and not run.amp:
        raise UserError(f"--amp-dtype {run.amp_dtype}: it needs --amp")


def _fitting(shape: Shape) -> str:
    names = [name for name, row in PRESETS.items() if row.architecture.image_shape == shape]
    return f"presets that fit: {', '.join(names)}" if names else "no preset fits"


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _build(kind: type, tree: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(tree, dict) or set(tree) != set(hints):
        odd = sorted(set(tree) ^ set(hints)) if isinstance(tree, dict) else [type(tree).__name__]
        raise UserError(f"{where}: fields {', '.join(odd)} are missing or unknown to this version")
    values = {}
    for key, hint in hints.items():
        value = tree[key]
        if dataclasses.is_dataclass(hint):
            values[key] = _build(hint, value, f"{where}: {key}")
            continue
        allowed = typing.get_args(hint) or (hint,)
        if Path in allowed and isinstance(value, str):
            value = Path(value)
        elif float in allowed and type(value) is int:
            value = float(value)
        literal = typing.get_origin(hint) is Literal
        if value not in allowed if literal else type(value) not in _plain(allowed):
            raise UserError(f"{where}: {key} is {value!r}, which is not a {hint}")
        values[key] = value
    return kind(**values)


def _plain(types_: tuple[type, ...]) -> tuple[type, ...]:
    return tuple(type(Path()) if kind is Path else kind for kind in types_)
