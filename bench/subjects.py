"""What is measured: the reference engine four ways, ours, and ours with one part switched off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from tolerances import BENCH_LONG_SUM, EPS, SAME_DTYPE_FACTOR
from torch import Tensor, nn

from bench.floor import synchronize
from fastinfogan.config import ADAM_EPS, TrainConfig, preset_config
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.engine.objective import judge
from fastinfogan.errors import UserError
from fastinfogan.kernels.dispatch import plain_ops
from fastinfogan.model.networks import Discriminator
from fastinfogan.model.reference import Batch, ReferenceEngine
from fastinfogan.plan import Plan, half_type, make_plan
from fastinfogan.training.metrics import Window

HALF_ROUNDINGS = 8  # of a value on its way through the networks, one a layer


@dataclass(frozen=True)
class Subject:
    """A way to run an iteration.

    Attributes:
        name: in results and on the command line.
        says: what it is, in a phrase.
        amp: the passes run in half precision.
        prepare: changes a reference engine before its first iteration.
        parts: other parts for the fast engine than its own.
        around: a context that every step of the engine runs in.
        run: fields of the run's configuration.
        obstacle: why it can't run here; "" if it can.
    """

    name: str
    says: str
    amp: bool = False
    prepare: Callable[[ReferenceEngine], None] | None = None
    parts: tuple[tuple[str, object], ...] = ()
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    run: tuple[tuple[str, object], ...] = (("engine", "fast"),)
    obstacle: str = ""

    @property
    def compiles(self) -> bool:
        """Its first iterations take as long as a compiler does."""
        return "compile" in self.name


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
            "two-passes", "real and fake through D one after the other", in_half,
            parts=(("judge", apart),), run=base,
        ),
        "separate-adam": Subject(
            "separate-adam", "torch.optim.Adam(fused=True) and a cast for each parameter", in_half,
            parts=(("optimizer", SeparateAdam),), run=base,
        ),
        "no-kernels": Subject(
            "no-kernels", "every op in plain torch", in_half, around=plain_ops, run=base
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
        return half_type(device, amp_dtype)
    except UserError:
        return None


# -- One part switched off -----------------------------------------------------------------------


def apart(d: Discriminator, images: Tensor, groups: int, informed: bool) -> tuple[Tensor, Tensor]:
    """``judge``, with the real and the generated images in passes of their own."""
    if groups == 1:
        return judge(d, images, 1, informed)
    real, fake = images.chunk(2)
    logits_real = d.logits(d.features(real))
    logits_fake, q_params = judge(d, fake, 1, informed)
    return torch.cat([logits_real, logits_fake]), q_params


class SeparateAdam:
    """torch's fused Adam over a network's own tensors, in the place of a ``FlatAdam``."""

    def __init__(
        self,
        network: nn.Module,
        lr: float,
        betas: tuple[float, float],
        half: torch.dtype | None = None,
    ) -> None:
        if half == torch.float16:
            raise UserError("separate-adam: it has no loss scaling; bfloat16 works")
        flat = FlatAdam(network, lr, betas, half)
        self.compute, self.zero_grad, self.publish = flat.compute, flat.zero_grad, flat.publish
        self.trained, self._parameters = flat.trained, list(flat.state)
        both = zip(self.trained, self._parameters, strict=True)
        pairs = [(t, p) for t, p in both if t is not p]
        self._copies = [t for t, _ in pairs], [p for _, p in pairs]
        on_gpu = self._parameters[0].is_cuda
        self._adam = torch.optim.Adam(
            self._parameters, lr, betas, ADAM_EPS, fused=True, capturable=on_gpu
        )

    def step(self, loss_scale: None = None) -> None:
        for parameter, trained in zip(self._parameters, self.trained, strict=True):
            parameter.grad = trained.grad.to(parameter.dtype)
        self._adam.step()
        if self._copies[0]:
            with torch.no_grad():
                torch._foreach_copy_(*self._copies)


def _compile_reference(mode: str | None) -> Callable[[ReferenceEngine], None]:
    """Networks and losses compiled, the optimisers as they are: what a user would write."""

    def prepare(engine: ReferenceEngine) -> None:
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
        told: what the user would have been told, such as why there are no CUDA graphs.
        sums: D loss, G loss and the codes' NLLs, summed over the iterations so far.
    """

    def __init__(
        self,
        subject: Subject,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """dtype: of weights and draws; float64, for comparisons, leaves out half precision."""
        if subject.compiles or device.type == "cuda":
            # All subjects share the functions that they compile: more variants than any user has.
            torch._dynamo.config.recompile_limit = 256
        config = replace(config, run=replace(config.run, **dict(subject.run)))
        plan = make_plan(replace(config.run, device=str(device)))
        parts = dict(subject.parts)
        if dtype != torch.float32:
            plan, parts["dtype"] = replace(plan, half=None), dtype
        engine = build_engine(config, plan, **parts)
        if subject.prepare is not None:
            subject.prepare(engine)
        draws = draws_of(config, device, plan.input_dtype if dtype == torch.float32 else dtype)
        window = Window(config.spec, device)
        self.sums = window.sums
        self.told: list[str] = []

        def iterate() -> None:
            batch = draws.next()  # all subjects draw alike
            with subject.around():
                losses = engine.step(batch)
            window.add(losses)

        self._iterations = (Captured if plan.graphs else Eager)(iterate, None, self.told.append)

    def run(self, count: int) -> None:
        """Run ``count`` iterations; on a GPU this returns before they are done."""
        self._iterations.run(count)


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
        engine = build_engine(config, Plan(device))
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
