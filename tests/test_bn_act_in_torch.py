"""bn_act as a part of torch: registered, compiled, with little kept for the backward pass."""

from __future__ import annotations

import pytest
import torch
from bn_act_cases import inputs
from kernel_cases import BACKENDS, PLACES, need
from torch.nn import functional as F

from fastinfogan.kernels.bn_act import bn_act, native
from fastinfogan.kernels.dispatch import op


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("running", [True, False])
def test_opcheck(impl, device, running):
    need(impl, device)
    x, weight, bias, running_mean, running_var, dy = (
        t.to(device) for t in inputs((4, 6, 3, 3), torch.float32)
    )
    x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    statistics = (running_mean, running_var) if running else (None, None)
    names = ("partials", "forward", "backward_partials", "backward")
    ops = [getattr(torch.ops.fastinfogan, f"bn_act_{name}_{impl}").default for name in names]
    affine = (weight, bias)
    partials = ops[0](x, 2)
    forward = (*affine, *statistics, 0.1, 2, 0.1, 1e-5, True)
    _, stats = ops[1](x, partials, *forward)
    backward = (dy, x, *affine, stats)
    own = ops[2](*backward, 0.1, 2)
    for checked, args in (
        (ops[0], (x, 2)),
        (ops[1], (x, partials, *forward)),
        (ops[1], (x, None, *forward)),
        (ops[2], (*backward, 0.1, 2)),
        (ops[3], (*backward, own, own.clone(), 0.1, 2, True)),
        (ops[3], (*backward, None, None, 0.1, 2, True)),
    ):
        torch.library.opcheck(checked, args)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("training", [True, False])
def test_compiles_into_one_graph(impl, device, training, backend):
    need(impl, device)
    x, weight, bias, running_mean, running_var, _ = (
        t.to(device) for t in inputs((4, 6, 3, 3), torch.float32)
    )

    def call(x, weight, bias, running_mean, running_var):
        y = bn_act(
            2.0 * x, weight, bias, running_mean, running_var, 0.1, 2, training=training, impl=impl
        )
        return y.square().sum()

    results = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        tensors = [t.clone() for t in (x, weight, bias, running_mean, running_var)]
        leaves = [t.requires_grad_() for t in tensors[:3]]
        function(*tensors).backward()
        results.append([t.grad for t in leaves] + tensors[3:])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def saved_bytes(call) -> int:
    """Bytes kept for backward, each storage once, parameters left out."""
    kept = {}

    def pack(t):
        if not isinstance(t, torch.nn.Parameter):
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call()
    return sum(kept.values())


def test_keeps_half_of_what_eager_keeps():
    """Of batchnorm + activation: x against x and the activation's input. At least 40 % less."""
    channels = 16
    x = torch.randn(8, channels, 7, 7).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight, bias = (torch.nn.Parameter(torch.ones(channels)) for _ in range(2))
    eager = saved_bytes(lambda: F.leaky_relu(F.batch_norm(x, None, None, weight, bias, True), 0.1))
    fused = saved_bytes(lambda: bn_act(x, weight, bias, None, None, 0.1, impl="native"))
    assert fused <= 0.6 * eager
    assert fused == x.numel() * 4 + 2 * channels * 4  # x; mean and 1 / sigma


def test_eager_calls_do_not_go_through_the_dispatcher():
    x = torch.randn(4, 3)
    assert op("bn_act_partials", "native", x) is native.bn_act_partials
