"""Pairs of samples that share one continuous code, which --contrastive draws."""

from __future__ import annotations

import pytest
import torch

from fastinfogan.engine.pairs import Pairs
from fastinfogan.kernels.latents import latents
from fastinfogan.model.latent_spec import make_spec

CPU = torch.device("cpu")
SPEC = make_spec(3, "cat4,uni,uni:free,gauss:learned,bern,uni,cat3:free,gauss")
CONTINUOUS = (1, 3, 5, 7)
COUNT = 20_000  # samples: two of five standard errors below


def drawn(spec, offset=0, gap_until=0, count=COUNT, dtype=torch.float32):
    """What the launch draws, and the pairs made of it."""
    pairs = Pairs(spec, gap_until, CPU)
    at = torch.tensor([offset])
    alone = latents(spec.noise, pairs.codes, count, torch.tensor([7]), at, dtype=dtype)
    return alone, pairs(*alone, at)


def test_one_continuous_code_is_shared_and_each_as_often():
    _, (_, values, shared) = drawn(SPEC)
    one, two = values[0::2], values[1::2]
    assert SPEC.continuous == CONTINUOUS
    counts = torch.bincount(shared, minlength=4)
    assert (
        len(counts) == 4 and (counts / len(shared) - 0.25).abs().max() < 5 * (0.1875 / 1e4) ** 0.5
    )
    for place, code in enumerate(CONTINUOUS):
        assert torch.equal(one[:, code] == two[:, code], shared == place)


def test_noise_and_free_codes_are_shared_and_other_codes_drawn_apart():
    (alone, own), (inputs, values, _) = drawn(SPEC)
    one, two = values[0::2], values[1::2]
    for free in (2, 6):
        assert torch.equal(one[:, free], two[:, free])
    noise = inputs[:, : SPEC.noise]
    assert torch.equal(noise[0::2], noise[1::2])
    # The first sample is as it would be without pairs, and so are discrete codes of the second.
    assert torch.equal(one, own[0::2, :-1])
    assert torch.equal(inputs[0::2], alone[0::2, : SPEC.input_width])
    for discrete in (0, 4):
        assert torch.equal(two[:, discrete], own[1::2, discrete])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_g_is_given_the_codes_that_q_is_asked_for(dtype):
    _, (inputs, values, _) = drawn(SPEC, dtype=dtype)
    noise = inputs[:, : SPEC.noise]
    assert inputs.dtype == dtype and values.dtype == torch.float32
    assert torch.equal(inputs, SPEC.assemble(noise, values))


@pytest.mark.parametrize(("offset", "gap"), [(0, 1.0), (250, 0.75), (900, 0.1), (1000, 0.0)])
def test_other_uniform_codes_are_apart_by_the_gap_and_stay_uniform(offset, gap):
    """Their distance is that on a circle, twice their range long; so gap 1 leaves one place."""
    _, (_, values, shared) = drawn(make_spec(0, "2xuni"), offset, gap_until=1000)
    one, two = values[0::2].double(), values[1::2].double()
    apart = (one - two).abs()[torch.arange(len(one)), 1 - shared]
    assert apart.min() > gap - 1e-6 and apart.max() <= 2.0 - gap + 1e-6
    assert apart.min() < gap + 0.01
    ranks = (two.flatten().sort().values + 1) / 2
    uniform = (torch.arange(len(ranks)) + 0.5) / len(ranks)
    assert (ranks - uniform).abs().max() < 1.95 / len(ranks) ** 0.5  # Kolmogorov, 0.1 %


def test_without_a_gap_codes_that_are_not_shared_are_independent():
    _, (_, values, shared) = drawn(make_spec(0, "2xuni,gauss"))
    one, two = values[0::2], values[1::2]
    for code in range(3):
        rows = shared != code
        both = torch.stack([one[rows, code], two[rows, code]])
        assert torch.corrcoef(both)[0, 1].abs() < 5 / rows.sum() ** 0.5
    assert (two.abs() <= 1.0)[:, :2].all()


def test_a_pair_depends_on_its_place_in_the_stream_alone():
    """So that several ranks, which draw their shares, draw what one would."""
    _, whole = drawn(SPEC, count=40)
    pairs, seed = Pairs(SPEC, 0, CPU), torch.tensor([7])
    for first in (0, 10, 24):
        at = torch.tensor([0])
        part = latents(SPEC.noise, pairs.codes, 8, seed, at, shift=first)
        inputs, values, shared = pairs(*part, at)
        assert torch.equal(inputs, whole[0][first : first + 8])
        assert torch.equal(values, whole[1][first : first + 8])
        assert torch.equal(shared, whole[2][first // 2 : first // 2 + 4])
