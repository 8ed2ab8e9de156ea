"""warp and draw_maps as parts of torch: registered, compiled, captured, with little kept."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BACKENDS, PLACES, need
from tolerances import DRAW_ROUNDINGS, EPS
from warp_cases import OUTPUT_RANGE, inputs

from fastinfogan.kernels.dispatch import op
from fastinfogan.kernels.jitter import MOST
from fastinfogan.kernels.philox import STREAM_COPY
from fastinfogan.kernels.warp import draw_maps, native, warp


def numbers(*values, device="cpu"):
    return [torch.tensor([value], device=device) for value in values]


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("channels", [1, 3])
def test_opcheck(impl, device, channels):
    need(impl, device)
    x, maps, fill, dy = (t.to(device) for t in inputs((3, channels, 4, 5), torch.float32))
    x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    seed, offset = numbers(1, 2, device=device)
    ranges = [0.3, 0.15, 0.2, 0.08, 0.2, 0.1, 0.3, 1.0]
    for name, args in (
        ("draw_maps", (seed, offset, 3, 4, STREAM_COPY, ranges, 0.5)),
        ("warp_forward", (x, maps, fill, 0.5)),
        ("warp_backward", (dy, maps)),
    ):
        checked = getattr(torch.ops.fastinfogan, f"{name}_{impl}").default
        torch.library.opcheck(checked, args)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device, backend):
    """With the ranges an argument, and again with another batch and shift."""
    need(impl, device)

    def call(x, jitter, seed, offset, shift, fill):
        maps = draw_maps(
            jitter, len(x), seed, offset, STREAM_COPY, shift=shift, output_range=OUTPUT_RANGE,
            impl=impl,
        )  # fmt: skip
        return 2.0 * maps, warp(2.0 * x, maps, fill, OUTPUT_RANGE, impl=impl).square()

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for batch, jitter, shift in ((4, MOST, 0), (6, MOST.times(0.5), 6)):
        x, _, fill, _ = (t.to(device) for t in inputs((batch, 3, 4, 5), torch.float32))
        results = []
        for function in (call, compiled):
            leaf = x.clone().requires_grad_()
            maps, y = function(leaf, jitter, *numbers(1, 2**40, device=device), shift, fill)
            y.sum().backward()
            results.append((maps, y.detach(), leaf.grad))
        for eager, got in zip(*results, strict=True):
            allowed = DRAW_ROUNDINGS * EPS[torch.float32]
            torch.testing.assert_close(got, eager, rtol=allowed, atol=allowed)


@pytest.mark.gpu
def test_captured_calls_follow_seed_and_offset():
    """A capture fails where the host waits for the device."""
    need("triton", "cuda")
    x, _, fill, dy = (t.cuda() for t in inputs((8, 3, 9, 7), torch.float32))
    seed, offset = numbers(3, 2**32 - 2, device="cuda")
    x.requires_grad_()

    def call():
        maps = draw_maps(MOST, 8, seed, offset, STREAM_COPY, shift=5, impl="triton")
        y = warp(x, maps, fill, OUTPUT_RANGE, impl="triton")
        # Detached: a graph that lives on remembers the stream that it was made on.
        return maps, y.detach(), torch.autograd.grad(y, x, dy)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for _ in range(2):
        offset += 32
        graph.replay()
        for got, expected in zip(captured, call(), strict=True):
            assert torch.equal(got, expected)


def test_keeps_nothing_of_the_images():
    x, maps, fill, _ = inputs((4, 3, 8, 8), torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        warp(x.requires_grad_(), maps, fill, impl="native")
    assert [t.data_ptr() for t in kept] == [maps.data_ptr()]


def test_eager_calls_do_not_go_through_the_dispatcher():
    x = torch.randn(4, 3, 2, 2)
    assert op("warp_forward", "native", x) is native.warp_forward
