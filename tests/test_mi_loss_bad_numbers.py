"""NaN, infinity and categories that are none: an error or a NaN in their place, nowhere else."""

from __future__ import annotations

import math

import pytest
import torch
from kernel_cases import PLACES, TARGETS, in_turn, need
from mi_loss_cases import FORMS, inputs, outputs

from fastinfogan.kernels.mi_loss import mi_loss

# numpy, in Triton's interpreter, warns of the NaN and infinity that some tests feed it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


# Columns of a cat, another one, a mean, a sigma and a bern.
@pytest.mark.parametrize(
    ("column", "value", "impl", "device", "dtype"),
    in_turn(TARGETS, [0, 4, 8, 9, 10], [math.nan, math.inf, -math.inf]),
)
def test_nan_and_infinity_spoil_their_own(column, value, impl, device, dtype):
    """A bad number shows in its code and row, wherever the reference shows it; in no other."""
    need(impl, device)
    tensors = inputs("cat3,cat5,gauss:learned,bern", 6, dtype, "g")
    tensors[1][2, column] = value
    got, expected = (outputs(tensors, i, device) for i in (impl, "reference"))
    code = {0: 1, 4: 2, 8: 3, 9: 3, 10: 4}[column]
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
    if math.isnan(value):
        assert got[0].isnan() and got[1][code].isnan()
        assert got[3][2].isnan().any()
    assert got[1][[t for t in range(5) if t != code]].isfinite().all()
    assert got[3][[0, 1, 3, 4, 5]].isfinite().all()


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_logit_of_d_spoils_its_own(impl, device, value):
    need(impl, device)
    tensors = inputs("cat3,uni", 6, torch.float32, "d")
    tensors[0][8] = value
    got, expected = (outputs(tensors, i, device) for i in (impl, "reference"))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
    assert got[1][1:].isfinite().all()


BAD_CATEGORIES = [math.nan, -1.0, 3.0, 1.5, math.inf, -100.0, 1e30]


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize("bad", BAD_CATEGORIES)
@pytest.mark.parametrize("form", FORMS)
def test_a_category_that_is_none_raises_on_the_cpu(impl, bad, form):
    logits, q_params, values, codes, weights = inputs("uni,cat3,cat9", 5, torch.float32, form)
    values[3, 1] = bad
    given = [t for t in (logits, q_params) if t is not None]
    with pytest.raises(ValueError) as caught:
        FORMS[form](*given, values, codes, weights, impl=impl)
    assert str(caught.value) == (
        f"{form}_loss: values[3, 1] is {bad:g}; the code's categories are the integers 0 to 2"
    )


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], ids=["interpreter", "gpu"]
)
@pytest.mark.parametrize("bad", BAD_CATEGORIES)
def test_a_category_that_is_none_gives_nan_where_nobody_can_wait(device, bad):
    need("triton", device)
    tensors = inputs("uni,cat3,cat9", 5, torch.float32, "g")
    clean = outputs(tensors, "triton", device)
    tensors[2][3, 1] = bad
    total, terms, dlogits, dq_params = outputs(tensors, "triton", device)
    assert total.isnan() and terms[2].isnan() and dq_params[3, 1:4].isnan().all()
    dq_params[3, 1:4] = clean[3][3, 1:4]
    assert torch.equal(dq_params, clean[3]) and torch.equal(dlogits, clean[2])
    assert torch.equal(terms[[0, 1, 3]], clean[1][[0, 1, 3]])


def test_compiled_code_names_a_bad_category_too():
    _, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32)
    values[1, 0] = 7.0
    compiled = torch.compile(
        lambda q_params, values: mi_loss(q_params, values, codes, weights, impl="native")[0],
        fullgraph=True,
    )
    with pytest.raises(ValueError, match=r"mi_loss: values\[1, 0\] is 7;"):
        compiled(q_params, values)
