"""conv on the CPU with fewer products (Winograd's): against the float64 reference; its rule."""

from __future__ import annotations

import pytest
import torch
from conv_cases import assert_right, assert_right_in_float64, inputs, results
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import conv_ways
from fastinfogan.kernels.conv import native, rule
from fastinfogan.kernels.conv.rule import winograd_is_faster

OPERATIONS = ("down", "up", "weight")

# (batch, inputs, height, width), outputs, stride, transposed: why each is here.
CASES = {
    "pairs and nothing else": ((4, 16, 12, 8), 24, 2, False),
    "an odd number of results": ((3, 16, 14, 10), 20, 2, False),
    "odd sizes, seen to their ends": ((3, 5, 7, 9), 6, 2, False),
    "a single result": ((2, 5, 2, 2), 6, 2, False),
    "full vectors and a tail": ((15, 35, 8, 6), 65, 2, False),
    "several groups of cells and of places": ((17, 40, 18, 20), 70, 2, False),
    "stride 1": ((2, 17, 6, 5), 9, 1, False),
    "stride 1, one place": ((3, 6, 1, 1), 5, 1, False),
    "up": ((4, 24, 6, 4), 16, 2, True),
    "up, odd": ((3, 20, 7, 5), 16, 2, True),
    "up, one place": ((2, 7, 1, 1), 6, 2, True),
    "up, two places": ((2, 7, 2, 2), 6, 2, True),
    "up, full vectors and a tail": ((29, 35, 5, 8), 70, 2, True),
    "up, several groups": ((17, 40, 12, 12), 33, 2, True),
    "up, stride 1": ((2, 9, 5, 6), 17, 1, True),
    "up, stride 1, one place": ((2, 6, 1, 1), 5, 1, True),
}


def count(monkeypatch) -> list[str]:
    """Lets these run wherever they can; the names of those that did."""
    ran = []
    named = {f"winograd_{operation}": operation for operation in OPERATIONS}

    class Watched:
        def __getattr__(self, name):
            if name in named:
                ran.append(named[name])
            return getattr(module, name)

    module = native.NATIVE
    monkeypatch.setattr(native, "NATIVE", Watched())
    wide = (torch.float32, torch.float64)
    monkeypatch.setattr(native, "winograd_is_faster", lambda _, dtype, *shape: dtype in wide)
    return ran


@pytest.mark.parametrize("activation", [1.0, 0.1])
@pytest.mark.parametrize("why", CASES)
def test_parity(why, activation, monkeypatch):
    """Forward, and both gradients; what went into a slope has its derivative in the same call."""
    ran = count(monkeypatch)
    assert_right(inputs(CASES[why], torch.float32), CASES[why], "native", activation=activation)
    assert set(ran) == set(OPERATIONS)


@pytest.mark.parametrize("why", CASES)
def test_parity_in_float64(why, monkeypatch):
    count(monkeypatch)
    assert_right_in_float64(inputs(CASES[why], torch.float64), CASES[why], "native")


def test_parity_on_any_shape(monkeypatch):
    count(monkeypatch)

    @settings(max_examples=80, deadline=None)
    @given(
        batch=st.integers(1, 20),
        channels=st.tuples(st.integers(5, 40), st.integers(5, 40)),
        size=st.tuples(st.integers(2, 11), st.integers(2, 11)),
        stride=st.sampled_from([1, 2]),
        transposed=st.booleans(),
        bias=st.booleans(),
        seed=st.integers(0, 2**20),
    )
    def check(batch, channels, size, stride, transposed, bias, seed):
        case = ((batch, channels[0], *size), channels[1], stride, transposed)
        assert_right_in_float64(inputs(case, torch.float64, seed, bias), case, "native")

    check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parity_with_a_derivative_inside(dtype, monkeypatch):
    """The gradient of what a slope made x of, which is read where the result is written."""
    ran = count(monkeypatch)
    slope = 0.2
    for stride in (1, 2):
        case = ((5, 19, 8, 6), 21, stride, False)
        large, weight, _, small = inputs(case, dtype)
        up = native.conv_up(small, weight, None, stride, 8, 6, native.SLOPE, 1.0)
        down = native.conv_down(large, weight, None, stride, native.SLOPE, 1.0)
        found = native.conv_up_derived(small, weight, stride, large, slope)
        assert torch.equal(found, torch.where(large > 0, up, up * slope))
        found = native.conv_down_derived(large, weight, stride, small, slope)
        assert torch.equal(found, torch.where(small > 0, down, down * slope))
    assert set(ran) == {"up", "down"}


def test_it_is_another_way_to_sum(monkeypatch):
    """The cases above would say nothing if the same kernels ran."""
    case = CASES["pairs and nothing else"]
    tensors = inputs(case, torch.float32)
    plain = results(tensors, case, "native")
    count(monkeypatch)
    for got, other in zip(results(tensors, case, "native")[:3], plain, strict=False):
        assert not torch.equal(got, other)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    count(monkeypatch)
    threads, found = torch.get_num_threads(), []
    cases = [case for why, case in CASES.items() if "several groups" in why]
    try:
        for number in (1, 2, 3, 5, 17):
            torch.set_num_threads(number)
            found.append(
                [r for c in cases for r in results(inputs(c, torch.float32), c, "native")[:3]]
            )
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("why", ["full vectors and a tail", "up, full vectors and a tail"])
def test_nan_and_infinity_spoil_their_image_and_no_other(why, value, monkeypatch):
    count(monkeypatch)
    tensors = inputs(CASES[why], torch.float32)
    tensors[0][2] = value
    finite = results(tensors, CASES[why], "native")[0].isfinite()
    assert not finite[2].any() and finite[:2].all() and finite[3:].all()


def test_nan_spoils_its_channel_of_a_weight_and_no_other(monkeypatch):
    """What is read beyond a pixel's channels is another pixel's, and nobody's."""
    count(monkeypatch)
    case = CASES["full vectors and a tail"]
    tensors = inputs(case, torch.float32)
    tensors[0][:, 7] = float("nan")
    finite = results(tensors, case, "native")[2].isfinite()
    assert not finite[:, 7].any() and finite[:, :7].all() and finite[:, 8:].all()


# Layers: (small channels, small size, large channels, stride), with 128 images, and the operations
# with fewer products: with AVX-512 all but "weight".
LAYERS = {
    "mnist, between image and maps": ((64, 14, 1, 2), ""),
    "mnist, between maps": ((128, 7, 64, 2), "down up weight"),
    "celeba, between image and maps": ((64, 16, 3, 2), ""),
    "celeba, 8x8": ((128, 8, 64, 2), "down up weight"),
    "celeba, 4x4": ((256, 4, 128, 2), "weight"),
    "celeba, 2x2": ((448, 2, 256, 2), ""),
    "chairs, 32x32": ((128, 16, 64, 2), "down up weight"),
    "chairs, 16x16": ((256, 8, 128, 2), "down up weight"),
    "chairs, stride 1": ((256, 8, 256, 1), ""),
    "stride 1, shorter sums": ((128, 8, 128, 1), "down up weight"),
    "few channels": ((32, 16, 32, 2), ""),
    "enough of them down": ((64, 16, 32, 2), "down"),
    "and up": ((128, 16, 32, 2), "down up"),
    "too few on one side": ((16, 16, 256, 2), ""),
    "the least on one side": ((512, 16, 32, 2), "down up"),
    "long sums one way": ((128, 8, 256, 2), "up weight"),
    "many pairs": ((512, 8, 128, 2), "down up"),
    "5x5": ((128, 5, 64, 2), "down up weight"),
    "3x3": ((256, 3, 128, 2), ""),
}


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_rule(layer, avx512, monkeypatch):
    monkeypatch.setattr(rule, "AVX512", avx512)
    (channels, size, image_channels, stride), operations = LAYERS[layer]
    large = (128, image_channels, size * stride, size * stride)
    fewer = set(operations.split()) - ({"weight"} if avx512 else set())
    for operation in OPERATIONS:
        for dtype in (torch.float32, torch.float64):
            found = winograd_is_faster(operation, dtype, large, channels, stride)
            assert found == (operation in fewer), operation
        assert not winograd_is_faster(operation, torch.bfloat16, large, channels, stride)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_rule_asks_for_enough_places(operation, monkeypatch):
    monkeypatch.setattr(rule, "AVX512", False)
    for size, enough in (((32, 64, 16, 16), True), ((31, 64, 16, 16), False)):
        assert winograd_is_faster(operation, torch.float32, size, 128, 2) == enough
    for size, enough in (((256, 64, 10, 40), True), ((256, 64, 6, 40), False)):
        assert winograd_is_faster(operation, torch.float32, size, 128, 2) == enough


def test_the_rule_is_followed():
    """Of 128 images by fewer products where it says so, of 16 by all; and it is right."""
    case = ((128, 64, 14, 14), 128, 2, False)
    assert_right(inputs(case, torch.float32), case, "auto")
    x, weight, _, dy = inputs(case, torch.float32, bias=False)
    for operation in OPERATIONS:
        fewer = winograd_is_faster(operation, torch.float32, x.shape, 128, 2)
        for part in (slice(None), slice(0, 16)):
            tensors = x[part], dy[part], weight
            got = conv_ways.convolve(native, operation, *tensors, 2)
            with conv_ways.way("all"):
                plain = conv_ways.convolve(native, operation, *tensors, 2)
            expected = fewer and part == slice(None)
            assert torch.equal(got, plain) == (not expected), operation
