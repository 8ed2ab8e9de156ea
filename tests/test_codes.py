"""Latent specifications: what can be typed, how it lays out, and the entropies of the priors."""

from __future__ import annotations

import importlib
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FORMULA_64

from fastinfogan.errors import UserError
from fastinfogan.kernels import native_module
from fastinfogan.kernels.codes import KINDS, MAX_CODES, MAX_NOISE, Code
from fastinfogan.model.latent_spec import LatentSpec, format_codes, make_spec, parse_codes


def test_every_kind_has_a_number_of_its_own():
    assert sorted(kind.number for kind in KINDS.values()) == list(range(1, 1 + len(KINDS)))
    assert len({kind.spelling for kind in KINDS.values()}) == len(KINDS)
    assert all(name == kind.name for name, kind in KINDS.items())


def test_the_native_kernels_have_the_table_s_numbers():
    native, _ = native_module.find()
    assert native.CODE_KINDS == {kind.name: kind.number for kind in KINDS.values()}
    assert (native.MAX_NOISE, native.MAX_CODES) == (MAX_NOISE, MAX_CODES)


@pytest.mark.parametrize("op", ["latents", "mi_loss"])
def test_the_triton_kernels_have_the_table_s_numbers(op):
    kernels = importlib.import_module(f"fastinfogan.kernels.{op}.triton")
    for kind in KINDS.values():
        number = getattr(kernels, f"_{kind.name.upper()}")
        assert getattr(number, "value", number) == kind.number


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("poisson",), "kind='poisson'; categorical, uniform, gaussian, bernoulli work"),
        (("cat10",), "kind='cat10'; categorical, "),
        (("categorical",), "categorical with categories=0; 1 or more work"),
        (("categorical", -3), "categorical with categories=-3; 1 or more work"),
        (("uniform", 3), "uniform with categories=3; it has none, and 0 works"),
        (("uniform", 0, "free"), "uniform with std='free'; fixed and learned work"),
        (("bernoulli", 0, "learned"), "bernoulli with std='learned'; fixed works"),
    ],
)
def test_a_code_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=f"^Code: {re.escape(message)}"):
        Code(*given)


def test_the_papers_mnist_codes():
    spec = make_spec(62, "cat10,uni,uni")
    assert spec.input_width == 74
    assert spec.q_width == 12  # 10 logits, two means: sigma is fixed
    assert spec.names == ("c1_cat10", "c2_uni", "c3_uni")


def test_learned_sigma_widens_q_and_free_codes_have_no_q_output():
    spec = make_spec(4, "gauss:learned,bern,cat3:free,uni:fixed")
    assert [code.q_width for code in spec.codes] == [2, 1, 0, 1]
    assert spec.input_width == 4 + 1 + 1 + 3 + 1
    assert spec.regularized == (0, 1, 3)
    assert spec.lambdas(lambda_disc=2.0, lambda_cont=0.5) == (0.5, 2.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("text", "entropy"),
    [
        ("cat10", math.log(10)),
        ("uni", math.log(2)),  # density 1/2 on (-1, 1)
        ("gauss", 0.5 * math.log(2 * math.pi * math.e)),
        ("bern", math.log(2)),
        ("10xcat10", 10 * math.log(10)),
        ("cat10,uni:free", math.log(10)),  # only what L_I counts
    ],
)
def test_entropies_are_those_of_the_priors(text, entropy):
    assert make_spec(0, text).entropy == pytest.approx(entropy, rel=FORMULA_64)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dog10", "'dog10' is not a code"),
        ("cat", "needs its number of categories"),
        ("uni3", "write 3xuni"),
        ("cat1", "2 to 1024"),
        ("cat2000", "2 to 1024"),
        ("cat10:learned", "can't take :learned"),
        ("uni:loud", "can't take :loud"),
        ("65xuni", "1 to 64"),
        ("64xuni,uni", "1 to 64"),
        ("0xuni", "1 to 64"),
        ("", "names no code"),
        (",", "names no code"),
    ],
)
def test_bad_specifications_say_what_works(text, says):
    with pytest.raises(UserError) as raised:
        parse_codes(text)
    assert "--codes" in str(raised.value) and repr(text) in str(raised.value)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_bad_noise():
    with pytest.raises(UserError, match="--noise -1"):
        make_spec(-1, "uni")


codes = st.one_of(
    st.builds(
        Code,
        kind=st.just("categorical"),
        categories=st.integers(2, 1024),
        regularized=st.booleans(),
    ),
    st.builds(Code, kind=st.just("bernoulli"), regularized=st.booleans()),
    st.builds(
        Code,
        kind=st.sampled_from(["uniform", "gaussian"]),
        std=st.sampled_from(["fixed", "learned"]),
        regularized=st.booleans(),
    ),
)


@settings(deadline=None)
@given(st.lists(codes, min_size=1, max_size=MAX_CODES))
def test_formatting_and_parsing_are_inverse(drawn):
    assert parse_codes(format_codes(tuple(drawn))) == tuple(drawn)


def test_assemble_puts_noise_first_and_categories_as_one_hot():
    spec = LatentSpec(2, parse_codes("cat3,uni,bern"))
    noise = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    values = torch.tensor([[2.0, 0.25, 1.0], [0.0, -1.0, 0.0]])
    assert spec.assemble(noise, values).tolist() == [
        [0.5, -0.5, 0, 0, 1, 0.25, 1],
        [1.0, 2.0, 1, 0, 0, -1.0, 0],
    ]


def test_split_q_gives_each_regularized_code_its_columns():
    spec = LatentSpec(0, parse_codes("cat3,uni:free,uni:learned"))
    parts = spec.split_q(torch.arange(5).unsqueeze(0))
    assert {i: part.tolist() for i, part in parts.items()} == {0: [[0, 1, 2]], 2: [[3, 4]]}
