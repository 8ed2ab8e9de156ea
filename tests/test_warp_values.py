"""warp shows what its map says, and its gradient is the adjoint, in every implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, in_turn, need
from tolerances import EPS, KERNEL_ROUNDINGS
from warp_cases import (
    IDENTITY,
    OUTPUT_RANGE,
    SHAPES,
    condition,
    inputs,
    outputs,
    places,
    some_maps,
)

from fastinfogan.kernels.warp import warp, warp_reference

NOT_SQUARE = (2, 3, 4, 8)  # powers of two: moving by a pixel rounds nothing


def shown(x, map_, impl, device, fill=None, output_range=OUTPUT_RANGE):
    """x as one map shows it."""
    maps = torch.tensor(map_).expand(len(x), 8)
    fill = torch.zeros(x.shape[1]) if fill is None else fill
    return warp(*(t.to(device) for t in (x, maps, fill)), output_range, impl=impl).cpu()


@pytest.mark.parametrize(("why", "impl", "device", "dtype"), in_turn(TARGETS, SHAPES))
def test_parity(why, impl, device, dtype):
    need(impl, device)
    tensors = inputs(SHAPES[why], dtype)
    got = outputs(tensors, impl, device)
    reference = outputs(tensors, "reference", device)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    x, _, _, dy = tensors
    for *result, image in zip(got, reference, truth, ("y", "dx"), (x, dy), strict=True):
        assert_as_close_as(*result, condition(image))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.integers(1, 5),
    height=st.integers(1, 20),
    width=st.integers(1, 20) | st.integers(60, 70),
    seed=st.integers(0, 2**20),
)
def test_native_on_any_shape(batch, channels, height, width, seed):
    tensors = inputs((batch, channels, height, width), torch.float64, seed)
    got, expected = outputs(tensors, "native"), outputs(tensors, "reference")
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("impl", "device", "dtype"),
    [
        ("native", "cpu", torch.float64),
        ("triton", "cpu", torch.float32),
        pytest.param("triton", "cuda", torch.float32, marks=pytest.mark.gpu),
    ],
)
@pytest.mark.parametrize("why", SHAPES)
def test_the_gradient_is_the_adjoint(impl, device, dtype, why):
    need(impl, device)
    x, maps, fill, dy = inputs(SHAPES[why], dtype)
    y, dx = (t.double().cpu() for t in outputs((x, maps, fill, dy), impl, device))
    nothing = outputs((torch.zeros_like(x), maps, fill, dy), impl, device)[0].double().cpu()
    across, back = ((y - nothing) * dy.double()).sum(), (x.double() * dx).sum()
    rounding = condition(x) * KERNEL_ROUNDINGS * EPS[dtype]
    assert abs(across - back) <= rounding * (x.double().norm() * dy.double().norm())


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_gradcheck(impl):
    x, maps, fill, _ = inputs((3, 2, 4, 5), torch.float64)
    call = lambda x: warp(x, maps, fill, OUTPUT_RANGE, impl=impl)  # noqa: E731
    assert torch.autograd.gradcheck(call, x.requires_grad_())


# Maps that no Jitter draws: every pixel shows one place, or a line, or is far away.
ODD_MAPS = {
    "one place": (0.0, 0.0, 0.1, 0.0, 0.0, -0.2, 1.0, 0.0),
    "almost one place": (0.01, 0.0, 0.1, 0.0, 0.01, -0.2, 1.0, 0.0),
    "a line": (0.5, 0.25, 0.1, 0.5, 0.25, 0.0, 1.0, 0.0),
    "far apart": (1e30, 0.0, 0.1, 0.0, 1e30, 0.0, 1.0, 0.0),
    "far away": (1.0, 0.0, 1e30, 0.0, 1.0, 0.0, 1.0, 0.0),
    "on its side": (0.0, -1.0, 0.1, 1.0, 0.0, 0.0, 1.0, 0.0),
}


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # numpy's, interpreting
@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("why", ODD_MAPS)
def test_any_map_does(impl, device, why):
    need(impl, device)
    x, _, fill, dy = inputs((1, 2, 6, 4), torch.float32)
    tensors = (x, torch.tensor([ODD_MAPS[why]]), fill, dy)
    got, reference = (outputs(tensors, name, device) for name in (impl, "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for *result, image in zip(got, reference, truth, ("y", "dx"), (x, dy), strict=True):
        assert_as_close_as(*result, condition(image))


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_map_that_is_not_finite_makes_its_image_nan_and_no_other(impl, device, value):
    need(impl, device)
    tensors = inputs((3, 2, 5, 4), torch.float32)
    for number in range(8):
        tensors[1][1] = torch.tensor(IDENTITY)
        tensors[1][1, number] = value
        y, dx = outputs(tensors, impl, device)
        assert y[[0, 2]].isfinite().all() and dx[[0, 2]].isfinite().all()
        if math.isnan(value) or number < 6:  # an infinite bias is what one asks for
            assert y[1].isnan().all() and (number == 7 or dx[1].isnan().all())


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("shape", [NOT_SQUARE, (2, 1, 7, 5)])
def test_the_identity_changes_no_bit(impl, device, dtype, shape):
    need(impl, device)
    x, _, fill, dy = inputs(shape, dtype)
    tensors = (x, torch.tensor(IDENTITY).expand(len(x), 8), fill, dy)
    for output_range in ((-1.0, 1.0), (0.0, 1.0)):
        y, dx = outputs(tensors, impl, device, output_range=output_range)
        assert torch.equal(y.cpu(), x) and torch.equal(dx.cpu(), dy)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_shift_by_whole_pixels_moves_the_image(impl, device):
    need(impl, device)
    x, _, fill, _ = inputs(NOT_SQUARE, torch.float32)
    _, _, height, width = x.shape
    # A pixel shows what lies 2 to its right and 1 above it.
    map_ = (1.0, 0.0, 2 * 2 / width, 0.0, 1.0, -1 * 2 / height, 1.0, 0.0)
    y = shown(x, map_, impl, device, fill)
    assert torch.equal(y[:, :, 1:, :-2], x[:, :, :-1, 2:])
    for outside in (y[:, :, 0].flatten(2), y[:, :, :, -2:].flatten(2)):
        assert torch.equal(outside, fill.view(1, -1, 1).expand_as(outside))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_half_a_pixel_is_the_mean_of_two(impl, device):
    need(impl, device)
    x, _, fill, _ = inputs(NOT_SQUARE, torch.float32)
    y = shown(x, (1.0, 0.0, 1 / x.shape[3], 0.0, 1.0, 0.0, 1.0, 0.0), impl, device, fill)
    edge = fill.view(1, -1, 1, 1).expand(*x.shape[:3], 1)
    torch.testing.assert_close(y, 0.5 * (x + torch.cat([x[..., 1:], edge], dim=3)))


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("shape", [NOT_SQUARE, (2, 1, 7, 5)])
def test_a_flip_mirrors(impl, device, shape):
    need(impl, device)
    x = inputs(shape, torch.float32)[0]
    y = shown(x, (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0), impl, device)
    assert torch.equal(y, x.flip(3))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_quarter_turn_turns(impl, device):
    need(impl, device)
    x = inputs((2, 3, 5, 5), torch.float32)[0]
    y = shown(x, (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0), impl, device)
    assert torch.equal(y, x.rot90(1, (2, 3)))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_beyond_the_border_is_fill_and_contrast_applies_to_it(impl, device):
    need(impl, device)
    x, _, fill, _ = inputs((2, 3, 5, 4), torch.float32)
    low, high = 0.0, 3.0
    y = shown(x, (1.0, 0.0, 5.0, 0.0, 1.0, 0.0, 1.5, -0.25), impl, device, fill, (low, high))
    expected = (1.5 * (fill - 1.5) + 1.5 - 0.25).view(1, -1, 1, 1).expand_as(y)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("output_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_brightness_and_contrast(impl, device, output_range):
    need(impl, device)
    x = inputs((2, 3, 5, 4), torch.float32)[0]
    middle = sum(output_range) / 2
    y = shown(x, (*IDENTITY[:6], 0.5, 0.125), impl, device, output_range=output_range)
    torch.testing.assert_close(y, 0.5 * (x - middle) + middle + 0.125)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_an_image_of_fill_alone_stays_as_it_is(impl, device):
    need(impl, device)
    _, maps, fill, _ = inputs((6, 3, 7, 5), torch.float32)
    maps[:, 6:] = torch.tensor([1.0, 0.0])
    x = fill.view(1, -1, 1, 1).expand(6, -1, 7, 5)
    y = warp(*(t.to(device) for t in (x, maps, fill)), OUTPUT_RANGE, impl=impl)
    assert torch.equal(y.cpu(), x)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_pixel_spoils_its_neighbours_only(impl, device, dtype, value):
    """Of both passes: where a place is within a pixel of it; the other image stays whole."""
    need(impl, device)
    height, width, at = 9, 8, (3, 5)
    tensors = inputs((2, 2, height, width), dtype)
    x, maps, _, dy = tensors
    x[0, 1, at[0], at[1]] = dy[0, 1, at[0], at[1]] = value
    y, dx = (~t.cpu().isfinite() for t in outputs(tensors, impl, device))
    assert not (y[1].any() or dx[1].any() or y[0, 0].any() or dx[0, 0].any())

    column, row = places(maps[0], height, width)
    away = torch.maximum((column - at[1]).abs(), (row - at[0]).abs())
    back = torch.maximum(
        (column[at] - torch.arange(width)).abs().view(1, -1),
        (row[at] - torch.arange(height)).abs().view(-1, 1),
    )
    near = KERNEL_ROUNDINGS * EPS[torch.float32] * max(height, width)
    for spoilt, distance in ((y[0, 1], away), (dx[0, 1], back)):
        assert spoilt[distance < 1 - near].all() and spoilt.any()
        assert not spoilt[distance > 1 + near].any()


def test_native_results_do_not_depend_on_the_number_of_threads():
    tensors = inputs((100, 1, 28, 28), torch.float32)  # several parts
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(outputs(tensors, "native"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_images_do_not_depend_on_the_batch_they_are_in(impl, device):
    need(impl, device)
    tensors = inputs((4, 3, 6, 5), torch.float32)
    whole = outputs(tensors, impl, device)
    x, maps, fill, dy = tensors
    alone = [outputs((x[i:][:1], maps[i:][:1], fill, dy[i:][:1]), impl, device) for i in range(4)]
    for everything, parts in zip(whole, zip(*alone, strict=True), strict=True):
        assert torch.equal(everything, torch.cat(parts))


def test_the_reference_shows_the_places_of_the_formula():
    """Away from the border; by the weights that the head of the file gives."""
    size = 16
    x, maps = inputs((1, 1, size, size), torch.float64)[0], some_maps(1)
    maps[:, 6:] = torch.tensor([1.0, 0.0])
    y = warp_reference(x, maps, torch.zeros(1), OUTPUT_RANGE)
    column, row = places(maps[0], size, size)
    weigh = lambda place: (1 - (place.unsqueeze(-1) - torch.arange(size)).abs()).clamp_min(0)  # noqa: E731
    expected = torch.einsum("yxr,yxc,rc->yx", weigh(row), weigh(column), x[0, 0])
    torch.testing.assert_close(y[0, 0], expected, rtol=1e-11, atol=1e-11)
