"""bn_act's exchange: ranks that share their sums normalise as one would."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from bn_act_cases import inputs, outputs
from kernel_cases import PLACES, need
from tolerances import EPS, KERNEL_ROUNDINGS


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("shape", [(16, 17, 9, 11), (6, 133), (6, 700)])
def test_an_exchange_with_nobody_else_changes_nothing(impl, device, shape):
    """The ops gather the sums themselves, or are given what the ops for ranks gathered.

    Few rows have a kernel of their own, which adds in the same order; but a GPU rounds once where a
    product is added, wherever its compiler puts the two together.
    """
    need(impl, device)
    if impl == "triton" and shape == (6, 700):
        pytest.skip("more channels than a strip of the native kernel's")
    tensors = inputs(shape, torch.float32)
    alone = outputs(tensors, impl, device, slope=0.1, groups=2)
    split = outputs(tensors, impl, device, slope=0.1, groups=2, exchange=lambda sums: sums.clone())
    for a, b in zip(alone, split, strict=True):
        roundings = KERNEL_ROUNDINGS * EPS[torch.float32] if device == "cuda" else 0.0
        assert (a - b).abs().max() <= roundings * a.abs().max()


@pytest.mark.parametrize("impl", ["native", "triton"])
def test_ranks_that_exchange_sums_normalise_as_one(impl):
    """Three ranks with batches of 2, 4 and 3 against one with a batch of 9."""
    need(impl, "cpu")
    x, weight, bias, running_mean, running_var, dy = inputs((9, 5, 3, 3), torch.float32)
    expected = outputs([x, weight, bias, running_mean, running_var, dy], impl, slope=0.1)
    sizes = (2, 4, 3)
    everyone: list[torch.Tensor] = []  # what the forward and the backward exchange give
    # One process plays all ranks in turn: the first round learns the forward sums, the second, with
    # those, the backward sums, the third has both.
    for _ in range(3):
        own: tuple[list[torch.Tensor], ...] = ([], [])
        results = []
        for rank in zip(x.split(sizes), dy.split(sizes), strict=True):
            calls = iter((0, 1))

            def exchange(partials, own=own, calls=calls, everyone=tuple(everyone)):
                call = next(calls)
                own[call].append(partials)
                return everyone[call] if everyone else partials

            tensors = [rank[0], weight, bias, running_mean, running_var, rank[1]]
            results.append(outputs(tensors, impl, slope=0.1, exchange=exchange))
        everyone = [torch.cat(sums) for sums in own]

    torch.testing.assert_close(torch.cat([r[0] for r in results]), expected[0])
    torch.testing.assert_close(torch.cat([r[1] for r in results]), expected[1])
    for k in (2, 3):  # gradients of the parameters stay the rank's own: their sum is the whole's
        torch.testing.assert_close(sum(r[k] for r in results), expected[k])
    for result, k in product(results, (4, 5)):
        torch.testing.assert_close(result[k], expected[k])
