"""An iteration copies nothing from the host and waits for nothing: what a CUDA graph can record.

Whole iterations, draws and metrics included, run on tensors without data; what a tensor can be
asked for from Python is watched, and so are torch's operations.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_cases import CASES
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.scaling import Counting
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.dispatch import plain_ops
from fastinfogan.plan import Plan
from fastinfogan.ranks.alone import ALONE
from fastinfogan.training.metrics import Window

META = torch.device("meta")

# A copy from the host to the device, and a wait for it.
FROM_HOST = [
    (torch, ("tensor", "as_tensor", "asarray", "from_numpy")),
    (torch.Tensor, ("new_tensor", "new")),
]
# The host asks for numbers that the device has: it waits for them.
TO_HOST = [
    (torch, ("is_nonzero", "equal", "allclose")),
    (
        torch.Tensor,
        (
            "item", "tolist", "cpu", "numpy", "pin_memory", "equal", "allclose",
            "__bool__", "__float__", "__int__", "__index__", "__array__", "__repr__",
        ),
    ),
]  # fmt: skip


class Operations(TorchDispatchMode):
    """Notes operations between host and device, and those whose result's size the device knows."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = {t.device.type for t in tensors_of((args, kwargs))}
        if kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        tensors = tensors_of(args[1]) if function is torch.ops.aten.index.Tensor else []
        sized = any(t.dtype in (torch.bool, torch.uint8) for t in tensors)
        sized |= function in SIZED
        if len(devices) > 1 or (sized and "meta" in devices):
            self.found.append(str(function))
        return function(*args, **kwargs)


SIZED = {
    torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default, torch.ops.aten.repeat_interleave.Tensor,
    torch.ops.aten._local_scalar_dense.default,
}  # fmt: skip


@contextmanager
def watching():
    """Inside, everything forbidden that happens is noted in the list."""
    found = []

    def noting(name, function, always):
        def call(*args, **kwargs):
            if always or any(t.device.type != "cpu" for t in tensors_of(args)):
                found.append(name)
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch, Operations(found):
        for always, rows in ((True, FROM_HOST), (False, TO_HOST)):
            for owner, names in rows:
                for name in names:
                    patch.setattr(owner, name, noting(name, getattr(owner, name), always))
        yield found


def tensors_of(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def forbidden_in_an_iteration(config, half=None, around=nullcontext, ranks=ALONE, sent_in=None):
    """What a second iteration has of it: the first one's copies stay on the device.

    Args:
        config: resolved; an iteration of it is put together as the trainer does it.
        half: as --amp.
        around: makes the context of the engine's steps.
        ranks: that train it.
        sent_in: as --reduce-dtype.
    """
    plan = Plan(META, half=half, ranks=ranks, sent_in=sent_in)
    engine = build_engine(config, plan)
    size, output_range = config.optim.batch_size, config.architecture.output_range
    channels, height, width = config.architecture.image_shape
    data = ImageData("none", np.zeros((20, height, width, channels), np.uint8), None, None)
    batches = Batches(size, 0, output_range, META, plan.input_dtype, ranks.rank, ranks.size)
    fill = fill_of(data, output_range, META)
    draws = Draws(config, ResidentFeed(data, batches), plan.input_dtype, fill, batches.slice)
    window = Window(config.spec, META, config.optim.extra_losses, ranks)
    if around is nullcontext:
        draws.beside(engine)
        window.beside(engine)

    def iterate():
        batch = draws.next()
        with around():
            losses = engine.step(batch)
        window.add(losses)

    iterate()
    triton_module.recorded.clear()
    with watching() as found:
        iterate()
    return found


@pytest.fixture(autouse=True)
def _presets_and_records(narrow_presets):
    yield
    triton_module.recorded.clear()


QUICK = (
    "mnist", "simultaneous", "every-kind-of-code", "both", "separate-q-gan-simultaneous",
    "contrastive",
)  # fmt: skip
EVERY_CASE = pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)


def launched():
    """The kernels of losses and updates that ran."""
    names = {launch[0].__name__ for launch in triton_module.recorded}
    return names & {"_mi_loss_kernel", "_adam_kernel"}


@pytest.mark.parametrize("half", [None, torch.float16])
@EVERY_CASE
def test_an_iteration_of_ours_neither_copies_nor_waits(case, half):
    assert forbidden_in_an_iteration(CASES[case], half) == []
    assert launched() == {"_mi_loss_kernel", "_adam_kernel"}


@pytest.mark.parametrize("sent_in", [None, torch.bfloat16])
@pytest.mark.parametrize("case", ["mnist", "both"])
def test_an_iteration_of_one_of_several_ranks_neither_copies_nor_waits(case, sent_in):
    """All but the collectives themselves, which are torch's."""
    ranks = Counting()
    assert forbidden_in_an_iteration(CASES[case], ranks=ranks, sent_in=sent_in) == []
    assert {what for what, *_ in ranks.sent} == {"gradients", "sums"}


@EVERY_CASE
def test_a_step_in_plain_ops_neither_copies_nor_waits(case):
    """The benchmark's ablation; CUDA graphs must be able to record it."""
    assert forbidden_in_an_iteration(CASES[case], around=plain_ops) == []
    assert launched() == set()


@EVERY_CASE
def test_an_iteration_of_the_reference_neither_copies_nor_waits(case):
    """It would be slower than plain PyTorch has to be, and everything compared with it too fast."""
    config = CASES[case]
    reference = replace(config, run=replace(config.run, engine="reference"))
    assert forbidden_in_an_iteration(reference) == []


FAULTS = {
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "tensor": lambda x: torch.tensor([1.0], device=x.device),
    "as_tensor": lambda x: torch.as_tensor([1.0], device=x.device),
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "copy": lambda x: x.copy_(torch.zeros(2)),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.sum() > 0),
    "mask": lambda x: x[x > 0],
    "backward": lambda x: in_backward(lambda: torch.tensor([1.0], device=META)),
    "inside torch": lambda x: torch.nn.functional.one_hot((x > 0).long()),
}


def in_backward(call):
    x = torch.ones(2, device=META, requires_grad=True)
    y = x * 2
    y.register_hook(lambda _: (call(), None)[1])
    y.sum().backward()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_forbidden_is_found(fault):
    x = torch.ones(2, device=META)
    # What tensors without data can't do raises, once it is noted.
    with watching() as found, suppress(RuntimeError, NotImplementedError):
        FAULTS[fault](x)
    assert found
