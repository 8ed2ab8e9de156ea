"""The cost model's counts of what torch, cuBLAS and cuDNN launch, and their times, by hand."""

from __future__ import annotations

import pytest
import torch

from bench.predict import library

aten = torch.ops.aten


def empty(*shape):
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def microseconds(works):
    return [round(1e6 * work.seconds, 2) for work in works]


def test_a_large_product_is_worked_off_in_tiles():
    """4096 x 4096 x 4096: 32 x 16 tiles of 128 x 256 take four rounds of 132.

    A tile has 2 x 128 x 256 x 4096 FLOP, at 70 % of 4,096 a cycle: 93,623 cycles or 53.35 µs. Four
    of them, 2 µs to fill, 0.9 µs for the kernel and 0.45 µs for the node: 216.74 µs.
    """
    a = empty(4096, 4096)
    works = library.launches_of(aten.mm.default, (a, a), a)
    assert microseconds(works) == [216.74]
    assert (works[0].flop, works[0].moved) == (2 * 4096**3, 3 * 2 * 4096**2)
    assert works[0].bound == "arithmetic"


def test_a_product_with_few_tiles_is_cut_along_k():
    """128 x 128 x 4096: the tile alone would keep one SM busy for 30 µs, 129 idle."""
    a, b, out = empty(128, 4096), empty(4096, 128), empty(128, 128)
    product, parts = library.launches_of(aten.mm.default, (a, b), out)
    assert parts.kernel == "product, sum of parts"
    assert parts.moved == 16 * 4 * 128 * 128  # float32, of 16 parts
    # 4 tiles of 64 x 64 in each part, at 40 %: 1,280 cycles, less than the bytes take.
    assert product.arithmetic_s == pytest.approx(1280 / 1.755e9)
    assert product.moved == 2 * (2 * 128 * 4096 + 128 * 128) + parts.moved
    assert microseconds([product]) == [round(0.45 + 0.9 + 2.0 + 1e6 * product.moved / 3e12, 2)]


def test_an_image_s_convolution_is_padded_and_slow():
    """64 maps of 14 x 14 from 28 x 28 x 1, 128 images: as 8 channels at 4.2 % of the peak.

    Images and weights are padded, to memory that zeros are filled into before.
    """
    x, weight = (empty(128, 1, 28, 28), empty(64, 1, 4, 4))
    out, bias = empty(128, 64, 14, 14), empty(64)
    args = (x, weight, bias, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)
    works = library.launches_of(aten.convolution.default, args, out)
    images, weights, *zeros, convolution, added = works
    assert (images.moved, weights.moved) == (9 * 2 * 128 * 784, 9 * 2 * 64 * 16)
    assert microseconds([images]) == [round(0.45 + 0.9 + 1e6 * images.moved / 0.4e12, 2)]
    assert [work.kernel for work in zeros] == ["zeros for padding"] * 2
    assert convolution.flop == 2 * 16 * 64 * 128 * 196
    expected = 0.45 + 0.9 + 3.0 + 1e6 * 8 * convolution.flop / (0.042 * 4096 * 132 * 1.755e9)
    assert microseconds([convolution]) == [round(expected, 2)]
    assert added.moved == 2 * 2 * out.numel()
    assert microseconds([added]) == [round(0.45 + 0.9 + 1e6 * added.moved / 1.2e12, 2)]


def test_a_convolution_s_gradients_by_hand():
    """Of the input, with a stride: a memset's node and a slow beginning. Of the weights: in parts.

    64 maps of 16 x 16 and 128 of 8 x 8, 256 images. The input's gradient has 65,536 rows, 64
    columns and K = 512: 512 tiles of 128 x 64, four rounds of 2,926 cycles at 70 %. The weights'
    has K = 16,384, which is cut in two: 32 tiles of 64 x 64, twice, of 23,406 cycles.
    """
    x, dy = (empty(256, 64, 16, 16), empty(256, 128, 8, 8))
    weight = empty(128, 64, 4, 4)
    args = (dy, x, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)
    out = (torch.empty_like(x), torch.empty_like(weight), None)
    works = library.launches_of(aten.convolution_backward.default, args, out)
    names = [work.kernel.removeprefix("convolution") for work in works]
    assert names == [", memset", "", ", workspace", ""]
    memset, inputs, workspace, weights = works
    assert microseconds([memset]) == [round(1.4 + 3.5 - 0.45 + 0.9, 2)]
    assert microseconds([workspace]) == [7.45]
    for found, fill, cycles in ((inputs, 10.0, 4 * 2925.71), (weights, 3.0, 23405.71)):
        assert found.flop == 2 * 16 * 64 * 128 * 256 * 64
        expected = 0.45 + 0.9 + fill + 1e6 * cycles / 1.755e9
        assert microseconds([found]) == [pytest.approx(expected, abs=0.02)]


def test_views_and_allocations_launch_nothing():
    x = empty(4, 6)
    for function, args, out in (
        (aten.t.default, (x,), x.t()),
        (aten.split.Tensor, (x, 2), x.split(2)),
        (aten.new_empty.default, (x, [3]), empty(3)),
    ):
        assert library.launches_of(function, args, out) == []
    assert len(library.launches_of(aten.add.Tensor, (x, x), x)) == 1
    assert library.launches_of(aten.copy_.default, (x, x), x)[0].moved == 2 * 48
    assert len(library.launches_of(aten.constant_pad_nd.default, (x, [1, 1]), empty(4, 8))) == 2
