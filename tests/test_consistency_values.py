"""consistency gives the float64 reference's value and gradient, everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from consistency_cases import CASES, NAMES, inputs, outputs
from kernel_cases import PLACES, TARGETS, assert_as_close_as, in_turn, need
from tolerances import EPS, SUMMATION_64

from fastinfogan.kernels.consistency import consistency, consistency_reference, triton
from fastinfogan.model.latent_spec import parse_codes
from fastinfogan.model.reference_additions import disagreement

# numpy, in Triton's interpreter, warns of the NaN and infinity that some tests feed it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


def assert_parity(tensors, impl, device="cpu"):
    got, reference = (outputs(tensors, i, device) for i in (impl, "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("why", CASES)
def test_parity(impl, device, dtype, why):
    need(impl, device)
    assert_parity(inputs(*CASES[why], dtype), impl, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_several_native_parts(dtype):
    """A part needs 32 K numbers at least: too many for the interpreter."""
    assert_parity(inputs("cat500,uni:learned,cat33", 131, dtype), "native")


@pytest.mark.parametrize("batch", [1, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_parity_of_the_most_codes(impl, device, batch):
    """In the interpreter even one image is enough: 64 tiles of 1,024 numbers."""
    need(impl, device)
    assert_parity(inputs("64xcat1024", batch, torch.float32), impl, device)


def test_several_triton_blocks_of_partial_sums(monkeypatch):
    """Real blocks hold as many as make the interpreter slow."""
    need("triton", "cpu")
    blocks = triton.blocks_of
    monkeypatch.setattr(triton, "blocks_of", lambda widths: blocks(widths) | {"BLOCK_PARTIALS": 4})
    assert_parity(inputs("cat600,uni,bern", 5, torch.float32), "triton")


def test_float64_is_exact():
    for why, (spec, batch) in CASES.items():
        tensors = inputs(spec, batch, torch.float64)
        got, expected = (outputs(tensors, impl) for impl in ("native", "reference"))
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=SUMMATION_64, msg=why)


def test_the_one_page_reference_has_the_same_mathematics():
    for spec, batch in CASES.values():
        q_image, q_copy, codes = inputs(spec, batch, torch.float64)
        q_copy.requires_grad_()
        for function in (consistency_reference, consistency):
            results = [f(q_image, q_copy, codes) for f in (function, disagreement)]
            grads = [torch.autograd.grad(result, q_copy)[0] for result in results]
            for a, b in (results, grads):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=SUMMATION_64)


LOG = math.log
BY_HAND = [  # codes, logits of p, logits of q, KL, its gradient
    ("cat2", [0.0, 0.0], [0.0, LOG(3.0)], 0.5 * LOG(4.0 / 3.0), [-0.25, 0.25]),
    ("bern", [0.0], [LOG(3.0)], 0.5 * LOG(4.0 / 3.0), [0.25]),
    ("bern", [LOG(3.0)], [0.0], 0.75 * LOG(1.5) + 0.25 * LOG(0.5), [-0.25]),
    (
        "cat3,uni",
        [LOG(2.0), 0.0, 0.0, 9.0],
        [0.0] * 4,
        LOG(3.0) - 1.5 * LOG(2.0),
        [-1 / 6, 1 / 12, 1 / 12, 0.0],
    ),
]


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize(("spec", "p", "q", "kl", "grad"), BY_HAND)
def test_values_by_hand(impl, device, spec, p, q, kl, grad):
    """Two images, of which the second one's copy is the same."""
    need(impl, device)
    tensors = torch.tensor([p, p]), torch.tensor([q, p]), parse_codes(spec)
    loss, dq = outputs(tensors, impl, device)
    assert loss.shape == () and loss.item() == pytest.approx(0.5 * kl, rel=1e-5)
    assert dq[0].tolist() == pytest.approx([0.5 * g for g in grad], rel=1e-5)
    assert not dq[1].any()


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("scale", [1e4, 100.0, 1e-4, 1e-40])
def test_large_and_small_logits(impl, device, scale):
    """1e4 is far beyond what exp has room for; at 1e-4 and below all categories are as likely."""
    need(impl, device)
    tensors = inputs("cat10,uni,bern,gauss:learned,cat20", 21, torch.float32, scale=scale)
    got, reference = (outputs(tensors, i, device) for i in (impl, "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    assert got[0].isfinite() and got[1].isfinite().all()
    if scale < 1.0:  # logarithms of up to 3 cancel: what is left of a row is their rounding
        assert 0.0 <= got[0] <= truth[0] + 5 * 3.0 * EPS[torch.float32]
        got, reference, truth = got[1:], reference[1:], truth[1:]
    for result in zip(got, reference, truth, NAMES[-len(got) :], strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("scale", [1e4, 2.0, 1e-3])
def test_equal_inputs_give_exactly_nothing(impl, device, dtype, scale):
    need(impl, device)
    spec = "cat10,bern,uni,gauss:learned,3xcat33,4xbern"
    q_image, _, codes = inputs(spec, 37, dtype, scale=scale)
    loss, dq = outputs((q_image, q_image.clone(), codes), impl, device)
    assert loss == 0.0 and not dq.any()


@pytest.mark.parametrize(("name", "exact"), [("_softmax", 1), ("softplus", 0)])
def test_equal_inputs_give_exactly_nothing_whatever_is_fused(name, exact, monkeypatch):
    """A GPU's compiler rounds the two sides differently: here every second call is off.

    Not its first ``exact`` results, differences of two numbers from memory.
    """
    need("triton", "cpu")
    function, calls = getattr(triton, name), []

    def rounded_differently(*args):
        calls.append(name)
        results = function(*args)
        off = 1.0 if len(calls) % 2 else 1.0 + 1e-6
        return (*results[:exact], *(result * off for result in results[exact:]))

    monkeypatch.setattr(triton, name, rounded_differently)
    q_image, _, codes = inputs("cat10,bern", 37, torch.float32)
    loss, dq = outputs((q_image, q_image.clone(), codes), "triton")
    assert calls and loss == 0.0 and not dq.any()
    # And where one image differs, only that one has a gradient.
    q_copy = q_image.clone()
    q_copy[3] += torch.linspace(0.0, 1.0, 11)
    loss, dq = outputs((q_image, q_copy, codes), "triton")
    assert loss > 0.0 and dq[3].all() and not dq[[0, 1, 2, *range(4, 37)]].any()


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_infinities_on_both_sides_are_no_equal_numbers(impl, device):
    """Their difference is unknown: loss and gradient show it where the reference does."""
    need(impl, device)
    q_image, q_copy, codes = inputs("cat3,bern", 6, torch.float32)
    for tensor in (q_image, q_copy):
        tensor[2, 1] = tensor[4, 3] = math.inf
    got, expected = (outputs((q_image, q_copy, codes), i, device) for i in (impl, "reference"))
    assert got[0].isnan() and expected[0].isnan()
    assert got[1][2, :3].isnan().all() and expected[1][2, :3].isnan().all()


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_it_is_never_below_0(impl, device):
    """Distributions that differ by less than rounding."""
    need(impl, device)
    for seed in range(20):
        q_image, _, codes = inputs("cat10,2xbern", 4, torch.float32, seed)
        nearly = q_image * (1.0 + 2e-7)
        assert outputs((q_image, nearly, codes), impl, device)[0] >= 0.0


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("poison", [math.nan, 1e30])
def test_the_whole_gradient_is_written(impl, device, poison, monkeypatch):
    """Also the columns of codes that take no part: a gradient of 0, whatever the memory held."""
    need(impl, device)
    spec, batch = "uni,cat5,gauss:learned,bern,uni:free,uni", 7
    tensors = inputs(spec, batch, torch.float32)
    module = f"fastinfogan.kernels.consistency.{impl}.empty_results"

    def poisoned(q_image, q_copy, *_):
        return q_copy.new_full((), poison), torch.full_like(q_copy, poison)

    monkeypatch.setattr(module, poisoned)
    loss, dq = outputs(tensors, impl, device)
    assert loss.isfinite() and dq.isfinite().all()
    assert not dq[:, [0, 6, 7, 9]].any() and dq[:, [1, 2, 3, 4, 5, 8]].all()


# Columns of a cat, of another one of 20 and of a bern.
@pytest.mark.parametrize(
    ("column", "which", "value", "impl", "device", "dtype"),
    in_turn(TARGETS, [0, 4, 9], ["q_image", "q_copy"], [math.nan, math.inf, -math.inf]),
)
def test_nan_and_infinity_spoil_their_own(column, which, value, impl, device, dtype):
    """A bad number shows in its code and row, wherever the reference shows it; in no other."""
    need(impl, device)
    column = {0: 0, 4: 4, 9: 23}[column]
    tensors = inputs("cat3,cat20,bern,uni", 6, dtype)
    tensors[which == "q_copy"][2, column] = value
    got, expected = (outputs(tensors, i, device) for i in (impl, "reference"))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        assert torch.equal(a.isnan(), b.isnan())
    if math.isnan(value):
        assert got[0].isnan() and got[1][2, column].isnan()
    assert got[1][[0, 1, 3, 4, 5]].isfinite().all()
    assert not got[1][:, -1].any()


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_bad_numbers_of_a_continuous_code_are_none_of_its_business(impl, device):
    need(impl, device)
    q_image, q_copy, codes = inputs("cat3,uni,bern", 6, torch.float32)
    clean = outputs((q_image, q_copy, codes), impl, device)
    q_image[1, 3], q_copy[2, 3] = math.nan, math.inf
    spoilt = outputs((q_image, q_copy, codes), impl, device)
    assert all(torch.equal(a, b) for a, b in zip(clean, spoilt, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_loss_scale_keeps_small_gradients(impl, device):
    """e^-15 / 128 is below half of float16's smallest number, and times 65536 it isn't."""
    need(impl, device)
    dtype = torch.float16 if impl == "triton" else torch.bfloat16
    q_image, q_copy = torch.zeros(128, 1), torch.zeros(128, 1)
    q_image[:], q_copy[:] = -30.0, -15.0
    tensors = q_image.to(dtype), q_copy.to(dtype), parse_codes("bern")
    scaled = outputs(tensors, impl, device, incoming=65536.0)[1].cpu().double()
    truth = outputs(tensors, "reference", dtype=torch.float64)[1]
    torch.testing.assert_close(scaled, 65536.0 * truth, rtol=1e-2, atol=0.0)


def test_gradcheck_of_the_reference():
    q_image, q_copy, codes = inputs("cat3,uni,gauss:learned,bern,uni:free", 3, torch.float64)
    q_copy.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: consistency_reference(q_image, q, codes), q_copy)
