"""What is measured: the reference engine four ways, ours, and ours with one part switched off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from tolerances import BENCH_LONG_SUM, EPS, SAME_DTYPE_FACTOR
from torch import Tensor

from bench.floor import synchronize
from fastinfogan.config import ADAM_EPS, RunConfig, TrainConfig, preset_config
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.engine.precision import half_dtype
from fastinfogan.engine.step import Batch, FastEngine, _judge
from fastinfogan.errors import UserError
from fastinfogan.kernels import dispatch
from fastinfogan.model.networks import Discriminator
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.training.metrics import Window
from fastinfogan.training.trainer import Draws, build_engine

HALF_ROUNDINGS = 8  # of a value on its way through the networks, one a layer


@dataclass(frozen=True)
class Subject:
    """A way to run an iteration.

    Attributes:
        name: in results and on the command line.
        says: what it is, in a phrase.
        amp: the passes run in half precision.
        prepare: changes an engine before its first iteration.
        around: a context that every step of the engine runs in.
        run: fields of the run's configuration.
        obstacle: why it can't run here; "" if it can.
    """

    name: str
    says: str
    amp: bool = False
    prepare: Callable[[Engine, TrainConfig], None] | None = None
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    run: tuple[tuple[str, object], ...] = (("engine", "fast"),)
    obstacle: str = ""

    @property
    def compiles(self) -> bool:
        """Its first iterations take as long as a compiler does."""
        return "compile" in self.name


Engine = FastEngine | ReferenceEngine
REFERENCE = (("engine", "reference"), ("compile", False), ("cuda_graphs", False))


def all_subjects(device: torch.device, amp_dtype: str = "auto") -> list[Subject]:
    """Every subject, in the order of the table; the ablations are of the fastest of ours.

    Args:
        device: where they run.
        amp_dtype: as --amp-dtype.
    """
    amp = (("amp", True), ("amp_dtype", amp_dtype))
    on_gpu, half = device.type == "cuda", amp_type(device, amp_dtype)
    in_half = half is not None
    no_half = "" if in_half else "this CPU has no bfloat16 arithmetic; --amp-dtype emulates it"
    no_gpu = "" if on_gpu else "there is no GPU"
    base = (("engine", "fast"), *(amp if in_half else ()))

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(device.type, half)

    ablation = {
        "two-passes": Subject(
            "two-passes", "real and fake through D one after the other", in_half, _two_passes,
            run=base,
        ),
        "separate-adam": Subject(
            "separate-adam", "torch.optim.Adam(fused=True) and a cast for each parameter", in_half,
            _separate_adam, run=base,
        ),
        "no-kernels": Subject(
            "no-kernels", "every op in plain torch", in_half, around=_plain_ops, run=base
        ),
    }  # fmt: skip
    if on_gpu:
        no_graphs = (*base, ("cuda_graphs", False))
        ablation |= {
            "no-compile": Subject(
                "no-compile", "without torch.compile", in_half, run=(*base, ("compile", False))
            ),
            "no-graphs": Subject("no-graphs", "without CUDA graphs", in_half, run=no_graphs),
        }
    else:
        ablation["compiled"] = Subject(
            "compiled", "with torch.compile (off by default on a CPU)", in_half,
            run=(*base, ("compile", True)),
        )  # fmt: skip
    return [
        Subject("reference", "plain eager PyTorch, float32", run=REFERENCE),
        Subject(
            "reference-autocast", "the same under torch.autocast", True, around=autocast,
            run=REFERENCE, obstacle=no_half,
        ),
        Subject(
            "reference-compile", "the same, torch.compile", False, _compile_reference(None),
            run=REFERENCE,
        ),
        Subject(
            "reference-reduce-overhead", 'the same, torch.compile(mode="reduce-overhead")', False,
            _compile_reference("reduce-overhead"), run=REFERENCE, obstacle=no_gpu,
        ),
        Subject("ours", "the engine proper, float32"),
        Subject(
            "ours-amp", "the engine proper, --amp", True, run=(("engine", "fast"), *amp),
            obstacle=no_half,
        ),
        *ablation.values(),
    ]  # fmt: skip


def amp_type(device: torch.device, amp_dtype: str) -> torch.dtype | None:
    """What --amp computes in here; None if the hardware can't and isn't asked to."""
    try:
        return half_dtype(RunConfig(amp=True, amp_dtype=amp_dtype), device)
    except UserError:
        return None


# -- One part switched off -----------------------------------------------------------------------


def _two_passes(engine: FastEngine, config: TrainConfig) -> None:
    """D sees the real and the generated images in passes of their own."""
    compiled = engine._judge is not _judge
    engine._judge = torch.compile(_apart, fullgraph=True, dynamic=False) if compiled else _apart


def _apart(d: Discriminator, images: Tensor, groups: int, informed: bool) -> tuple[Tensor, Tensor]:
    if groups == 1:
        return _judge(d, images, 1, informed)
    real, fake = images.chunk(2)
    logits_real = d.logits(d.features(real))
    logits_fake, q_params = _judge(d, fake, 1, informed)
    return torch.cat([logits_real, logits_fake]), q_params


class SeparateAdam:
    """torch's fused Adam over a network's own tensors, in the place of a ``FlatAdam``."""

    def __init__(self, flat: FlatAdam, lr: float, betas: tuple[float, float]) -> None:
        self.compute, self.zero_grad, self.publish = flat.compute, flat.zero_grad, flat.publish
        self._parameters, self._trained = list(flat.state), flat.trained
        both = zip(self._trained, self._parameters, strict=True)
        pairs = [(t, p) for t, p in both if t is not p]
        self._copies = [t for t, _ in pairs], [p for _, p in pairs]
        on_gpu = self._parameters[0].is_cuda
        self._adam = torch.optim.Adam(
            self._parameters, lr, betas, ADAM_EPS, fused=True, capturable=on_gpu
        )

    def step(self, loss_scale: None = None) -> None:
        for parameter, trained in zip(self._parameters, self._trained, strict=True):
            parameter.grad = trained.grad.to(parameter.dtype)
        self._adam.step()
        if self._copies[0]:
            with torch.no_grad():
                torch._foreach_copy_(*self._copies)


def _separate_adam(engine: FastEngine, config: TrainConfig) -> None:
    if engine.loss_scale is not None:
        raise UserError("separate-adam: it has no loss scaling; bfloat16 works")
    optim = config.optim
    betas = (optim.beta1, optim.beta2)
    engine.adam_d = SeparateAdam(engine.adam_d, optim.lr_d, betas)
    engine.adam_g = SeparateAdam(engine.adam_g, optim.lr_g, betas)


@contextlib.contextmanager
def _plain_ops():
    """``impl="auto"`` finds neither native nor Triton kernels."""
    before, dispatch._obstacle = dispatch._obstacle, _switched_off
    try:
        yield
    finally:
        dispatch._obstacle = before


def _switched_off(*_: object) -> str:
    return "it is switched off"


def _compile_reference(mode: str | None) -> Callable[[ReferenceEngine, TrainConfig], None]:
    """Networks and losses compiled, the optimisers as they are: what a user would write."""

    def prepare(engine: ReferenceEngine, config: TrainConfig) -> None:
        d = engine.discriminator
        for module in (engine.generator, d.trunk, d.d_head, d.q_head, d.q_trunk):
            if module is not None:
                module.compile(mode=mode)
        engine.d_losses = torch.compile(engine.d_losses, mode=mode)
        if mode == "reduce-overhead":
            step = engine.step

            def marked(batch: Batch):
                # Gradients of the last iteration lie in memory that its graphs use again.
                engine.adam_d.zero_grad()
                engine.adam_g.zero_grad()
                torch.compiler.cudagraph_mark_step_begin()
                return step(batch)

            engine.step = marked

    return prepare


# -- Running one ---------------------------------------------------------------------------------


def config_of(preset: str, tiny: bool) -> TrainConfig:
    """A preset; ``tiny``: narrow-NAME (see tests/narrow.py), which must be there, on 8 images."""
    config = preset_config(preset)
    if not tiny:
        return config
    return replace(
        config,
        model=replace(config.model, preset=f"narrow-{preset}"),
        optim=replace(config.optim, batch_size=8),
    )


class Runner:
    """A subject's engine and all that an iteration needs, put together as the trainer does it.

    Attributes:
        note: why CUDA graphs aren't used though they should be; "" otherwise.
        sums: D loss, G loss and the codes' NLLs, summed over the iterations so far.
    """

    def __init__(self, subject: Subject, config: TrainConfig, device: torch.device) -> None:
        if subject.compiles or device.type == "cuda":
            # All subjects share the functions that they compile: more variants than any user has.
            torch._dynamo.config.recompile_limit = 256
        config = replace(config, run=replace(config.run, **dict(subject.run)))
        engine = build_engine(config, device)
        if subject.prepare is not None:
            subject.prepare(engine, config)
        draws = draws_of(config, device, engine.input_dtype)
        window = Window(config.spec, device)
        self.sums = window.sums
        graphs = config.run.cuda_graphs
        graphs = device.type == "cuda" if graphs is None else graphs

        def iterate() -> None:
            batch = draws.next()  # all subjects draw alike
            with subject.around():
                losses = engine.step(batch)
            window.add(losses)

        self._iterations = (Captured if graphs else Eager)(iterate, None)

    def run(self, count: int) -> None:
        """Run ``count`` iterations; on a GPU this returns before they are done."""
        self._iterations.run(count)

    @property
    def note(self) -> str:
        return self._iterations.note


def draws_of(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> Draws:
    """Latents, and batches of random images that are resident on the device."""
    channels, height, width = config.architecture.image_shape
    size = config.optim.batch_size
    shape = (2 * size, height, width, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = Batches(size, 0, config.architecture.output_range, device, dtype)
    return Draws(config, ResidentFeed(ImageData("random", images, None, None), batches), dtype)


class Parity:
    """The losses of the first iteration, before any update: what float64 says they are."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        config = replace(config, run=replace(config.run, **dict(REFERENCE)))
        engine = build_engine(config, device)
        engine.generator.double()
        engine.discriminator.double()
        batch = draws_of(config, device, torch.float32).next()
        inputs = [type(drawn)(*(part.double() for part in drawn)) for drawn in batch[1:]]
        exact = engine.step(Batch(batch.real.double(), *inputs))
        self._exact = {"d_loss": exact.d_loss, "nll": exact.nll}
        self._allowed: dict[str, dict[str, float]] = {}

    def check(self, subject: Subject, runner: Runner, half: torch.dtype | None) -> None:
        """Hold what ``runner`` summed up over one iteration against float64's losses.

        A subject's error may be as large as that of the plain reference in the same precision,
        twice (see SAME_DTYPE_FACTOR), and if that is exact by luck, the typical error.

        Raises:
            AssertionError: the error is larger.
        """
        dtype = half if subject.amp else torch.float32
        allowed = self._reference_errors(dtype)
        for name, error in self._errors(runner).items():
            largest = self._exact[name].abs().max().item()
            spare = HALF_ROUNDINGS * EPS[dtype] if subject.amp else BENCH_LONG_SUM
            limit = SAME_DTYPE_FACTOR * (allowed[name] + spare * largest)
            assert error <= limit, f"{subject.name}: {name} is off by {error:.3g} > {limit:.3g}"

    def _reference_errors(self, dtype: torch.dtype) -> dict[str, float]:
        key = str(dtype)
        if key not in self._allowed:
            name = "reference" if dtype == torch.float32 else "reference-autocast"
            around = contextlib.nullcontext
            if dtype != torch.float32:
                around = lambda: torch.autocast(self._device.type, dtype)  # noqa: E731
            runner = Runner(
                Subject(name, "", around=around, run=REFERENCE), self._config, self._device
            )
            runner.run(1)
            self._allowed[key] = self._errors(runner)
        return self._allowed[key]

    def _errors(self, runner: Runner) -> dict[str, float]:
        synchronize(self._device)
        got = {"d_loss": runner.sums[0], "nll": runner.sums[2:]}
        return {name: (got[name] - exact).abs().max().item() for name, exact in self._exact.items()}
