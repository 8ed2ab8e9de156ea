"""draw_maps: every implementation against the formulas, and the maps' distribution."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch
from kernel_cases import PLACES, need
from scipy import stats
from tolerances import DRAW_ROUNDINGS, EPS
from warp_cases import IDENTITY

from fastinfogan.kernels.jitter import MOST, Jitter
from fastinfogan.kernels.philox import STREAM_COPY, STREAM_FAKE, STREAM_REAL, philox_reference
from fastinfogan.kernels.warp import draw_maps

SEED, OFFSET = 2**62 + 2**33 + 7, 2**32 - 2  # both halves of both; a carry within the batch
RANGE = (-1.0, 3.0)
ALLOWED = DRAW_ROUNDINGS * EPS[torch.float32]
# The draws are fixed by the seed, so these tests can't flicker; a p-value under 1e-4 in one of
# some 20 of them would be a fault, not bad luck.
SMALLEST_P = 1e-4
COUNT = 20_000
JITTERS = {
    "all": MOST,
    "none": Jitter(),
    **{f.name: Jitter(**{f.name: getattr(MOST, f.name)}) for f in fields(Jitter)},
}


def draw(jitter, batch, impl, device="cpu", seed=SEED, offset=OFFSET, stream=STREAM_COPY, shift=0):
    numbers = (torch.tensor([value], device=device) for value in (seed, offset))
    return draw_maps(
        jitter, batch, *numbers, stream, shift=shift, output_range=RANGE, impl=impl
    ).cpu()


def formulas(jitter, batch):
    """By the head of the kernel's file, in float64."""
    maps = []
    for n in range(OFFSET, OFFSET + batch):
        counter = [torch.tensor([c]) for c in (n & 0xFFFFFFFF, n >> 32)]
        blocks = [
            philox_reference(SEED, *counter, *(torch.tensor([c]) for c in (block, STREAM_COPY)))
            for block in (0, 1, 2)
        ]
        # The even numbers are float32's, so that no two implementations round them apart.
        u = (
            torch.cat([word for block in blocks for word in block])
            .double()
            .add(0.5)
            .div(2**32)
            .float()
            .mul(2)
            .sub(1)
        )
        u = u.double().tolist()
        angle, k, s = jitter.rotation * u[0], 1 + jitter.scale * u[1], jitter.shear * u[2]
        cos, sin = math.cos(angle), math.sin(angle)
        rows = [[k * cos, k * (s * cos - sin), jitter.shift * u[3]]]
        rows += [[k * sin, k * (s * sin + cos), jitter.shift * u[4]]]
        if jitter.flip * u[7] > 0:
            rows[0] = [-x for x in rows[0]]
        half = 0.5 * (RANGE[1] - RANGE[0])
        # What becomes of black, in the range's lower end, and of a value half a range above it.
        exposed = [RANGE[0] + (1 + jitter.exposure * u[8]) * above for above in (0, half)]
        middle = RANGE[0] + half
        black, grey = (
            middle + (1 + jitter.contrast * u[5]) * (x - middle) + jitter.brightness * u[6] * half
            for x in exposed
        )
        maps.append(rows[0] + rows[1] + [(grey - black) / half, grey - middle])
    return torch.tensor(maps, dtype=torch.float64)


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("why", JITTERS)
def test_draws(impl, device, why):
    need(impl, device)
    maps = draw(JITTERS[why], 9, impl, device)
    assert maps.dtype == torch.float32
    expected = formulas(JITTERS[why], 9)
    torch.testing.assert_close(maps.double(), expected, rtol=ALLOWED, atol=ALLOWED)


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
def test_no_jitter_is_the_identity_to_the_bit(impl, device):
    need(impl, device)
    assert torch.equal(draw(Jitter(), 5, impl, device), torch.tensor(IDENTITY).expand(5, 8))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_stream_does_not_depend_on_how_it_is_split(impl, device):
    need(impl, device)
    whole = draw(MOST, 300, impl, device)  # more than a block
    parts = [draw(MOST, n, impl, device, shift=o) for n, o in ((3, 0), (1, 3), (296, 4))]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole[4:], draw(MOST, 296, impl, device, offset=OFFSET + 4))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_seeds_offsets_and_streams_differ(impl, device):
    need(impl, device)
    starts = [(0, 0), (1, 0), (2**32, 0), (2**62, 0), (0, 1), (0, 2**32), (0, 2**62)]
    runs = [(*start, STREAM_COPY) for start in starts] + [(0, 0, STREAM_REAL), (0, 0, STREAM_FAKE)]
    firsts = {
        tuple(draw(MOST, 1, impl, device, seed, offset, stream)[0].tolist())
        for seed, offset, stream in runs
    }
    assert len(firsts) == len(runs)


@pytest.fixture(scope="module")
def sample():
    """What each of Jitter's fields drew, from -1 to 1: the formulas solved for u; (COUNT,) each."""
    a, b, tx, c, d, ty, _, _ = draw(MOST, COUNT, "auto", seed=3, offset=0).double().T
    light = {}
    for name in ("brightness", "contrast", "exposure"):
        alone = replace(MOST, brightness=0.0, contrast=0.0, exposure=0.0)
        alone = replace(alone, **{name: getattr(MOST, name)})
        gain, bias = draw(alone, COUNT, "auto", seed=3, offset=0).double().T[6:]
        half = 0.5 * (RANGE[1] - RANGE[0])
        light[name] = (bias / half if name == "brightness" else gain - 1) / getattr(MOST, name)
    mirror = (a * d - b * c).sign()
    a, b, tx = mirror * a, mirror * b, mirror * tx
    angle, k = torch.atan2(c, a), torch.hypot(a, c)
    return {
        "rotation": angle / MOST.rotation,
        "scale": (k - 1) / MOST.scale,
        "shear": (b * angle.cos() + d * angle.sin()) / k / MOST.shear,
        "shift in x": tx / MOST.shift,
        "shift in y": ty / MOST.shift,
        **light,
        "flip": mirror,
    }


def test_ranges_are_kept_and_filled_evenly(sample):
    for name, drawn in sample.items():
        if name == "flip":
            continue
        assert drawn.abs().max() <= 1 + 10 * ALLOWED, name
        assert stats.kstest(drawn.numpy(), "uniform", args=(-1, 2)).pvalue > SMALLEST_P, name


def test_every_other_image_is_mirrored(sample):
    assert stats.binomtest(int((sample["flip"] < 0).sum()), COUNT).pvalue > SMALLEST_P
    assert (draw(Jitter(shift=0.5), COUNT, "auto")[:, 0] == 1).all()


def test_numbers_and_neighbouring_maps_are_independent(sample):
    table = torch.stack(list(sample.values()))
    quarters = ((table + 1) * 2).floor().clamp(0, 3).long()  # of a coin, the first and the last
    pairs = list(itertools.combinations(range(len(table)), 2))
    for i, j in pairs:
        counts = torch.bincount(4 * quarters[i] + quarters[j], minlength=16).view(4, 4)
        counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
        assert stats.chi2_contingency(counts.numpy()).pvalue > SMALLEST_P / len(pairs), (i, j)
    following = torch.corrcoef(torch.cat([table[:, :-1], table[:, 1:]]))[: len(table), len(table) :]
    bound = stats.norm.isf(SMALLEST_P / 2 / following.numel()) / math.sqrt(COUNT)
    assert following.abs().max() < bound
