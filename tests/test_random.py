"""Counter-based randomness: Philox itself, the latents drawn from it, the order of images."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from fastinfogan.codes import make_spec
from fastinfogan.data import ImageData
from fastinfogan.data.feed import BLOCK, ResidentFeed
from fastinfogan.kernels.gather import gather_reference, order_reference
from fastinfogan.kernels.philox import philox_reference

CPU = torch.device("cpu")

# Random123's published known answers for philox4x32-10: counter, key, output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_known_answers(counter, key, output):
    words = philox_reference(key[0] | key[1] << 32, *(torch.tensor([c]) for c in counter))
    assert tuple(word.item() for word in words) == output


SPEC = make_spec(5, "cat7,uni,gauss,bern,cat1024")
COUNT = 40_000
# The draws are fixed by the seed, so these tests can't flicker; a p-value under 1e-4 in one of
# some 20 of them would be a fault, not bad luck.
SMALLEST_P = 1e-4


@pytest.fixture(scope="module")
def sample():
    return SPEC.sample(COUNT, seed=3, offset=0)


def test_noise_and_gaussian_codes_are_standard_normal(sample):
    columns = [*sample.noise.T, sample.values[:, 2]]
    for column in columns:
        assert stats.kstest(column.numpy(), "norm").pvalue > SMALLEST_P


def test_uniform_codes_fill_minus_one_to_one(sample):
    column = sample.values[:, 1].numpy()
    assert stats.kstest(column, "uniform", args=(-1, 2)).pvalue > SMALLEST_P
    assert abs(column).max() <= 1.0


@pytest.mark.parametrize(("code", "categories"), [(0, 7), (3, 2), (4, 1024)])
def test_categories_are_equally_likely(sample, code, categories):
    counts = torch.bincount(sample.values[:, code].long(), minlength=categories)
    assert len(counts) == categories
    assert stats.chisquare(counts.numpy()).pvalue > SMALLEST_P


def test_columns_and_neighbouring_samples_are_uncorrelated(sample):
    table = torch.cat([sample.noise, sample.values], dim=1)
    table = (table - table.mean(0)) / table.std(0)
    bound = stats.norm.isf(SMALLEST_P / 2 / table.shape[1] ** 2) / math.sqrt(COUNT)
    across = table.T @ table / COUNT
    following = table[:-1].T @ table[1:] / COUNT
    assert (across - torch.eye(table.shape[1])).abs().max() < bound
    assert following.abs().max() < bound


@pytest.mark.parametrize(("noise", "codes"), [(5, "cat7,uni,gauss,bern"), (4, "uni,gauss,cat3")])
def test_every_pair_of_columns_is_independent(noise, codes):
    """Beyond correlation: r cos t and a uniform code from the word behind t are uncorrelated."""
    columns = torch.cat(make_spec(noise, codes).sample(COUNT, seed=3, offset=0), dim=1).T.numpy()
    binned = []
    for column in columns:
        edges = np.unique(np.quantile(column, [0.25, 0.5, 0.75]))
        binned.append(np.searchsorted(edges, column, side="right"))
        assert np.unique(binned[-1]).size >= 2  # or the test below couldn't fail
    pairs = list(itertools.combinations(range(len(columns)), 2))
    for i, j in pairs:
        table = stats.contingency.crosstab(binned[i], binned[j]).count
        assert stats.chi2_contingency(table).pvalue > SMALLEST_P / len(pairs), (i, j)


def test_a_stream_does_not_depend_on_how_it_is_split():
    whole = SPEC.sample(10, seed=9, offset=2**32 - 5)  # across the counter's 32-bit carry
    parts = [SPEC.sample(n, seed=9, offset=2**32 - 5 + o) for n, o in ((3, 0), (1, 3), (6, 4))]
    assert torch.equal(whole.noise, torch.cat([part.noise for part in parts]))
    assert torch.equal(whole.values, torch.cat([part.values for part in parts]))


def test_seeds_differ_in_both_halves():
    draws = {tuple(SPEC.sample(1, seed, 0).noise[0].tolist()) for seed in (0, 1, 2**32, 2**62)}
    assert len(draws) == 4


# 1: no choice at all; 2, 3: a domain smaller than the Feistel network's; 16: exactly a domain;
# 17: one more; 5,000: digits.
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 5_000])
def test_every_image_comes_once_an_epoch(count):
    order = order_reference(torch.arange(2 * count), count, seed=4)
    for epoch in order.split(count):
        assert torch.equal(epoch.sort().values, torch.arange(count))
    if count == 5_000:
        first, second = order.split(count)
        for epoch in (first, second):
            assert abs(stats.spearmanr(epoch.numpy(), range(count)).statistic) < 0.06
        assert (first == second).sum() < 10  # 1 is expected of two independent orders


def test_gather_scales_to_the_output_range_and_keeps_channels_last():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(4).view(1, 2, 2, 3)
    batch = gather_reference(images, torch.tensor([0, 0]), (-1.0, 1.0))
    assert batch.shape == (2, 3, 2, 2)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch[1, :, 1, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_the_feed_gives_the_images_of_the_order_whatever_batch_is_asked_for_first():
    """Across a block of precomputed order and across an epoch, and again after going back."""
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    feed = ResidentFeed(ImageData("numbers", images, None, None), 7, 5, (0.0, 255.0), CPU)
    order = order_reference(torch.arange(7 * 2 * BLOCK), 100, seed=5)
    for iteration in (BLOCK - 1, BLOCK, 2 * BLOCK - 1, 14, 0):
        expected = order[7 * iteration : 7 * (iteration + 1)].float()
        torch.testing.assert_close(feed.batch(iteration).flatten(), expected)
