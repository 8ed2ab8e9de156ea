"""conv's Triton kernels, interpreted or on a GPU: against the float64 reference, and in torch."""

from __future__ import annotations

import pytest
import torch
from conv_cases import CASES, assert_right, inputs, results
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import BACKENDS, in_turn, need
from tolerances import EPS, KERNEL_ROUNDINGS
from torch.utils._python_dispatch import TorchDispatchMode

from fastinfogan.kernels import triton_module
from fastinfogan.kernels.activation import SLOPE
from fastinfogan.kernels.conv import conv, tiles, triton, triton_weight
from fastinfogan.kernels.conv.layout import TAPS

# What the kernels treat apart from what CASES has.
TILED = {
    "conv, taps of whole blocks of channels": ((2, 64, 6, 6), 20, 2, False),
    "conv, several tiles of pixels and of features": ((2, 5, 10, 14), 66, 2, False),
    "conv, several parts of the weight's gradient": ((3, 3, 20, 20), 9, 2, False),
    "conv, stride 1, taps of whole blocks": ((2, 64, 4, 4), 64, 1, False),
    "transposed, taps of whole blocks of channels": ((2, 128, 3, 3), 20, 2, True),
    "transposed, several tiles of pixels and of channels": ((2, 20, 5, 7), 66, 2, True),
    "transposed, several images in a tile": ((5, 40, 5, 5), 3, 2, True),
    "transposed, images of several tiles": ((2, 20, 9, 9), 3, 2, True),
    "transposed, images too wide for a tile": ((1, 3, 3, 70), 1, 2, True),
    "transposed, four channels": ((2, 5, 4, 4), 4, 2, True),
    "transposed, several parts of both gradients": ((3, 7, 10, 10), 3, 2, True),
}
ALL = CASES | TILED
PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    ("why", "impl", "device", "dtype"),
    in_turn([("triton", device, dtype) for device in ("cpu", "cuda") for dtype in HALVES], ALL),
)
def test_parity(why, impl, device, dtype):
    need(impl, device)
    assert_right(inputs(ALL[why], dtype), ALL[why], impl, device)


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("activation", [0.0, 0.1, "sigmoid", "tanh"])
@pytest.mark.parametrize(
    "why", ["conv, grey images", "transposed, colour images", "transposed, stride 1"]
)
def test_activations(why, activation, device):
    need("triton", device)
    tensors = inputs(CASES[why], torch.float16)
    # At the kink a rounding error decides between two slopes: no gradient there.
    y = results(tensors, CASES[why], "reference", torch.float64)[0]
    tensors[3] = tensors[3].masked_fill(y.abs() < KERNEL_ROUNDINGS * EPS[torch.float16], 0.0)
    assert_right(tensors, CASES[why], "triton", device, activation)


@pytest.mark.parametrize("device", PLACES)
def test_a_first_layer_derives_its_slope_with_the_weights_gradient(device):
    """The same bits as with a gradient of the images, which need that of the maps in memory."""
    need("triton", device)
    case = TILED["conv, several parts of the weight's gradient"]
    found = []
    for wants_x in (True, False):
        x, weight, bias, dy = (t.to(device) for t in inputs(case, torch.float16))
        leaves = weight.requires_grad_(), bias.requires_grad_()
        y = conv(x.requires_grad_(wants_x), *leaves, 2, False, 0.1, "triton")
        found.append(torch.autograd.grad(y, leaves, dy))
    assert all(map(torch.equal, *found))


@settings(max_examples=10, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    stride=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_any_shape(batch, channels, size, stride, transposed, bias, seed):
    need("triton", "cpu")
    case = ((batch, channels[0], *size), channels[1], stride, transposed)
    assert_right(inputs(case, torch.float16, seed, bias), case, "triton")


@pytest.mark.gpu
@pytest.mark.parametrize("why", TILED)
def test_the_same_bits_every_time(why):
    need("triton", "cuda")
    tensors = inputs(TILED[why], torch.bfloat16)
    first = results(tensors, TILED[why], "triton", device="cuda")
    for _ in range(5):
        again = results(tensors, TILED[why], "triton", device="cuda")
        assert all(map(torch.equal, first, again))


@pytest.mark.gpu
@pytest.mark.parametrize("transposed", [False, True])
def test_a_cuda_graph_replays_it(transposed):
    need("triton", "cuda")
    case = ((3, 64, 8, 8), 3, 2, transposed)
    x, weight, bias, dy = (t.cuda() for t in inputs(case, torch.bfloat16))
    leaves = [t.requires_grad_() for t in (x, weight, bias)]

    def call():
        return torch.autograd.grad(conv(*leaves, 2, transposed, impl="triton"), leaves, dy)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = call()
    with torch.no_grad():
        x.mul_(2.0)
    graph.replay()
    assert all(map(torch.equal, captured, call()))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("channels", "stride"), [(1, 2), (8, 2), (8, 1)])
def test_a_gpu_takes_as_many_programs(channels, stride, transposed):
    """Of a large batch: along the second and third axis of a grid it takes 65,535."""
    small, large = (9000, 16, 32, 32), (9000, channels, 32 * stride, 32 * stride)
    shape, outputs = (small, channels) if transposed else (large, 16)
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True)
    weight = x.new_empty(16, channels, TAPS, TAPS).requires_grad_()
    bias = x.new_empty(outputs).requires_grad_()
    conv(x, weight, bias, stride, transposed, impl="triton").sum().backward()
    grids = [launch.grid for launch in triton_module.recorded]
    triton_module.recorded.clear()
    assert all(programs < 2**16 for grid in grids for programs in grid[1:])


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(
    "case",
    [((5, 3, 14, 14), 9, 2, False), ((5, 9, 4, 7), 66, 2, True), ((3, 8, 6, 7), 20, 1, False)],
)
def test_a_large_batch_takes_several_launches(case, device, monkeypatch):
    need("triton", device)
    cut = []
    monkeypatch.setattr(triton, "MOST_TILES", 1)
    launches_of = triton._launches
    monkeypatch.setattr(triton, "_launches", lambda *a: cut.append(launches_of(*a)) or cut[-1])
    assert_right(inputs(case, torch.float16), case, "triton", device)
    assert cut and all(len(parts) > 1 for parts in cut)


def test_the_parts_of_a_weights_gradient_are_whole_and_few():
    """Each has pixels, no two have the same, and programs keep a GPU busy without a long sum."""
    for pixels in (1, 63, 64, 6_272, 12_544, 262_144):
        for rows, columns in ((64, 16), (64, 48), (128, 1024), (448, 4096)):
            tile = tiles.weight_tile(rows, columns, pixels)
            parts, length = tiles.parts_of(tile, rows, columns, pixels)
            assert (parts - 1) * length < pixels <= parts * length
            assert length % tile.k == 0
            programs = parts * -(-rows // tile.rows) * -(-columns // tile.columns)
            assert parts == 1 or programs <= 4 * tiles.SMS


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(("stride", "bias"), [(1, True), (2, False)])
def test_opcheck(stride, bias, device):
    need("triton", device)
    ops = torch.ops.fastinfogan
    large, weight, _, small = (
        t if t is None else t.to(device)
        for t in inputs(((2, 3, 5, 4), 6, stride, False), torch.float16)
    )
    biases = [torch.randn(n, device=device).half() if bias else None for n in (6, 3)]
    down = large, weight, biases[0], stride, SLOPE, 0.1
    up = small, weight, biases[1], stride, 5, 4, SLOPE, 0.1
    torch.library.opcheck(ops.conv_down_triton.default, down)
    torch.library.opcheck(ops.conv_up_triton.default, up)
    for dy_is_large in (False, True):
        y = None if dy_is_large else small
        arguments = large, small, y, 0.1, stride, dy_is_large, bias
        torch.library.opcheck(ops.conv_weight_triton.default, arguments)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", PLACES)
def test_compiles_into_one_graph(device, backend):
    need("triton", device)
    x, weight, bias, _ = (t.to(device) for t in inputs(((2, 3, 4, 4), 5, 2, False), torch.float16))
    back = torch.randn(5, 3, TAPS, TAPS, device=device).half()
    back = back.contiguous(memory_format=torch.channels_last)

    def call(x, weight, bias, back):
        y = conv(x, weight, bias, 2, False, impl="triton")
        return conv(y.relu_(), back, None, 1, True, impl="triton").square().sum()

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias, back)]
        function(*leaves).backward()
        found.append([t.grad for t in leaves])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


class _Seen(TorchDispatchMode):
    """The names of torch's operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_nothing_is_copied_on_the_way(channels, transposed):
    """Grey images are in both memory formats at once, colour ones channels-last."""
    shapes = ((2, 64, 4, 4), channels) if transposed else ((2, channels, 8, 8), 64)
    case = (*shapes, 2, transposed)
    x, weight, bias, dy = (t.to("meta") for t in inputs(case, torch.bfloat16))
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    with _Seen() as seen:
        torch.autograd.grad(conv(*leaves, 2, transposed, impl="triton"), leaves, dy)
    triton_module.recorded.clear()
    assert seen.names <= {"empty", "new_empty", "detach", "view", "permute"}
    with _Seen() as seen:  # as D's first layer does in its own update
        torch.autograd.grad(
            conv(x.detach(), *leaves[1:], 2, transposed, 0.1, "triton").sum(), leaves[1:]
        )
    assert ("leaky_relu_backward" in seen.names) == transposed


# Layers: (batch, large channels, large size, small channels, stride): what cuDNN does.
RULE = {
    "mnist, between image and maps": ((128, 1, 28, 64, 2), set()),
    "mnist, between maps": ((256, 64, 14, 128, 2), set()),
    "celeba, from 4x4 to 2x2": ((128, 256, 4, 448, 2), {"down"}),
    "celeba, from 8x8 to 4x4": ((128, 128, 8, 256, 2), set()),
    "chairs, stride 1": ((128, 256, 8, 256, 1), set()),
}


@pytest.mark.parametrize("layer", RULE)
def test_the_rule(layer):
    """On tensors without data, as on a GPU: whoever it gives the operation to gets it."""
    (batch, channels, size, features, stride), expected = RULE[layer]
    large = torch.empty(batch, channels, size, size, dtype=torch.bfloat16, device="meta")
    weight = large.new_empty(features, channels, TAPS, TAPS)
    small = large.new_empty(batch, features, size // stride, size // stride)
    for operations, x, transposed in (
        (("down", "up", "weight"), large, False),
        (("up", "down", "weight"), small, True),
    ):
        leaves = [t.detach().requires_grad_() for t in (x, weight)]
        with _Seen() as seen:
            y = conv(*leaves, None, stride, transposed)
            y.sum().backward()
        ran = {launch.kernel.__name__.split("_")[1] for launch in triton_module.recorded}
        triton_module.recorded.clear()
        assert ran - {"parts"} == set(operations) - expected
        assert ("convolution" in seen.names) == ("down" in expected)


def test_older_gpus_convolve_as_torch_does(monkeypatch):
    """Before compute capability 8.0 Triton doesn't multiply on tensor cores."""
    need("triton", "cpu")
    for launchers in (triton, triton_weight):
        monkeypatch.setattr(launchers, "multiplies", lambda device: False)
        monkeypatch.setattr(launchers, "launch", None)
    for transposed in (False, True):
        case = ((3, 5, 7, 9), 4, 2, transposed)
        assert_right(inputs(case, torch.float16), case, "triton")


def test_it_is_for_half_precision():
    need("triton", "cpu")
    x, weight, bias, _ = inputs(CASES["conv, grey images"], torch.float32)
    with pytest.raises(RuntimeError) as caught:
        conv(x, weight, bias, 2, impl="triton")
    assert str(caught.value) == "conv: impl='triton' can't run: it has no float32 kernel"
    assert torch.float32 not in tiles.DTYPES
