"""adam as a part of torch: registered and compiled."""

from __future__ import annotations

import pytest
import torch
from adam_cases import SETTINGS, SHAPES, State, gradients
from kernel_cases import BACKENDS, PLACES, need

from fastinfogan.config import ADAM_EPS
from fastinfogan.kernels.adam import adam


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("extras", [False, True])
def test_opcheck(impl, device, extras):
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    state = State(shapes, copy=torch.bfloat16 if extras else None, device=device)
    scalars = (torch.ones(1, device=device), torch.zeros(1, device=device))
    torch.library.opcheck(
        getattr(torch.ops.fastinfogan, f"adam_{impl}").default,
        (
            *(state.params, gradients(shapes, device=device), state.exp_avg, state.exp_avg_sq),
            *(state.step, state.lr, state.copy, *(scalars if extras else (None, None))),
            *(0.5, 0.999, ADAM_EPS),
        ),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device, backend):
    """With gradients made in the graph, whose order in memory the compiler might have changed."""
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    grads = gradients(shapes, device=device)
    eager, compiled = (State(shapes, copy=torch.bfloat16, device=device) for _ in range(2))

    def call(params, grads, exp_avg, exp_avg_sq, copy, step, lr):
        grads = [2.0 * g for g in grads]
        adam(*(params, grads, exp_avg, exp_avg_sq, step, lr), **SETTINGS, copy=copy, impl=impl)

    once = torch.compile(call, fullgraph=True, backend=backend)
    for state, function in ((eager, call), (compiled, once)):
        for _ in range(2):
            moments = (state.exp_avg, state.exp_avg_sq)
            function(state.params, grads, *moments, state.copy, state.step, state.lr)
    assert eager.step == compiled.step == 2
    for a, b in zip(eager.tensors()[:3], compiled.tensors()[:3], strict=True):
        torch.testing.assert_close(a, b)
