"""What is measured: the reference as it is and made faster, ours, and ours without some part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastinfogan.config import ADAM_EPS
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.kept_memory import keep_freed_memory
from fastinfogan.engine.objective import View, judge
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.kernels.dispatch import plain_ops
from fastinfogan.model.networks import Discriminator
from fastinfogan.model.reference import Batch, ReferenceEngine
from fastinfogan.plan import half_type


@dataclass(frozen=True)
class Subject:
    """A way to run an iteration.

    Attributes:
        name: what it is called in results and on the command line.
        says: what it is, in a phrase.
        amp: the passes run in half precision.
        tf32: float32 convolutions and products may round their factors to 10 bits.
        compiled: a reference made faster by torch.compile: what ours has to beat.
        prepare: changes the engine before its first iteration, or what is its process's.
        parts: by name, what the fast engine gets in the place of its own parts.
        around: makes the context that every step of the engine runs in.
        run: by name, fields of the run's configuration.
        obstacle: why it can't run here; "" if it can.
    """

    name: str
    says: str
    amp: bool = False
    tf32: bool = False
    compiled: bool = False
    prepare: Callable[[Any], None] | None = None
    parts: tuple[tuple[str, object], ...] = ()
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    run: tuple[tuple[str, object], ...] = (("engine", "fast"),)
    obstacle: str = ""


REFERENCE = (("engine", "reference"), ("compile", False), ("cuda_graphs", False))
TUNED = "tuned"  # the peer that every ratio is stated against first


def all_subjects(device: torch.device, amp_dtype: str = "auto") -> list[Subject]:
    """Every subject, in the order of the table; the ablations are of the fastest of ours.

    Args:
        device: where they run.
        amp_dtype: what --amp-dtype was given.
    """
    amp = (("amp", True), ("amp_dtype", amp_dtype))
    on_gpu, half = device.type == "cuda", amp_type(device, amp_dtype)
    in_half = half is not None
    no_half = "" if in_half else "this CPU has no bfloat16 arithmetic; --amp-dtype emulates it"
    no_gpu = "" if on_gpu else "there is no GPU"
    ours = (("engine", "fast"),)
    base = (*ours, *(amp if in_half else ()))
    compiled = (*base, ("compile", True))

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(device.type, half)

    @contextlib.contextmanager
    def tuned_autocast() -> Iterator[None]:
        with tuned(), autocast():
            yield

    tuning = tuner("reduce-overhead" if on_gpu else None)
    how = "channels-last, fused Adam"
    how += ", TF32, cuDNN's fastest, reduce-overhead" if on_gpu else ", freed memory kept"
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
            "no-kernels", "every op in plain torch" + ", compiled" * on_gpu, in_half,
            around=plain_ops, run=compiled if on_gpu else base,
        ),
        "compiled": Subject("compiled", "with torch.compile", in_half, run=compiled),
    }  # fmt: skip
    if on_gpu:
        no_graphs = (*base, ("cuda_graphs", False))
        ablation["no-graphs"] = Subject("no-graphs", "without CUDA graphs", in_half, run=no_graphs)
        new = torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (9, 0)
        ablation["early"] = Subject(
            "early", "launches that begin before the one before is through", in_half,
            prepare=launch_early, run=base, obstacle="" if new else "it takes Hopper or newer",
        )  # fmt: skip
    return [
        Subject(
            TUNED, f"plain PyTorch as an expert writes it, float32: {how}", tf32=on_gpu,
            compiled=on_gpu, prepare=tuning, around=tuned, run=REFERENCE,
        ),
        Subject(
            f"{TUNED}-amp", f"the same under torch.autocast: {how}", True, tf32=on_gpu,
            compiled=on_gpu, prepare=tuning, around=tuned_autocast, run=REFERENCE, obstacle=no_half,
        ),
        Subject("reference", "plain eager PyTorch, float32", run=REFERENCE),
        Subject(
            "reference-tf32", "the same, TF32 in convolutions and products", tf32=True, around=tf32,
            run=REFERENCE, obstacle=no_gpu,
        ),
        Subject(
            "reference-autocast", "the same under torch.autocast", True, around=autocast,
            run=REFERENCE, obstacle=no_half,
        ),
        Subject(
            "reference-compile", "the same, torch.compile", compiled=True,
            prepare=compiling(None), run=REFERENCE,
        ),
        Subject(
            "reference-reduce-overhead", 'the same, torch.compile(mode="reduce-overhead")',
            compiled=True, prepare=compiling("reduce-overhead"), run=REFERENCE, obstacle=no_gpu,
        ),
        Subject(
            "reference-autocast-reduce-overhead", "the same under torch.autocast", True,
            compiled=True, prepare=compiling("reduce-overhead"), around=autocast, run=REFERENCE,
            obstacle=no_gpu or no_half,
        ),
        Subject("ours", "the engine proper, float32", run=ours),
        Subject(
            "ours-amp", "the engine proper, --amp", True, run=(*ours, *amp),
            obstacle=no_half,
        ),
        *ablation.values(),
    ]  # fmt: skip


def amp_type(device: torch.device, amp_dtype: str) -> torch.dtype | None:
    """The type that --amp computes in here; None where the hardware has none and none is forced."""
    try:
        return half_type(device, amp_dtype)
    except UserError:
        return None


# -- One part switched off -----------------------------------------------------------------------


def apart(
    d: Discriminator, images: Tensor, groups: int, informed: bool, look_at_real: bool = False
) -> View:
    """``judge``, with the real and the generated images in passes of their own."""
    if groups == 1:
        return judge(d, images, 1, informed)
    real, fake = images.chunk(2)
    features = d.features(real)
    logits_real = d.logits(features)
    view = judge(d, fake, 1, informed)
    view = View(torch.cat([logits_real, view.logits]), view.q_params)
    if not look_at_real:
        return view
    with torch.no_grad():
        q_image = d.q_params(real, features, statistics=False)
    return view._replace(q_image=q_image)


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
        self.compute, self.apart = flat.compute, flat.apart
        self.zero_grad, self.publish = flat.zero_grad, flat.publish
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


def launch_early(engine: FastEngine) -> None:
    """From now on launches of this process are early (``triton_module.await_previous``)."""
    from fastinfogan.kernels import triton_module  # which takes a while, and only a GPU needs

    triton_module.early = True


# -- The reference, made faster ------------------------------------------------------------------


@contextlib.contextmanager
def _set(*switches: tuple[Any, str, bool]) -> Iterator[None]:
    """Inside, attributes of torch's backends have other values."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in switches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def tf32() -> contextlib.AbstractContextManager[None]:
    """Inside, float32 convolutions and matrix products take TF32's tensor cores."""
    backends = torch.backends
    return _set((backends.cuda.matmul, "allow_tf32", True), (backends.cudnn, "allow_tf32", True))


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Inside, float32 takes TF32's tensor cores, and cuDNN its fastest algorithm, same bits or not.

    On a CPU that means nothing.
    """
    cudnn = torch.backends.cudnn
    with tf32(), _set((cudnn, "benchmark", True), (cudnn, "deterministic", False)):
        yield


def compiling(mode: str | None) -> Callable[[ReferenceEngine], None]:
    """Networks and losses compiled, the optimisers as they are: what a user would write.

    Args:
        mode: of torch.compile.
    """

    def prepare(engine: ReferenceEngine) -> None:
        # One function is compiled for many layers, frozen and not: more variants than 8.
        torch._dynamo.config.recompile_limit = 256
        d = engine.discriminator
        for module in (engine.generator, d.trunk, d.d_head, d.q_head, d.q_trunk):
            if module is not None:
                module.compile(mode=mode)
        engine.d_losses = torch.compile(engine.d_losses, mode=mode)
        engine.g_losses = torch.compile(engine.g_losses, mode=mode)
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


def tuner(mode: str | None) -> Callable[[ReferenceEngine], None]:
    """Channels-last networks, Adam in one launch that can be captured, and freed memory kept.

    (D takes no gradients of its weights in G's update, as in the reference. Memory an expert keeps
    by jemalloc or tcmalloc, as PyTorch's guide to tuning says; here it is done as ours does it.)

    Args:
        mode: of torch.compile; None compiles nothing, which is what pays on a CPU.
    """

    def prepare(engine: ReferenceEngine) -> None:
        if not next(engine.generator.parameters()).is_cuda:
            keep_freed_memory()
        for name, network in (("adam_d", engine.discriminator), ("adam_g", engine.generator)):
            network.to(memory_format=torch.channels_last)
            (group,) = getattr(engine, name).param_groups
            parameters = list(network.parameters())
            adam = torch.optim.Adam(
                parameters, group["lr"], group["betas"], group["eps"], fused=True,
                capturable=parameters[0].is_cuda,
            )  # fmt: skip
            setattr(engine, name, adam)
        if mode is not None:
            compiling(mode)(engine)

    return prepare
