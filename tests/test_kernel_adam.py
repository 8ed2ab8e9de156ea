"""adam: every implementation against float64 and torch.optim.Adam; its edges, bits and errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, need
from tolerances import ADAM_DENORMAL, ADAM_UNIT_STEP, FORMULA_64

from fastinfogan.config import ADAM_EPS
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.adam import ALIGN, adam, offsets

# The gradients' shapes: why each is here.
SHAPES = {
    "one number": [(1,)],
    "no multiple of any vector": [(37,), (5, 7)],
    "a block, one number less, one more": [(ALIGN,), (ALIGN - 1,), (ALIGN + 1,)],
    "channels-last weights": [(8, 6, 3, 3), (6,), (4, 1, 5, 5)],
    "many segments": [(size,) for size in range(1, 25)],
}
SETTINGS = dict(beta1=0.5, beta2=0.999, eps=ADAM_EPS)
NAMES = ("params", "exp_avg", "exp_avg_sq", "copy")


class State:
    """A flat buffer of random parameters and what goes with it, at a step."""

    def __init__(self, shapes, dtype=torch.float32, copy=None, device="cpu", step=0, lr=1e-3):
        self.sizes = [torch.Size(shape).numel() for shape in shapes]
        self.starts, total = offsets(self.sizes)
        random = torch.Generator().manual_seed(0)
        params = torch.zeros(total)
        for start, size in zip(self.starts, self.sizes, strict=True):
            params[start : start + size] = torch.randn(size, generator=random)
        self.params = params.to(device, dtype)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.params), torch.zeros_like(self.params)
        self.copy = None if copy is None else torch.zeros_like(self.params, dtype=copy)
        self.step = torch.full((), step, dtype=torch.int64, device=device)
        lr_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.lr = torch.full((1,), lr, dtype=lr_dtype, device=device)

    def update(self, grads, **changed):
        adam(
            *(self.params, grads, self.exp_avg, self.exp_avg_sq, self.step, self.lr),
            **(SETTINGS | dict(copy=self.copy) | changed),
        )

    def tensors(self):
        return [self.params, self.exp_avg, self.exp_avg_sq, self.copy]

    def clone(self):
        twin = object.__new__(State)
        for name, value in vars(self).items():
            setattr(twin, name, value.clone() if isinstance(value, torch.Tensor) else value)
        return twin


def gradients(shapes, dtype=torch.float32, device="cpu", seed=0, mixed=False):
    """Of ``dtype``, 4-D ones channels-last; mixed: every other one is float32."""
    random = torch.Generator().manual_seed(seed)
    grads = []
    for i, shape in enumerate(shapes):
        grad = torch.randn(*shape, generator=random).to(dtype)
        if grad.dim() == 4:
            grad = grad.contiguous(memory_format=torch.channels_last)
        if mixed and i % 2:
            grad = grad.float()
        grads.append(grad.to(device))
    return grads


def assert_same_bits(first: State, second: State) -> None:
    assert torch.equal(first.step, second.step)
    for a, b, name in zip(first.tensors(), second.tensors(), NAMES, strict=True):
        assert (a is None and b is None) or torch.equal(a, b), name


def test_segments_begin_at_multiples_of_align():
    assert offsets([1]) == ([0], ALIGN)
    assert offsets([ALIGN, ALIGN + 1, 3]) == ([0, ALIGN, 3 * ALIGN], 4 * ALIGN)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("mixed", [False, True], ids=["one dtype", "mixed dtypes"])
@pytest.mark.parametrize("why", SHAPES)
def test_parity(impl, device, dtype, mixed, why):
    need(impl, device)
    if mixed and (dtype == torch.float32 or len(SHAPES[why]) == 1):
        pytest.skip("there is but one dtype")
    shapes, copy = SHAPES[why], None if dtype == torch.float32 else dtype
    got = State(shapes, copy=copy, device=device)
    reference, truth = State(shapes, copy=copy), State(shapes, torch.float64)
    for seed in range(3):
        grads = gradients(shapes, dtype, seed=seed, mixed=mixed)
        got.update([g.to(device) for g in grads], weight_decay=0.1, impl=impl)
        reference.update(grads, weight_decay=0.1, impl="reference")
        truth.update([g.double() for g in grads], weight_decay=0.1, impl="reference")
    assert got.step.item() == reference.step.item() == truth.step.item() == 3
    truths = truth.tensors()
    truths[3] = truth.params if copy else None
    for result in zip(got.tensors(), reference.tensors(), truths, NAMES, strict=True):
        assert_as_close_as(*result)
    inside = torch.zeros_like(got.params, dtype=torch.bool)
    for start, size in zip(got.starts, got.sizes, strict=True):
        inside[start : start + size] = True
    for tensor in got.tensors()[: 4 if copy else 3]:
        assert not tensor[~inside].any()  # the padding


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_thousand_steps_of_torch(impl, device, weight_decay):
    need(impl, device)
    shape = (50,)
    state, (size,) = State([shape], device=device), shape
    optimisers = []
    for dtype in (torch.float32, torch.float64):
        parameter = torch.nn.Parameter(state.params[:size].to("cpu", dtype))
        betas = (SETTINGS["beta1"], SETTINGS["beta2"])
        kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
        optimisers.append(
            (parameter, kind([parameter], 1e-3, betas, ADAM_EPS, weight_decay=weight_decay))
        )
    random = torch.Generator().manual_seed(1)
    interpreted = impl == "triton" and device == "cpu"
    steps = 100 if interpreted else 1000  # the interpreter needs 10 ms for each
    for _ in range(steps):
        # Signal and noise, over six orders of magnitude.
        grad = (torch.randn(shape, generator=random) + 0.3) * torch.logspace(-5, 1, size)
        state.update([grad.to(device)], weight_decay=weight_decay, impl=impl)
        for parameter, optimiser in optimisers:
            parameter.grad = grad.to(parameter.dtype)
            optimiser.step()
    (own, _), (truth, _) = optimisers
    assert state.step.item() == steps
    assert_as_close_as(state.params[:size], own.detach(), truth.detach(), "params")


@pytest.mark.parametrize("impl", ["reference", "native"])
def test_float64_is_torch_s_in_float64(impl):
    shapes = SHAPES["channels-last weights"]
    state = State(shapes, torch.float64)
    parameters = [
        torch.nn.Parameter(state.params[start : start + size].clone())
        for start, size in zip(state.starts, state.sizes, strict=True)
    ]
    optimiser = torch.optim.Adam(parameters, 1e-3, (0.5, 0.999), ADAM_EPS)
    for seed in range(5):
        grads = gradients(shapes, torch.float64, seed=seed)
        state.update(grads, impl=impl)
        for parameter, grad in zip(parameters, grads, strict=True):
            order = sorted(range(grad.dim()), key=grad.stride, reverse=True)  # of memory
            if grad.is_contiguous():
                order = range(grad.dim())
            parameter.grad = grad.permute(*order).reshape(-1)
        optimiser.step()
    for parameter, start, size in zip(parameters, state.starts, state.sizes, strict=True):
        got = state.params[start : start + size]
        torch.testing.assert_close(
            got, parameter.detach(), rtol=5 * FORMULA_64, atol=5 * FORMULA_64
        )


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("t", [1, 2, 10, 499, 501, 1000, 10**5, 2**31 + 7])
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_bias_corrections_keep_their_digits(impl, device, t, beta1):
    """Gradients of 1 ever since the first step: the corrected moments are 1, the step is lr."""
    need(impl, device)
    state, beta2 = State([(3,)], device=device, step=t - 1, lr=1.0), 0.999
    state.params.zero_()
    state.exp_avg[:3] = 1.0 - beta1 ** (t - 1)
    state.exp_avg_sq[:3] = 1.0 - beta2 ** (t - 1)
    state.update([torch.ones(3, device=device)], beta1=beta1, beta2=beta2, impl=impl)
    assert (state.params[:3] + 1.0).abs().max().item() < ADAM_UNIT_STEP
    assert state.step.item() == t


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


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_number_and_no_other(impl, device, dtype, value):
    need(impl, device)
    state = State([(40,), (7,)], copy=torch.bfloat16, device=device)
    grads = gradients([(40,), (7,)], dtype, device)
    grads[0][33] = value
    state.update(grads, impl=impl)
    for tensor in (state.params, state.copy):  # infinity / infinity
        assert tensor.isnan().nonzero().flatten().tolist() == [33]


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_denormal_gradients_count(impl, device):
    need(impl, device)
    state, expected = State([(40,)], device=device), State([(40,)])
    grad = torch.linspace(-1e-39, 1e-39, 40)
    for s, implementation in ((state, impl), (expected, "reference")):
        s.params.zero_()
        s.update([grad.to(s.params.device)], impl=implementation)
    assert expected.params[:40].all()
    torch.testing.assert_close(state.params.cpu(), expected.params, rtol=ADAM_DENORMAL, atol=0.0)


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


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 * ALIGN), min_size=1, max_size=40),
    beta1=st.floats(0.0, 0.999),
    weight_decay=st.floats(0.0, 0.1),
    step=st.integers(0, 10**6),
)
def test_native_on_any_segments(sizes, beta1, weight_decay, step):
    shapes = [(size,) for size in sizes]
    native, expected = (State(shapes, torch.float64, step=step) for _ in range(2))
    options = dict(beta1=beta1, weight_decay=weight_decay)
    native.update(gradients(shapes, torch.float64), impl="native", **options)
    expected.update(gradients(shapes, torch.float64), impl="reference", **options)
    assert native.step == expected.step
    for a, b in zip(native.tensors()[:3], expected.tensors()[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=FORMULA_64, atol=FORMULA_64)


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
            *(0.5, 0.999, ADAM_EPS, 0.0),
        ),
    )


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device):
    """With gradients made in the graph, whose order in memory the compiler might have changed."""
    need(impl, device)
    shapes = SHAPES["channels-last weights"]
    grads = gradients(shapes, device=device)
    eager, compiled = (State(shapes, copy=torch.bfloat16, device=device) for _ in range(2))

    def call(params, grads, exp_avg, exp_avg_sq, copy, step, lr):
        grads = [2.0 * g for g in grads]
        adam(*(params, grads, exp_avg, exp_avg_sq, step, lr), **SETTINGS, copy=copy, impl=impl)

    for state, function in ((eager, call), (compiled, torch.compile(call, fullgraph=True))):
        for _ in range(2):
            moments = (state.exp_avg, state.exp_avg_sq)
            function(state.params, grads, *moments, state.copy, state.step, state.lr)
    assert eager.step == compiled.step == 2
    for a, b in zip(eager.tensors()[:3], compiled.tensors()[:3], strict=True):
        torch.testing.assert_close(a, b)


def arguments(**changed):
    """Of a call that works, but for what is changed."""
    state = State([(4, 5), (3,)])
    grads = gradients([(4, 5), (3,)])
    kwargs = dict(params=state.params, grads=grads, exp_avg=state.exp_avg, step=state.step)
    kwargs |= dict(exp_avg_sq=state.exp_avg_sq, lr=state.lr, **SETTINGS)
    return kwargs | changed


FLAT = 2 * ALIGN
ONE = torch.ones(1)


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(params=torch.zeros(FLAT, dtype=torch.bfloat16)), "params is torch.bfloat16"),
        (dict(params=torch.zeros(2, ALIGN)), "params is (2, 1024)"),
        (dict(params=torch.zeros(0)), "params is (0,)"),
        (dict(params=torch.zeros(2 * FLAT)[::2]), "params has stride 2"),
        (dict(exp_avg=torch.zeros(FLAT, dtype=torch.float64)), "exp_avg is torch.float64"),
        (dict(exp_avg_sq=torch.zeros(ALIGN)), "exp_avg_sq is (1024,)"),
        (dict(exp_avg=torch.zeros(FLAT, device="meta")), "exp_avg is on meta"),
        (dict(copy=torch.zeros(FLAT)), "copy is torch.float32"),
        (dict(copy=torch.zeros(ALIGN, dtype=torch.float16)), "copy is (1024,)"),
        (dict(step=torch.zeros(1)), "step is torch.float32; it must be torch.int64"),
        (dict(step=torch.zeros(2, dtype=torch.int64)), "step is (2,)"),
        (dict(lr=torch.ones(1, dtype=torch.float64)), "lr is torch.float64"),
        (dict(lr=torch.ones(1, 1)), "lr is (1, 1)"),
        (dict(lr=torch.ones(1, device="meta")), "lr is on meta"),
        (dict(inverse_scale=ONE.double()), "inverse_scale is torch.float64"),
        (dict(found_inf=ONE.bool()), "found_inf is torch.bool"),
        (dict(beta1=1.0), "beta1=1.0"),
        (dict(beta2=-0.1), "beta2=-0.1"),
        (dict(beta2=float("nan")), "beta2=nan"),
        (dict(eps=0.0), "eps=0.0"),
        (dict(weight_decay=-1.0), "weight_decay=-1.0"),
        (dict(grads=[]), "grads is empty"),
        (dict(grads=gradients([(4, 5)])), "segments of 1024 numbers in all, and params has 2048"),
        (dict(grads=gradients([(4, 5), (0,)])), "grads[1] is (0,)"),
        (dict(grads=[torch.ones(20), torch.ones(3).double()]), "grads[1] is torch.float64"),
        (dict(grads=[torch.ones(20), torch.ones(3, device="meta")]), "grads[1] is on meta"),
        (dict(grads=[ONE.expand(20), torch.ones(3)]), "grads[0] has strides (0,)"),
        (dict(grads=[torch.ones(4, 6)[:, :5], torch.ones(3)]), "grads[0] has strides (6, 1)"),
    ],
)
def test_bad_input_is_named(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        adam(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("adam: ") and "\n" not in str(caught.value)


def test_float64_takes_float64_alone():
    state = State([(3,)], torch.float64)
    with pytest.raises(ValueError, match=r"^adam: grads\[0\] is torch.float32; .* float64 works$"):
        state.update([torch.ones(3)])
    with pytest.raises(ValueError, match="^adam: copy needs params of float32"):
        state.update([torch.ones(3).double()], copy=state.params.bfloat16())


def test_native_has_no_float16_and_auto_knows():
    state, expected = (State([(3,)], copy=torch.float16) for _ in range(2))
    with pytest.raises(
        RuntimeError, match=r"^adam: impl='native' can't run: .* no float16 kernel$"
    ):
        state.update([torch.ones(3)], impl="native")
    state.update([torch.ones(3)], impl="auto")
    expected.update([torch.ones(3)], impl="reference")
    assert_same_bits(state, expected)


def test_triton_asked_for_without_a_gpu_raises(monkeypatch):
    need("triton", "cpu")
    monkeypatch.setattr(triton_module, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="^adam: impl='triton' can't run: it needs a GPU"):
        State([(3,)]).update([torch.ones(3)], impl="triton")
