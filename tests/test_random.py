"""Counter-based randomness: Philox itself, the latents drawn from it, the order of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

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
