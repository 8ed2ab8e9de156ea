"""What ranks exchange in an iteration: every gradient once, batchnorm's sums, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import scaling
from bench.scaling import count, iterating, predicted
from fastinfogan.config import preset_config
from fastinfogan.ranks.alone import ALONE


def small(preset, **optim):
    """Networks of full width, where padding is next to nothing; a small batch."""
    config = preset_config(preset)
    return replace(config, optim=replace(config.optim, batch_size=4, **optim))


@pytest.mark.parametrize(
    ("preset", "update"), [("digits", "alternating"), ("mnist", "simultaneous")]
)
def test_a_rank_hands_over_its_gradients_once_and_the_sums(preset, update):
    found = count(small(preset, update=update))
    assert found.updates == 2  # one of D's and Q's, one of G's
    assert found.parameters <= found.gradients <= 1.05 * found.parameters
    # A batchnorm's sums are three numbers for each channel of a group, of 1,024 channels at most.
    assert 0 < found.sums <= found.exchanges * 3 * 2 * 1024 * 4
    assert found.sums < 0.01 * found.gradients


@pytest.mark.parametrize("preset", ["digits", "mnist-mlp"])
def test_in_bfloat16_gradients_take_half_the_bytes(preset):
    """Batchnorm's sums stay as they are; an average is two collectives then."""
    config = small(preset)
    whole = count(config)
    half = count(replace(config, run=replace(config.run, reduce_dtype="bfloat16")))
    assert 2 * half.gradients == whole.gradients
    assert (half.sums, half.exchanges, half.updates) == (whole.sums, whole.exchanges, 4)


def test_without_synchronised_batchnorm_no_sums_are_exchanged():
    config = small("mnist")
    found = count(replace(config, run=replace(config.run, sync_batchnorm=False)))
    assert (found.sums, found.exchanges, found.updates) == (0, 0, 2)


def test_a_process_alone_asks_nobody(monkeypatch):
    """Nothing of what ranks exchange is so much as called."""
    for name in ("gather", "mean", "copy_from_first"):
        monkeypatch.setattr(type(ALONE), name, lambda *_: pytest.fail("it is alone"))
    iterating(small("mnist"), ALONE)[0]()


def test_the_model_of_a_link():
    """By hand: 8 ranks, 100 bytes of gradients, 10 of sums, 1 byte a second, 1 s a collective."""
    traffic = scaling.Traffic(100, 2, 10, 10, 3, 100)
    assert predicted(traffic, 8, 1.0, 1.0) == (175 + 2, 175 + 2 + 70 + 3)
