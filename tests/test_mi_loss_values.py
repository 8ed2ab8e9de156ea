"""mi_loss, d_loss and g_loss give the float64 reference's values and gradients, everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, in_turn, need
from mi_loss_cases import CASES, FORMS, NAMES, inputs, outputs
from tolerances import EPS, EXP_OF_60, FORMULA_32, SOFTPLUS_64, SUMMATION_64

from fastinfogan.kernels.codes import KINDS, Code
from fastinfogan.kernels.mi_loss import (
    d_loss,
    d_loss_reference,
    g_loss,
    g_loss_reference,
    mi_loss,
    mi_loss_reference,
    triton,
)
from fastinfogan.model.latent_spec import parse_codes

# numpy, in Triton's interpreter, warns of the NaN and infinity that some tests feed it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


@pytest.mark.parametrize(("why", "form", "impl", "device", "dtype"), in_turn(TARGETS, CASES, FORMS))
def test_parity(why, form, impl, device, dtype):
    need(impl, device)
    tensors = inputs(*CASES[why], dtype, form)
    got = outputs(tensors, impl, device)
    reference = outputs(tensors, "reference", device)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_several_native_parts(form, dtype):
    """A part needs 32 K numbers at least: too many for the interpreter."""
    tensors = inputs("cat500,uni:learned,cat33", 131, dtype, form)
    got, reference = (outputs(tensors, impl) for impl in ("native", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


def test_several_triton_parts_are_added_up_over_several_blocks(monkeypatch):
    """Real blocks hold as many parts as make the interpreter slow."""
    need("triton", "cpu")
    blocks = triton.blocks_of
    monkeypatch.setattr(triton, "blocks_of", lambda *codes: blocks(*codes) | {"BLOCK_PARTS": 2})
    tensors = inputs("cat600,uni", 5, torch.float32, "d")
    assert blocks([KINDS["categorical"].number], [600])["BLOCK_ROWS"] == 1
    got, reference = (outputs(tensors, impl) for impl in ("triton", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


def test_float64_is_exact():
    for why, (spec, batch) in CASES.items():
        tensors = inputs(spec, batch, torch.float64, "d")
        got, expected = (outputs(tensors, impl) for impl in ("native", "reference"))
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=SOFTPLUS_64, atol=SUMMATION_64, msg=why)


def kinds_of_values():
    """What the losses are by pencil and paper, at zero logits: log K, log 2, (c - m)^2 / 2 ..."""
    half = 0.5 * math.log(2.0 * math.pi)
    return [
        ("cat7", [3.0], [0.0] * 7, math.log(7.0)),
        ("bern", [1.0], [0.0], math.log(2.0)),
        ("uni", [0.5], [0.0], 0.125 + half),
        ("gauss:learned", [2.0], [1.0, 0.0], 0.5 + half),
        # sigma = exp(2 tanh(s / 2)) with tanh(s / 2) = 1 / 2: e
        ("gauss:learned", [2.0], [1.0, 2 * math.atanh(0.5)], 0.5 * math.exp(-2.0) + 1.0 + half),
    ]


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize(("spec", "value", "q", "nll"), kinds_of_values())
def test_values_by_hand(impl, device, spec, value, q, nll):
    need(impl, device)
    codes, weights = parse_codes(spec), (3.0,)
    tensors = [torch.tensor([t], device=device) for t in (q, value)]
    total, nlls = mi_loss(*tensors, codes, weights, impl=impl)
    assert nlls.shape == (1,) and total.shape == ()
    assert nlls.item() == pytest.approx(nll, rel=FORMULA_32)
    assert total.item() == pytest.approx(3.0 * nll, rel=FORMULA_32)
    logits = torch.zeros(2, device=device)
    total_d, terms = d_loss(logits, *tensors, codes, weights, impl=impl)
    assert terms[0].item() == pytest.approx(2.0 * math.log(2.0), rel=FORMULA_32)
    assert total_d.item() == pytest.approx(3.0 * nll + 2.0 * math.log(2.0), rel=FORMULA_32)
    total_g, terms = g_loss(logits[:1], *tensors, codes, weights, impl=impl)
    assert total_g.item() == pytest.approx(3.0 * nll + math.log(2.0), rel=FORMULA_32)
    assert terms.tolist() == pytest.approx([math.log(2.0), nll], rel=FORMULA_32)


ADVERSARIAL = {
    "logits of 1e4": 1e4,
    "logits of 100: exp would overflow": 100.0,
    "logits of 1e-4: everything is near its value at 0": 1e-4,
    "denormals": 1e-40,
}


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("why", ADVERSARIAL)
def test_adversarial_values(impl, device, why):
    need(impl, device)
    spec = "cat10,uni,bern,gauss:learned,cat20"
    tensors = inputs(spec, 21, torch.float32, "d", scale=ADVERSARIAL[why])
    got = outputs(tensors, impl, device)
    reference = outputs(tensors, "reference", device)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_small_losses_keep_their_digits(impl, device):
    """log(1 + e^-x) is e^-x for a D that is sure: 1 + e^-x would be 1, and the loss 0."""
    need(impl, device)
    logits = torch.tensor([10.0, 30.0, 60.0], device=device)
    for logit in logits:
        _, terms = g_loss(
            logit[None], torch.zeros(1, 1, device=device), torch.zeros(1, 1, device=device),
            (Code("uniform"),), (0.0,), impl=impl,
        )  # fmt: skip
        assert terms[0].item() == pytest.approx(math.log1p(math.exp(-logit.item())), rel=EXP_OF_60)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_loss_scale_keeps_small_gradients(impl, device):
    """e^-15 / 128 is below half of float16's smallest number, and times 65536 it isn't."""
    need(impl, device)
    dtype = torch.float16 if impl == "triton" else torch.bfloat16
    codes, weights = parse_codes("cat10"), (1.0,)
    q_params = torch.zeros(128, 10)
    q_params[:, 0] = 15.0
    tensors = (None, q_params.to(dtype), torch.zeros(128, 1), codes, weights)
    # Column 0 has 1 - p, whose digits cancel.
    scaled = outputs(tensors, impl, device, incoming=65536.0)[3][:, 1:].cpu()
    truth = outputs(tensors, "reference", dtype=torch.float64)[3][:, 1:]
    torch.testing.assert_close(scaled.double(), 65536.0 * truth, rtol=EPS[dtype], atol=0.0)
    if dtype == torch.float16:
        assert truth[0, 0].to(dtype) == 0.0  # what rounding first would have made of it


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["transposed", "cropped", "expanded"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    logits, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32, "d")
    if layout == "transposed":
        strange = [logits, q_params.t().contiguous().t(), values.t().contiguous().t()]
    elif layout == "cropped":
        strange = [torch.stack([t, t], dim=-1)[..., 0] for t in (logits, q_params, values)]
    else:
        logits, q_params, values = logits[:1].expand(8), q_params[:1].expand(4, -1), values[:1]
        values = values.expand(4, -1)
        strange = [logits, q_params, values]
    plain = [t.contiguous().to(device) for t in (logits, q_params, values)]
    got = d_loss(*(t.to(device) for t in strange), codes, weights, impl=impl)
    expected = d_loss(*plain, codes, weights, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


# Some code is regularised: --codes takes nothing else.
SPECS = st.lists(
    st.one_of(
        st.integers(2, 70).map(lambda k: f"cat{k}"),
        st.sampled_from(["uni", "gauss", "uni:learned", "gauss:learned", "bern"]),
        st.sampled_from(["uni:free", "cat5:free", "bern:free"]),
    ),
    min_size=1,
    max_size=12,
).map(lambda codes: ",".join([*codes, "uni"]))


@settings(max_examples=80, deadline=None)
@given(
    spec=SPECS, batch=st.integers(1, 70), form=st.sampled_from(list(FORMS)), seed=st.integers(0, 99)
)
def test_native_on_any_spec(spec, batch, form, seed):
    tensors = inputs(spec, batch, torch.float64, form, seed)
    got, expected = (outputs(tensors, impl) for impl in ("native", "reference"))
    for a, b in zip(got, expected, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=SOFTPLUS_64, atol=SUMMATION_64)


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_of_the_reference(form):
    logits, q_params, *rest = inputs("cat3,uni,gauss:learned,bern,uni:free", 3, torch.float64, form)
    leaves = [t.requires_grad_() for t in (logits, q_params) if t is not None]
    reference = {"mi": mi_loss_reference, "d": d_loss_reference, "g": g_loss_reference}[form]
    assert torch.autograd.gradcheck(lambda *t: reference(*t, *rest)[0], leaves)
