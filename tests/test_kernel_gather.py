"""gather, draw and order: every implementation against the references; errors."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BACKENDS, PLACES, in_turn, need
from scipy import stats
from tolerances import EPS, SCALE_ROUNDINGS

from fastinfogan.kernels import triton_needs
from fastinfogan.kernels.gather import (
    draw,
    draw_reference,
    gather,
    gather_reference,
    order,
    order_reference,
)

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
TARGETS = [(*place, dtype) for place in (*PLACES[:2], ("triton", "cuda")) for dtype in DTYPES]
# (N, H, W, C), and why it is here.
SHAPES = {
    "one channel, MNIST's size": (17, 28, 28, 1),
    "three channels, odd sides": (100, 3, 5, 3),
    "more pixels than a block": (3, 24, 25, 2),
    "a single image": (1, 2, 3, 1),
    "1x1 images: both memory formats at once": (3, 1, 1, 1),
}
SEED, POSITION = 2**62 + 7, 2**33 - 2


def pixels(shape):
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)


def number(value, device="cpu"):
    return torch.tensor([value], device=device)


def assert_scaled(got, expected, output_range):
    """Within the roundings of a product and a sum, and the one to the dtype."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert got.is_contiguous(memory_format=torch.channels_last)
    computed = torch.float64 if got.dtype == torch.float64 else torch.float32
    atol = SCALE_ROUNDINGS * EPS[computed] * max(map(abs, output_range))
    torch.testing.assert_close(
        got.double().cpu(), expected.double(), rtol=EPS[got.dtype], atol=atol
    )


@pytest.mark.parametrize(
    ("why", "output_range", "impl", "device", "dtype"),
    in_turn(TARGETS, SHAPES, [(0.0, 1.0), (-1.0, 1.0)]),
)
def test_parity(why, output_range, impl, device, dtype):
    need(impl, device)
    images = pixels(SHAPES[why])
    options = dict(output_range=output_range, dtype=dtype, impl=impl)
    got = draw(
        images.to(device), 5, number(SEED, device), number(POSITION, device), shift=3, **options
    )
    expected = draw_reference(images, 5, SEED, POSITION + 3, output_range, dtype)
    assert_scaled(got, expected, output_range)
    indices = torch.tensor([len(images) - 1, 0, len(images) // 2])
    got = gather(images.to(device), indices.to(device), **options)
    expected = gather_reference(images, indices, output_range, dtype)
    assert_scaled(got, expected, output_range)


def test_the_reference_scales_and_keeps_channels_last():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(4).view(1, 2, 2, 3)
    batch = gather_reference(images, torch.tensor([0, 0]), (-1.0, 1.0))
    assert batch.shape == (2, 3, 2, 2)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch[1, :, 1, 0], torch.tensor([-1.0, -0.6, 1.0]))


# 1: no choice at all; 2, 3: a domain smaller than the Feistel network's; 16: exactly a domain;
# 17: one more; 5,000: digits.
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 5_000])
def test_every_image_comes_once_an_epoch(count):
    drawn = order(torch.arange(2 * count), count, number(4))
    assert torch.equal(drawn, order_reference(torch.arange(2 * count), count, seed=4))
    for epoch in drawn.split(count):
        assert torch.equal(epoch.sort().values, torch.arange(count))
    if count == 5_000:
        first, second = drawn.split(count)
        for epoch in (first, second):
            assert abs(stats.spearmanr(epoch.numpy(), range(count)).statistic) < 0.06
        assert (first == second).sum() < 10  # 1 is expected of two independent orders


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("count", [1, 3, 16, 17, 60_000])
def test_the_order_is_the_references(impl, device, count):
    """Also before the first epoch, and where an epoch's number takes more than 32 bits."""
    need(impl, device)
    positions = torch.tensor([[-count - 1, -1, 0], [1, count, 2**62]])
    got = order(positions.to(device), count, number(SEED, device), impl)
    assert torch.equal(got.cpu(), order_reference(positions, count, SEED))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_batches_do_not_depend_on_how_they_are_split(impl, device):
    need(impl, device)
    images = pixels((10, 2, 2, 1)).to(device)
    args = (number(9, device), number(2**32 - 3, device))
    whole = draw(images, 7, *args, impl=impl)
    parts = [draw(images, n, *args, shift=o, impl=impl) for n, o in ((3, 0), (4, 3))]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize("index", [-1, 3, 2**40])
def test_an_index_out_of_range_is_refused_on_the_cpu(impl, index):
    with pytest.raises(ValueError, match=rf"gather: indices\[1\] is {index}; 0 to 2 work"):
        gather(pixels((3, 2, 2, 1)), torch.tensor([0, index, 5]), impl=impl)


@pytest.mark.parametrize(("impl", "device"), PLACES[1:])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_index_out_of_range_is_nan_on_a_gpu(impl, device, dtype):
    need(impl, device)
    indices = torch.tensor([0, -1, 3, 2**40, 2], device=device)
    images = pixels((3, 2, 2, 1)).to(device)
    batch = gather(images, indices, dtype=dtype, impl=impl)
    assert batch.isnan().flatten(1).all(1).tolist() == [False, True, True, True, False]
    assert batch[[0, 4]].isfinite().all()


@pytest.mark.gpu
def test_a_captured_draw_follows_seed_and_position():
    need("triton", "cuda")
    images = pixels((100, 4, 4, 1)).cuda()
    seed, position = number(3, "cuda"), number(2**32 - 2, "cuda")
    draw(images, 8, seed, position, impl="triton")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = draw(images, 8, seed, position, impl="triton")
    for _ in range(2):
        position += 8
        graph.replay()
        assert torch.equal(captured, draw(images, 8, seed, position, impl="triton"))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_opcheck(impl, device):
    need(impl, device)
    images = pixels((5, 3, 3, 2)).to(device)
    indices = torch.tensor([0, 4], device=device)
    seed, position = number(1, device), number(2, device)
    ops = torch.ops.fastinfogan
    for name, args in {
        "gather": (images, indices, -1.0, 1.0, torch.bfloat16),
        "draw": (images, seed, position, 3, 4, -1.0, 1.0, torch.float32),
        "order": (indices, 5, seed),
    }.items():
        torch.library.opcheck(getattr(ops, f"{name}_{impl}").default, args)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device, backend):
    need(impl, device)

    def call(images, seed, position, shift):
        batch = draw(images, 4, seed, position, shift=shift, impl=impl)
        return batch + gather(images, order(position, 5, seed, impl), impl=impl)

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    images = pixels((5, 3, 3, 2)).to(device)
    for shift in (0, 4):
        args = (images, number(1, device), number(2**40, device), shift)
        assert torch.equal(compiled(*args), call(*args))


BAD_IMAGES = [
    (dict(images=pixels((0, 2, 2, 1))), "images is torch.uint8 of shape (0, 2, 2, 1)"),
    (dict(images=pixels((3, 2, 2))), "images is torch.uint8 of shape (3, 2, 2)"),
    (dict(images=torch.ones(3, 2, 2, 1)), "images is torch.float32"),
    (dict(images=pixels((3, 2, 2, 4)).permute(0, 3, 1, 2)), "images has strides (16, 1, 8, 4)"),
    (dict(output_range=(1.0, 0.0)), "output_range=(1.0, 0.0); two rising finite numbers work"),
    (dict(output_range=(0.0, float("inf"))), "output_range=(0.0, inf)"),
    (dict(output_range=(0.0,)), "output_range=(0.0,)"),
    (dict(dtype=torch.uint8), "dtype=torch.uint8; a float of 16, 32 or 64 bits works"),
]
BAD_GATHER = [
    (dict(indices=torch.tensor([0.0])), "indices is torch.float32 of shape (1,)"),
    (dict(indices=torch.tensor([[0]])), "indices is torch.int64 of shape (1, 1)"),
    (dict(indices=torch.tensor([], dtype=torch.int64)), "indices is torch.int64 of shape (0,)"),
    (dict(indices=torch.tensor([0, 1, 2, 0])[::2]), "indices has stride 2"),
    (dict(indices=torch.tensor([0], device="meta")), "indices is on meta, and images on cpu"),
]
BAD_DRAW = [
    (dict(batch=0), "batch=0; 1 or more work"),
    (dict(seed=torch.tensor(1)), "seed is torch.int64 of shape ()"),
    (dict(position=torch.tensor([1.0])), "position is torch.float32 of shape (1,)"),
    (dict(position=torch.tensor([1], device="meta")), "position is on meta; cpu works"),
]
BAD_ORDER = [
    (dict(positions=torch.tensor([0.0])), "positions is torch.float32 of shape (1,)"),
    (dict(positions=torch.arange(0)), "positions is torch.int64 of shape (0,)"),
    (dict(count=0), "count=0; 1 or more work"),
    (dict(seed=torch.tensor(1)), "seed is torch.int64 of shape ()"),
]
GOOD = {
    gather: dict(images=pixels((3, 2, 2, 1)), indices=torch.tensor([0, 2])),
    draw: dict(images=pixels((3, 2, 2, 1)), batch=2, seed=number(0), position=number(0)),
    order: dict(positions=torch.arange(3), count=3, seed=number(0)),
}


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("function", "changed", "message"),
    [
        *((gather, *case) for case in BAD_IMAGES + BAD_GATHER),
        *((draw, *case) for case in BAD_IMAGES + BAD_DRAW),
        *((order, *case) for case in BAD_ORDER),
    ],
)
def test_bad_arguments(impl, function, changed, message):
    with pytest.raises(ValueError) as caught:
        function(**GOOD[function] | changed, impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{function.__name__}: ") and "\n" not in str(caught.value)


@pytest.mark.skipif(triton_needs.INTERPRETED, reason="Triton runs on the CPU here")
def test_triton_without_a_gpu_is_refused():
    with pytest.raises(RuntimeError, match="draw: impl='triton' can't run"):
        draw(**GOOD[draw], impl="triton")
