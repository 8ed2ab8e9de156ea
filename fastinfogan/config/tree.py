"""The configuration: one frozen dataclass tree, which is the command line and ``config.json``.

None means "the preset's" (or the dataset's) until ``resolve`` fills it in.

Such a field is annotated ``Optional``: for ``X | None``, and for a default that isn't plainly of
its union's first kind, tyro loads a library that takes longer than all else that a refusal needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

from tyro.conf import FlagCreatePairsOff, arg

from fastinfogan.config.jitter import parse_jitter
from fastinfogan.config.layers import Architecture, Layer, Shape
from fastinfogan.config.presets import architecture_of
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.model.latent_spec import LatentSpec, make_spec
from fastinfogan.paths import expanded


def unset_as(metavar: str, default: str) -> Any:
    """How --help shows a field whose default is None."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from."""

    dataset: str = "digits"
    """Name of a dataset; `fastinfogan datasets` lists them."""
    data_dir: Annotated[Optional[Path], unset_as("DIR", "none")] = None
    """Folder that holds the dataset's files (digits needs none)."""
    image_size: Annotated[Optional[int], unset_as("PIXELS", "32")] = None
    """Side of a folder's square images: 16, 32, 64 or 128 (28 with preset mnist); of sprites: 32
    or 64."""
    channels: Annotated[Optional[int], unset_as("1|3", "3")] = None
    """folder only: 1 for grey, 3 for colour."""
    allow_bad: FlagCreatePairsOff[bool] = False
    """Leave out files that can't be read, however many (a few, or 1 %, need no flag)."""
    stretch: Annotated[Optional[int], unset_as("BITS", "16")] = None
    """folder and faces: bits that grey images of 16 bits really use, as scans do; often 12."""

    def __post_init__(self) -> None:
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", expanded(self.data_dir))


@dataclass(frozen=True)
class ModelConfig:
    """Networks and latent codes. What isn't given comes from the preset."""

    preset: Annotated[Optional[str], unset_as("NAME", "fits the dataset")] = None
    """digits, mnist, svhn, celeba, faces-azimuth, faces-elevation, faces-lighting, rendered-faces,
    chairs-rotation, chairs-width, rendered-chairs, mnist-mlp, sprites, infogan-cr or folder."""
    codes: Annotated[Optional[str], unset_as("SPEC", "the preset's")] = None
    """Latent codes, e.g. cat10,uni,uni: catK, uni, gauss, bern; 10xcat10 repeats; uni:learned has
    the network put out sigma; uni:free isn't regularised."""
    noise: Annotated[Optional[int], unset_as("COUNT", "the preset's")] = None
    """Number of noise values z beside the codes."""
    separate_q: Annotated[Optional[bool], unset_as("True|False", "the preset's")] = None
    """Give Q a trunk of its own that shares nothing with D."""


@dataclass(frozen=True)
class OptimConfig:
    """What is minimised, and how. What isn't given comes from the preset."""

    objective: Literal["infogan", "gan"] = "infogan"
    """infogan: V(D, G) - lambda L_I. gan: the baseline; Q watches, and nothing learns from it."""
    update: Literal["alternating", "simultaneous"] = "alternating"
    """alternating: D and G each see fresh codes. simultaneous: one fake batch serves both."""
    iterations: Annotated[
        Optional[int], unset_as("COUNT", "1000 for digits, else the preset's")
    ] = None
    """Training length; one iteration updates D once and G once."""
    batch_size: Annotated[Optional[int], unset_as("COUNT", "the preset's")] = None
    """Real images per iteration, and as many generated ones."""
    lr_d: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Adam's learning rate for D and Q."""
    lr_g: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Adam's learning rate for G."""
    decay: Annotated[Optional[float], unset_as("SHARE", "the preset's")] = None
    """Share of the training, at its end, over which both learning rates fall to 0; 0, as in the
    paper's presets: they stay."""
    lambda_disc: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Weight of L_I for categorical and Bernoulli codes."""
    lambda_cont: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Weight of L_I for uniform and Gaussian codes."""
    consistency: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Weight of Q's consistency: its categories must agree on a real image and on a slightly
    changed copy of it. 0 is the paper's objective."""
    augment: Annotated[Optional[bool], unset_as("", "the preset's")] = None
    """Or --no-augment: D and Q see every image, real or generated, slightly changed, by half the
    ranges of --jitter. The paper's presets don't."""
    jitter: Annotated[Optional[str], unset_as("RANGES", "the preset's")] = None
    """What a slight change is, e.g. rotation=0.3,scale=0.15,shear=0.2,shift=0.08; also
    brightness, contrast, exposure and flip=1."""
    contrastive: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Weight of the contrastive regulariser (InfoGAN-CR): of two generated images that share one
    continuous code, another network must tell which code that is. 0 is the paper's objective."""
    gap_until: Annotated[Optional[int], unset_as("COUNT", "the preset's")] = None
    """With --contrastive: at first all other uniform codes of a pair lie half their range apart;
    this gap falls to 0 over so many iterations. 0: there is none."""
    orthogonal: Annotated[Optional[float], unset_as("X", "the preset's")] = None
    """Weight of the orthogonal Jacobian regularisation: two continuous codes must not change an
    image in the same way. 0 is the paper's objective."""
    average: Annotated[Optional[int], unset_as("COUNT", "the preset's")] = None
    """Evaluate, draw and export the mean of the weights over about the last COUNT iterations (at
    most a tenth of the training so far); 0, as in the paper's presets, the weights themselves."""
    beta1: float = 0.5
    """Adam's first decay rate."""
    beta2: float = 0.999
    """Adam's second decay rate."""

    @property
    def changes_images(self) -> bool:
        """Whether a resolved configuration has anything look at changed images."""
        return self.consistency > 0 or self.augment

    @property
    def extra_losses(self) -> tuple[str, ...]:
        """Fields of ``Losses`` that a resolved configuration adds to the paper's."""
        names = ("consistency", "contrastive", "orthogonal")
        return tuple(name for name in names if getattr(self, name) > 0)


@dataclass(frozen=True)
class RunConfig:
    """Where and how to run, what to leave behind."""

    out: Annotated[Optional[Path], unset_as("DIR", "runs/DATASET-DATE-TIME")] = None
    """Run directory; it must not exist yet, or be empty."""
    seed: int = 0
    """Fixes weights, codes and the order of images."""
    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, cuda or cuda:N."""
    feed: Literal["auto", "resident", "streamed", "encoded"] = "auto"
    """Where batches come from: images resident on the device, streamed from the ingested file, or
    decoded while training. auto: resident if they take at most a quarter of the device's free
    memory, else streamed; encoded if the decoded images would not fit the cache's disk."""
    engine: Literal["fast", "reference"] = "fast"
    """fast, or the one-page plain PyTorch reference: same mathematics, same draws."""
    amp: bool = False
    """Mixed precision: bfloat16 where the hardware has it, float16 with loss scaling on older
    GPUs; statistics, losses, moments and weights proper stay in float32."""
    amp_dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """With --amp: choose the type by hand; a CPU without bfloat16 arithmetic emulates it."""
    compile: bool = False
    """torch.compile for what is left between the kernels: little, and the first iteration waits."""
    cuda_graphs: Annotated[Optional[bool], unset_as("", "on a GPU")] = None
    """Or --no-cuda-graphs: replay whole iterations that the GPU has recorded."""
    sync_batchnorm: bool = True
    """Under torchrun: batchnorm goes by the whole batch, as one process would. Or
    --no-sync-batchnorm: each rank by its own part, which saves what they would exchange."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """Under torchrun: what ranks send gradients in. bfloat16 halves the bytes, and rounds; their
    sums stay in float32."""
    profile: bool = False
    """Leave a trace of a few iterations in trace.json (open it in Perfetto) and print the five
    most expensive things."""
    log_every: int = 20
    """Iterations between lines of metrics.jsonl."""
    sample_every: Annotated[Optional[int], unset_as("COUNT", "by time")] = None
    """Iterations between pictures; 0 leaves only the ones at the end. By time as for
    --checkpoint-every."""
    evaluate_every: int = 0
    """Iterations between evaluations against labels or known factors, for metrics.jsonl; 0 leaves
    only the end's."""
    checkpoint_every: Annotated[Optional[int], unset_as("COUNT", "by time")] = None
    """Iterations between checkpoints; the two newest are kept. By time: after a minute, or fifty
    times as long as saving takes."""

    def __post_init__(self) -> None:
        if self.out is not None:
            object.__setattr__(self, "out", expanded(self.out))


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a training run. This tree is the command line and config.json."""

    data: Annotated[DataConfig, arg(help=DataConfig.__doc__)] = field(default_factory=DataConfig)
    model: Annotated[ModelConfig, arg(help=ModelConfig.__doc__)] = field(
        default_factory=ModelConfig
    )
    optim: Annotated[OptimConfig, arg(help=OptimConfig.__doc__)] = field(
        default_factory=OptimConfig
    )
    run: Annotated[RunConfig, arg(help=RunConfig.__doc__)] = field(default_factory=RunConfig)

    @property
    def spec(self) -> LatentSpec:
        """The latent specification of a resolved configuration."""
        return make_spec(self.model.noise, self.model.codes)

    @property
    def architecture(self) -> Architecture:
        """The rows of a resolved configuration's networks."""
        return architecture_of(self.model.preset, self.data.image_size, self.data.channels)

    @property
    def rows(self) -> dict[str, list[tuple[Layer, Shape, Shape]]]:
        """Every layer of a resolved configuration's networks (``Architecture.rows``)."""
        return self.architecture.rows(self.spec, self.optim.contrastive > 0)

    @property
    def jitter(self) -> Jitter:
        """What a slight change of an image is, in a resolved configuration."""
        return parse_jitter(self.optim.jitter)

    @property
    def lambdas(self) -> tuple[float, ...]:
        """lambda per code of a resolved configuration."""
        return self.spec.lambdas(self.optim.lambda_disc, self.optim.lambda_cont)

    def kept_in(self, out: Path | None) -> TrainConfig:
        """As a run or a study keeps it: the folder of images is absolute, found from anywhere."""
        data = self.data
        if data.data_dir is not None:
            data = replace(data, data_dir=data.data_dir.absolute())
        return replace(self, data=data, run=replace(self.run, out=out))

    @property
    def resumable_changes(self) -> frozenset[str]:
        """Dotted fields that may differ between a run and its continuation.

        Rates that fall depend on where the training ends.
        """
        return RESUMABLE_CHANGES - ({"optim.iterations"} if self.optim.decay else set())

    def fingerprint(self) -> str:
        """SHA-256 of what decides an iteration: the tree without what may change on resuming.

        What came later (consistency, both regularisers and so on) counts only where it is on:
        checkpoints from before it existed still fit. What D's weights are scaled to is a number of
        the preset's that no weight's shape tells; checkpoints that don't count it had means of D
        that were scaled otherwise.
        """
        tree = to_dict(self)
        if self.architecture.spectral is not None:
            tree["model"]["spectral"] = self.architecture.spectral
        if not self.optim.changes_images:
            for key in ("consistency", "augment", "jitter"):
                del tree["optim"][key]
        if not self.optim.average:
            del tree["optim"]["average"]
        if not self.optim.contrastive:
            del tree["optim"]["contrastive"], tree["optim"]["gap_until"]
        for key in ("orthogonal", "decay"):
            if not tree["optim"][key]:
                del tree["optim"][key]
        if self.data.stretch is None:
            del tree["data"]["stretch"]
        for name in self.resumable_changes:
            part, key = name.split(".")
            del tree[part][key]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


# What may differ between a run and its continuation: the mathematics stays, though another device,
# engine or compiler rounds differently. Everything else would make it another run.
RESUMABLE_CHANGES = frozenset(
    {
        "optim.iterations", "data.data_dir", "data.allow_bad", "run.out", "run.device",
        "run.feed", "run.engine", "run.compile", "run.cuda_graphs", "run.profile",
        "run.sync_batchnorm", "run.reduce_dtype", "run.log_every", "run.sample_every",
        "run.evaluate_every", "run.checkpoint_every",
    }
)  # fmt: skip


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The tree as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
