"""adam computes what the float64 reference and torch.optim.Adam do, at its edges as well."""

from __future__ import annotations

import pytest
import torch
from adam_cases import NAMES, SETTINGS, SHAPES, State, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, need
from tolerances import ADAM_DENORMAL, ADAM_UNIT_STEP, FORMULA_64

from fastinfogan.config import ADAM_EPS
from fastinfogan.kernels.adam import offsets
from fastinfogan.kernels.adam.layout import ALIGN


def test_segments_begin_at_multiples_of_align():
    assert offsets([1]) == ([0], ALIGN)
    assert offsets([ALIGN, ALIGN + 1, 3]) == ([0, ALIGN, 3 * ALIGN], 4 * ALIGN)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("mixed", [False, True], ids=["one dtype", "mixed dtypes"])
@pytest.mark.parametrize("why", SHAPES)
def test_parity(impl, device, dtype, mixed, why):
    need(impl, device)
    if mixed and (dtype == torch.float32 or len(SHAPES[why]) == 1):
        pytest.skip("there is but one dtype")
    shapes, copy = SHAPES[why], None if dtype == torch.float32 else dtype
    got = State(shapes, copy=copy, device=device)
    reference, truth = State(shapes, copy=copy), State(shapes, torch.float64)
    for seed in range(3):
        grads = gradients(shapes, dtype, seed=seed, mixed=mixed)
        got.update([g.to(device) for g in grads], impl=impl)
        reference.update(grads, impl="reference")
        truth.update([g.double() for g in grads], impl="reference")
    assert got.step.item() == reference.step.item() == truth.step.item() == 3
    truths = truth.tensors()
    truths[3] = truth.params if copy else None
    for result in zip(got.tensors(), reference.tensors(), truths, NAMES, strict=True):
        assert_as_close_as(*result)
    inside = torch.zeros_like(got.params, dtype=torch.bool)
    for start, size in zip(got.starts, got.sizes, strict=True):
        inside[start : start + size] = True
    for tensor in got.tensors()[: 4 if copy else 3]:
        assert not tensor[~inside].any()  # the padding


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
def test_a_thousand_steps_of_torch(impl, device):
    need(impl, device)
    shape = (50,)
    state, (size,) = State([shape], device=device), shape
    optimisers = []
    for dtype in (torch.float32, torch.float64):
        parameter = torch.nn.Parameter(state.params[:size].to("cpu", dtype))
        betas = (SETTINGS["beta1"], SETTINGS["beta2"])
        optimisers.append((parameter, torch.optim.Adam([parameter], 1e-3, betas, ADAM_EPS)))
    random = torch.Generator().manual_seed(1)
    interpreted = impl == "triton" and device == "cpu"
    steps = 100 if interpreted else 1000  # the interpreter needs 10 ms for each
    for _ in range(steps):
        # Signal and noise, over six orders of magnitude.
        grad = (torch.randn(shape, generator=random) + 0.3) * torch.logspace(-5, 1, size)
        state.update([grad.to(device)], impl=impl)
        for parameter, optimiser in optimisers:
            parameter.grad = grad.to(parameter.dtype)
            optimiser.step()
    (own, _), (truth, _) = optimisers
    assert state.step.item() == steps
    assert_as_close_as(state.params[:size], own.detach(), truth.detach(), "params")


@pytest.mark.parametrize("impl", ["reference", "native"])
def test_float64_is_torch_s_in_float64(impl):
    shapes = SHAPES["channels-last weights"]
    state = State(shapes, torch.float64)
    parameters = [
        torch.nn.Parameter(state.params[start : start + size].clone())
        for start, size in zip(state.starts, state.sizes, strict=True)
    ]
    optimiser = torch.optim.Adam(parameters, 1e-3, (0.5, 0.999), ADAM_EPS)
    for seed in range(5):
        grads = gradients(shapes, torch.float64, seed=seed)
        state.update(grads, impl=impl)
        for parameter, grad in zip(parameters, grads, strict=True):
            order = sorted(range(grad.dim()), key=grad.stride, reverse=True)  # of memory
            if grad.is_contiguous():
                order = range(grad.dim())
            parameter.grad = grad.permute(*order).reshape(-1)
        optimiser.step()
    for parameter, start, size in zip(parameters, state.starts, state.sizes, strict=True):
        got = state.params[start : start + size]
        torch.testing.assert_close(
            got, parameter.detach(), rtol=5 * FORMULA_64, atol=5 * FORMULA_64
        )


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("t", [1, 2, 10, 499, 501, 1000, 10**5, 2**31 + 7])
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_bias_corrections_keep_their_digits(impl, device, t, beta1):
    """Gradients of 1 ever since the first step: the corrected moments are 1, the step is lr."""
    need(impl, device)
    state, beta2 = State([(3,)], device=device, step=t - 1, lr=1.0), 0.999
    state.params.zero_()
    state.exp_avg[:3] = 1.0 - beta1 ** (t - 1)
    state.exp_avg_sq[:3] = 1.0 - beta2 ** (t - 1)
    state.update([torch.ones(3, device=device)], beta1=beta1, beta2=beta2, impl=impl)
    assert (state.params[:3] + 1.0).abs().max().item() < ADAM_UNIT_STEP
    assert state.step.item() == t


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_number_and_no_other(impl, device, dtype, value):
    need(impl, device)
    state = State([(40,), (7,)], copy=torch.bfloat16, device=device)
    grads = gradients([(40,), (7,)], dtype, device)
    grads[0][33] = value
    state.update(grads, impl=impl)
    for tensor in (state.params, state.copy):  # infinity / infinity
        assert tensor.isnan().nonzero().flatten().tolist() == [33]


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_denormal_gradients_count(impl, device):
    need(impl, device)
    state, expected = State([(40,)], device=device), State([(40,)])
    grad = torch.linspace(-1e-39, 1e-39, 40)
    for s, implementation in ((state, impl), (expected, "reference")):
        s.params.zero_()
        s.update([grad.to(s.params.device)], impl=implementation)
    assert expected.params[:40].all()
    torch.testing.assert_close(state.params.cpu(), expected.params, rtol=ADAM_DENORMAL, atol=0.0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 * ALIGN), min_size=1, max_size=40),
    beta1=st.floats(0.0, 0.999),
    step=st.integers(0, 10**6),
)
def test_native_on_any_segments(sizes, beta1, step):
    shapes = [(size,) for size in sizes]
    native, expected = (State(shapes, torch.float64, step=step) for _ in range(2))
    native.update(gradients(shapes, torch.float64), impl="native", beta1=beta1)
    expected.update(gradients(shapes, torch.float64), impl="reference", beta1=beta1)
    assert native.step == expected.step
    for a, b in zip(native.tensors()[:3], expected.tensors()[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=FORMULA_64, atol=FORMULA_64)
