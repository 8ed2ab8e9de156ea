"""mi_loss, d_loss and g_loss name an argument that is off, and say what works."""

from __future__ import annotations

import math

import pytest
import torch

from fastinfogan.kernels.mi_loss import d_loss, g_loss, mi_loss
from fastinfogan.model.latent_spec import parse_codes


def arguments(**changed):
    """Of d_loss, with one code of each width."""
    codes = parse_codes("cat3,uni:learned,bern:free")
    kwargs = dict(logits=torch.zeros(8), q_params=torch.zeros(4, 5), values=torch.zeros(4, 3))
    return kwargs | dict(codes=codes, weights=(1.0, 1.0, 0.0)) | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(q_params=torch.zeros(4, 6)), "q_params is (4, 6); (B, 5) fits the codes"),
        (dict(q_params=torch.zeros(20)), "q_params is (20,); (B, 5)"),
        (dict(q_params=torch.zeros(0, 5)), "q_params is (0, 5)"),
        (dict(q_params=torch.zeros(4, 5, dtype=torch.int32)), "q_params is torch.int32"),
        (dict(values=torch.zeros(4, 2)), "values is (4, 2); (4, 3) fits"),
        (dict(values=torch.zeros(5, 3)), "values is (5, 3); (4, 3) fits"),
        (dict(values=torch.zeros(4, 3, dtype=torch.int64)), "values is torch.int64"),
        (dict(values=torch.zeros(4, 3, dtype=torch.bfloat16)), "values is torch.bfloat16"),
        (dict(values=torch.zeros(4, 3, requires_grad=True)), "values requires grad"),
        (dict(values=torch.zeros(4, 3, device="meta")), "values is on meta, and q_params on cpu"),
        (dict(weights=(1.0,) * 4), "weights has 4 numbers for 3 codes"),
        (dict(weights=(1.0,)), "weights has 1 numbers for 3 codes"),
        (dict(weights=(1.0, math.nan, 0.0)), "weights has a nan"),
        (dict(weights=(1.0, math.inf, 0.0)), "weights has a inf"),
        (dict(codes=parse_codes("cat4,uni:learned,bern")), "(B, 7) fits the codes"),
        (dict(codes=(*parse_codes("2xuni"), "bern")), "codes[2] is 'bern'; a Code works, such as"),
        (dict(codes="uni"), "codes[0] is 'u'; a Code works"),
        (dict(seed=torch.ones(1).half()), "seed is torch.float16 of shape (1,) on cpu; one number"),
        (dict(seed=torch.ones(1, device="meta")), "seed is torch.float32 of shape (1,) on meta; o"),
        (dict(logits=torch.zeros(4)), "logits is (4,); (8,) fits q_params' batch of 4"),
        (dict(logits=torch.zeros(8, 1)), "logits is (8, 1); (8,) fits"),
        (dict(logits=torch.zeros(8, dtype=torch.bfloat16)), "logits is torch.bfloat16, and q"),
        (dict(logits=torch.zeros(8, device="meta")), "logits is on meta, and q_params on cpu"),
    ],
)
def test_bad_arguments(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        d_loss(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("d_loss: ") and "\n" not in str(caught.value)


def test_each_function_names_itself_and_its_batch():
    kwargs = arguments()
    with pytest.raises(ValueError, match=r"g_loss: logits is \(8,\); \(4,\) fits"):
        g_loss(**kwargs)
    del kwargs["logits"]
    with pytest.raises(ValueError, match="mi_loss: weights has 2 numbers for 3 codes"):
        mi_loss(**kwargs | dict(weights=(1.0, 1.0)))
    with pytest.raises(RuntimeError, match="mi_loss: impl='native' can't run: it has no float16"):
        mi_loss(**kwargs | dict(q_params=torch.zeros(4, 5).half()), impl="native")


def test_auto_takes_the_reference_for_float16():
    kwargs = arguments(logits=torch.ones(8).half(), q_params=torch.ones(4, 5).half())
    got, expected = d_loss(**kwargs), d_loss(**kwargs, impl="reference")
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
