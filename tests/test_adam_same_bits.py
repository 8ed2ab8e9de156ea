"""adam gives the same bits when resumed, with scaled gradients and on any number of threads."""

from __future__ import annotations

import pytest
import torch
from adam_cases import SETTINGS, SHAPES, State, assert_same_bits, gradients
from kernel_cases import PLACES, need

from fastinfogan.kernels.adam.layout import ALIGN
from fastinfogan.kernels.adam.prepared import Prepared


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("found", [1.0, float("nan")])
def test_nothing_changes_where_an_infinity_was_found(impl, device, found):
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    state = State(shapes, copy=torch.bfloat16, device=device)
    state.update(gradients(shapes, device=device), impl=impl)
    before = state.clone()
    spoilt = [g * float("nan") for g in gradients(shapes, device=device)]
    found_inf = torch.full((1,), found, device=device)
    state.update(spoilt, found_inf=found_inf, impl=impl)
    assert_same_bits(state, before)
    # And where none was, the step is the one without the flag.
    state.update(gradients(shapes, device=device), found_inf=torch.zeros_like(found_inf), impl=impl)
    before.update(gradients(shapes, device=device), impl=impl)
    assert_same_bits(state, before)


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
def test_scaled_gradients_give_the_same_bits(impl, device):
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    plain, scaled = (State(shapes, device=device) for _ in range(2))
    grads = gradients(shapes, device=device)
    plain.update(grads, impl=impl)
    inverse = torch.full((1,), 2.0**-10, device=device)
    scaled.update([g * 2.0**10 for g in grads], inverse_scale=inverse, impl=impl)
    assert_same_bits(plain, scaled)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_stopped_and_gone_on_gives_the_same_bits(impl, device):
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    through = State(shapes, copy=torch.bfloat16, device=device)
    for seed in range(6):
        if seed == 3:
            stopped = through.clone()
        through.update(gradients(shapes, device=device, seed=seed), impl=impl)
    for seed in range(3, 6):
        stopped.update(gradients(shapes, device=device, seed=seed), impl=impl)
    assert_same_bits(through, stopped)


def test_native_results_do_not_depend_on_the_number_of_threads():
    shapes = [(30 * ALIGN + 5,), (3,), (40 * ALIGN,)]
    threads, states = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            states.append(State(shapes, copy=torch.bfloat16))
            states[-1].update(gradients(shapes), impl="native")
    finally:
        torch.set_num_threads(threads)
    for other in states[1:]:
        assert_same_bits(states[0], other)


def test_prepared_it_gives_the_same_bits():
    """Step after step, with gradients that change where they lie; what is off is named."""
    shapes = SHAPES["channels-last weights"]
    each, prepared = State(shapes), State(shapes)
    kept = [torch.empty_like(g) for g in gradients(shapes)]

    def prepare(grads):
        state = prepared
        tensors = state.params, grads, state.exp_avg, state.exp_avg_sq, state.step, state.lr
        return Prepared(*tensors, **SETTINGS)

    update = prepare(kept)
    for seed in range(3):
        grads = gradients(shapes, seed=seed)
        torch._foreach_copy_(kept, grads)
        update()
        each.update(grads)
        assert_same_bits(each, prepared)
    with pytest.raises(ValueError, match=r"adam: grads\[0\] is torch.float64"):
        prepare([g.double() for g in kept])
