"""adam names an argument that is off, and an implementation that can't run."""

from __future__ import annotations

import pytest
import torch
from adam_cases import SETTINGS, State, assert_same_bits, gradients
from kernel_cases import need

from fastinfogan.kernels import triton_needs
from fastinfogan.kernels.adam import adam
from fastinfogan.kernels.adam.layout import ALIGN


def arguments(**changed):
    """Of a call that works, but for what is changed."""
    state = State([(4, 5), (3,)])
    grads = gradients([(4, 5), (3,)])
    kwargs = dict(params=state.params, grads=grads, exp_avg=state.exp_avg, step=state.step)
    kwargs |= dict(exp_avg_sq=state.exp_avg_sq, lr=state.lr, **SETTINGS)
    return kwargs | changed


FLAT = 2 * ALIGN
ONE = torch.ones(1)


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(params=torch.zeros(FLAT, dtype=torch.bfloat16)), "params is torch.bfloat16"),
        (dict(params=torch.zeros(2, ALIGN)), "params is (2, 1024)"),
        (dict(params=torch.zeros(0)), "params is (0,)"),
        (dict(params=torch.zeros(2 * FLAT)[::2]), "params has stride 2"),
        (dict(exp_avg=torch.zeros(FLAT, dtype=torch.float64)), "exp_avg is torch.float64"),
        (dict(exp_avg_sq=torch.zeros(ALIGN)), "exp_avg_sq is (1024,)"),
        (dict(exp_avg=torch.zeros(FLAT, device="meta")), "exp_avg is on meta"),
        (dict(copy=torch.zeros(FLAT)), "copy is torch.float32"),
        (dict(copy=torch.zeros(ALIGN, dtype=torch.float16)), "copy is (1024,)"),
        (dict(step=torch.zeros(1)), "step is torch.float32; it must be torch.int64"),
        (dict(step=torch.zeros(2, dtype=torch.int64)), "step is (2,)"),
        (dict(lr=torch.ones(1, dtype=torch.float64)), "lr is torch.float64"),
        (dict(lr=torch.ones(1, 1)), "lr is (1, 1)"),
        (dict(lr=torch.ones(1, device="meta")), "lr is on meta"),
        (dict(inverse_scale=ONE.double()), "inverse_scale is torch.float64"),
        (dict(found_inf=ONE.bool()), "found_inf is torch.bool"),
        (dict(beta1=1.0), "beta1=1.0"),
        (dict(beta2=-0.1), "beta2=-0.1"),
        (dict(beta2=float("nan")), "beta2=nan"),
        (dict(eps=0.0), "eps=0.0"),
        (dict(lr=1e-3), "lr is of type float; a tensor works"),
        (dict(exp_avg=None), "exp_avg is None; a tensor works"),
        (dict(grads=[]), "grads is empty"),
        (dict(grads=ONE), "grads is a tensor; a sequence of them works"),
        (dict(grads=[torch.ones(20), None]), "grads[1] is None; a tensor works"),
        (dict(grads=gradients([(4, 5)])), "segments of 1024 numbers in all, and params has 2048"),
        (dict(grads=gradients([(4, 5), (0,)])), "grads[1] is (0,)"),
        (dict(grads=[torch.ones(20), torch.ones(3).double()]), "grads[1] is torch.float64"),
        (dict(grads=[torch.ones(20), torch.ones(3, device="meta")]), "grads[1] is on meta"),
        (dict(grads=[ONE.expand(20), torch.ones(3)]), "grads[0] has strides (0,)"),
        (dict(grads=[torch.ones(4, 6)[:, :5], torch.ones(3)]), "grads[0] has strides (6, 1)"),
    ],
)
def test_bad_input_is_named(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        adam(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("adam: ") and "\n" not in str(caught.value)


def test_float64_takes_float64_alone():
    state = State([(3,)], torch.float64)
    with pytest.raises(ValueError, match=r"^adam: grads\[0\] is torch.float32; .* float64 works$"):
        state.update([torch.ones(3)])
    with pytest.raises(ValueError, match="^adam: copy needs params of float32"):
        state.update([torch.ones(3).double()], copy=state.params.bfloat16())


def test_native_has_no_float16_and_auto_knows():
    state, expected = (State([(3,)], copy=torch.float16) for _ in range(2))
    with pytest.raises(
        RuntimeError, match=r"^adam: impl='native' can't run: .* no float16 kernel$"
    ):
        state.update([torch.ones(3)], impl="native")
    state.update([torch.ones(3)], impl="auto")
    expected.update([torch.ones(3)], impl="reference")
    assert_same_bits(state, expected)


def test_triton_asked_for_without_a_gpu_raises(monkeypatch):
    need("triton", "cpu")
    monkeypatch.setattr(triton_needs, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="^adam: impl='triton' can't run: it needs a GPU"):
        State([(3,)]).update([torch.ones(3)], impl="triton")
