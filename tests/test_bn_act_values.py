"""bn_act computes what the float64 reference does, in every shape, mode and implementation."""

from __future__ import annotations

import pytest
import torch
from bn_act_cases import MODES, NAMES, SHAPES, inputs, outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, in_turn, need
from tolerances import BN_ACT_64, EPS

from fastinfogan.kernels.bn_act import bn_act, bn_act_reference, triton


@pytest.mark.parametrize(
    ("why", "mode", "impl", "device", "dtype"), in_turn(TARGETS, SHAPES, MODES)
)
def test_parity(why, mode, impl, device, dtype):
    need(impl, device)
    tensors = inputs(SHAPES[why], dtype)
    got = outputs(tensors, impl, device, **MODES[mode])
    reference = outputs(tensors, "reference", device, **MODES[mode])
    truth = outputs(tensors, "reference", dtype=torch.float64, **MODES[mode])
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_several_native_parts(dtype):
    """A part has 16 K numbers at least: too many for the interpreter."""
    tensors = inputs((66, 33, 9, 9), dtype)
    got, reference = (outputs(tensors, impl, slope=0.1) for impl in ("native", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64, slope=0.1)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("shape", [(16, 17, 9, 11), (6, 5)])
def test_two_groups_equal_two_calls_exactly(impl, device, shape):
    need(impl, device)
    tensors = [t.to(device) for t in inputs(shape, torch.float32)]
    both = outputs(tensors, impl, device, slope=0.1, groups=2)
    x, weight, bias, running_mean, running_var, dy = tensors
    first, second = zip(x.chunk(2), dy.chunk(2), strict=True)
    one = outputs(
        [first[0], weight, bias, running_mean, running_var, first[1]], impl, device, slope=0.1
    )
    two = outputs([second[0], weight, bias, *one[4:], second[1]], impl, device, slope=0.1)
    assert torch.equal(both[0], torch.cat([one[0], two[0]]))
    assert torch.equal(both[1], torch.cat([one[1], two[1]]))
    for k in (2, 3):
        # A GPU adds a group's product before it is rounded.
        roundings = 2 * EPS[torch.float32] if device == "cuda" else 0.0
        off = roundings * (one[k].abs() + two[k].abs())
        assert ((both[k] - (one[k] + two[k])).abs() <= off).all()
    assert torch.equal(both[4], two[4]) and torch.equal(both[5], two[5])


ADVERSARIAL = {
    "a mean of 1e4 beside a spread of 1": dict(scale=1.0, mean=1e4),
    "constant channels": dict(scale=0.0, mean=3.0),
    "constant channels at 0": dict(scale=0.0, mean=0.0),
    "a variance below eps": dict(scale=1e-4, mean=0.0),
    "denormals": dict(scale=1e-40, mean=0.0),
    "values of 1e4": dict(scale=1e4, mean=0.0),
    "a variance close to the largest float": dict(scale=1e17, mean=0.0),
}


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("why", ADVERSARIAL)
def test_adversarial_values(impl, device, why):
    need(impl, device)
    tensors = inputs((10, 20, 3, 3), torch.float32, **ADVERSARIAL[why])
    got = outputs(tensors, impl, device, slope=0.1)
    reference = outputs(tensors, "reference", device, slope=0.1)
    truth = outputs(tensors, "reference", dtype=torch.float64, slope=0.1)
    # x - mean cancels: an error of eps in the mean (torch sums it in float64 on the CPU) is one of
    # eps |mean| / sigma in y. From E[x^2] - E[x]^2 it would be eps (mean / sigma)^2.
    condition = max(1.0, abs(ADVERSARIAL[why]["mean"]) / max(1.0, ADVERSARIAL[why]["scale"]))
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result, condition)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_channel_and_no_other(impl, device, dtype, slope, value):
    need(impl, device)
    tensors = inputs((6, 5, 3, 3), dtype)
    tensors[0][2, 1, 0, 0] = value
    for result in outputs(tensors, impl, device, slope=slope)[:4]:
        channels = result.transpose(0, 1) if result.dim() > 1 else result
        if result.dim() > 1:
            assert channels[1].isnan().all()
        assert channels[[0, 2, 3, 4]].isfinite().all()


def test_native_results_do_not_depend_on_the_number_of_threads():
    tensors = inputs((66, 33, 9, 9), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(outputs(tensors, "native", slope=0.1, groups=2))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES[1:])
def test_a_program_that_applies_to_many_tiles_gives_the_same_bits(impl, device, monkeypatch):
    """As large maps have it; a group's 792 rows are seven tiles, the last one not full."""
    need(impl, device)
    tensors = inputs((16, 17, 9, 11), torch.bfloat16)
    expected = outputs(tensors, impl, device, slope=0.1, groups=2)
    monkeypatch.setattr(triton, "_APPLY_PROGRAMS", 2)
    got = outputs(tensors, impl, device, slope=0.1, groups=2)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_the_parts_of_a_gpu_cover_all_rows_and_none_is_empty():
    """A program takes the first row of its part for granted."""
    assert triton.parts_of(1584, 33) == (4, 400) and triton.parts_of(792, 33) == (2, 400)
    for rows in (*range(1, 3000), 6272, 8191, 8192, 25_088, 100_003, 524_288):
        for channels in (1, 16, 17, 64, 256, 4096, 100_000):
            parts, each = triton.parts_of(rows, channels)
            assert (parts - 1) * each < rows <= parts * each


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 20),
    channels=st.integers(1, 150),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.none(),
    groups=st.sampled_from([1, 2]),
    slope=st.floats(0.0, 1.0),
    training=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_native_on_any_shape(batch, channels, size, groups, slope, training, seed):
    shape = (2 * batch, channels, *(size or ()))
    if training and shape[0] == groups and size in (None, (1, 1)):
        shape = (2 * shape[0], *shape[1:])
    tensors = inputs(shape, torch.float64, seed)
    mode = dict(slope=slope, groups=groups, training=training)
    got, expected = outputs(tensors, "native", **mode), outputs(tensors, "reference", **mode)
    for a, b in zip(got, expected, strict=True):
        # Two rows leave dx almost nothing but its cancellation, hence the scale of 1 beside it.
        torch.testing.assert_close(a, b, rtol=BN_ACT_64, atol=BN_ACT_64)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_of_the_reference(mode):
    x, weight, bias, running_mean, running_var, _ = inputs((4, 3, 2, 2), torch.float64)
    options = dict(MODES[mode])
    running = options.pop("running", True)

    def call(x, weight, bias):
        statistics = (running_mean.clone(), running_var.clone()) if running else (None, None)
        return bn_act_reference(x, weight, bias, *statistics, **options)

    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in (x, weight, bias)])


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_frozen_network_learns_nothing(impl, device):
    """No gradient of weight and bias where none is asked for, and one of x all the same."""
    need(impl, device)
    x, weight, bias, *_, dy = (t.to(device) for t in inputs((6, 5), torch.float32))
    x.requires_grad_()
    y = bn_act(x, weight, bias, None, None, 0.1, impl=impl)
    y.backward(dy)
    assert weight.grad is None and bias.grad is None
    expected = bn_act(x, weight, bias, None, None, 0.1, impl="reference")
    torch.testing.assert_close(x.grad, torch.autograd.grad(expected, x, dy)[0])
