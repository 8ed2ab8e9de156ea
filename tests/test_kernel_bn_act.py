"""bn_act: every implementation against the float64 reference; its modes, its memory, its errors."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, accumulator, assert_as_close_as, need
from tolerances import BN_ACT_64
from torch.nn import functional as F

from fastinfogan.kernels.bn_act import bn_act, bn_act_reference
from fastinfogan.kernels.dispatch import op

# Why each shape is here.
SHAPES = {
    "fewer channels than a vector": (6, 5),
    "full vectors, single ones and a tail": (10, 133),
    "more channels than a native strip, few rows": (4, 700),
    "odd in every dimension": (4, 7, 3, 5),
    "full blocks of channels only": (4, 128, 4, 4),
    "one channel: both memory formats at once": (4, 1, 5, 5),
    "1x1 maps: both memory formats at once": (4, 20, 1, 1),
    "two rows a group: the fewest that train": (4, 3, 1, 1),
    "several parts of the rows, the last one short": (10, 33, 5, 5),
}
MODES = {
    "relu": dict(slope=0.0),
    "leaky, two groups": dict(slope=0.1, groups=2),
    "no activation": dict(slope=1.0),
    "eval": dict(slope=0.1, training=False),
    "no running statistics": dict(slope=0.1, groups=2, running=False),
}
NAMES = ("y", "dx", "dweight", "dbias", "running_mean", "running_var")


def inputs(shape, dtype, seed=0, scale=2.0, mean=3.0):
    """x, weight, bias, running_mean, running_var, dy: as rounded to ``dtype``, on the CPU."""
    random = torch.Generator().manual_seed(seed)
    channels = shape[1]

    def draw(*size):
        return torch.randn(*size, generator=random)

    x, dy = (draw(*shape) * scale + mean).to(dtype), draw(*shape).to(dtype)
    affine = [draw(channels), draw(channels), draw(channels), 0.5 + draw(channels).abs()]
    return [x, *(t.to(accumulator(dtype)) for t in affine), dy]


def outputs(tensors, impl, device="cpu", dtype=None, running=True, **mode):
    """The six results by the order of NAMES, in ``dtype`` if given."""
    tensors = [t.to(device, copy=True) for t in tensors]
    if dtype is not None:
        tensors = [t.to(dtype) for t in tensors]
    x, weight, bias, running_mean, running_var, dy = tensors
    for t in (x, weight, bias):
        t.requires_grad_()
    statistics = (running_mean, running_var) if running else (None, None)
    y = bn_act(x, weight, bias, *statistics, impl=impl, **mode)
    grads = torch.autograd.grad(y, (x, weight, bias), dy)
    return [y.detach(), *grads, *statistics]


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("why", SHAPES)
def test_parity(impl, device, dtype, mode, why):
    need(impl, device)
    tensors = inputs(SHAPES[why], dtype)
    got = outputs(tensors, impl, device, **MODES[mode])
    reference = outputs(tensors, "reference", device, **MODES[mode])
    truth = outputs(tensors, "reference", dtype=torch.float64, **MODES[mode])
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_several_native_parts(dtype):
    """A part has 16 K numbers at least: too many for the interpreter."""
    tensors = inputs((66, 33, 9, 9), dtype)
    got, reference = (outputs(tensors, impl, slope=0.1) for impl in ("native", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64, slope=0.1)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["contiguous", "cropped", "permuted", "expanded gradient"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    shape = (4, 6, 3, 5)
    tensors = inputs(shape, torch.float32)
    expected = outputs(tensors, impl, device, slope=0.1)
    if layout == "contiguous":  # NCHW; so is the gradient
        tensors = [t.contiguous() for t in tensors]
    elif layout == "cropped":  # as after a transposed convolution of stride 1
        wide = torch.zeros(4, 6, 4, 6)
        wide[..., :-1, :-1] = tensors[0]
        tensors[0] = wide[..., :-1, :-1]
    elif layout == "permuted":  # as after a fully connected layer: (height, width, channel)
        tensors[0] = tensors[0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    else:  # as .sum() hands down
        tensors[5] = torch.ones(()).expand(shape)
        x, *rest = (t.clone() for t in tensors[:5])
        x.requires_grad_()
        bn_act(x, *rest, 0.1, impl="reference").sum().backward()
        y = bn_act(
            moved := x.detach().to(device).requires_grad_(),
            *(t.to(device) for t in rest),
            0.1,
            impl=impl,
        )
        y.sum().backward()
        torch.testing.assert_close(moved.grad.cpu(), x.grad)
        return
    x = tensors[0].to(device) if layout == "contiguous" else tensors[0]
    y = bn_act(x.to(device), *(t.to(device) for t in tensors[1:5]), 0.1, impl=impl)
    assert torch.equal(y, expected[0])
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("shape", [(10, 33, 5, 5), (6, 5)])
def test_two_groups_equal_two_calls_exactly(impl, device, shape):
    need(impl, device)
    tensors = [t.to(device) for t in inputs(shape, torch.float32)]
    both = outputs(tensors, impl, device, slope=0.1, groups=2)
    x, weight, bias, running_mean, running_var, dy = tensors
    first, second = zip(x.chunk(2), dy.chunk(2), strict=True)
    one = outputs(
        [first[0], weight, bias, running_mean, running_var, first[1]], impl, device, slope=0.1
    )
    two = outputs([second[0], weight, bias, *one[4:], second[1]], impl, device, slope=0.1)
    assert torch.equal(both[0], torch.cat([one[0], two[0]]))
    assert torch.equal(both[1], torch.cat([one[1], two[1]]))
    assert torch.equal(both[2], one[2] + two[2]) and torch.equal(both[3], one[3] + two[3])
    assert torch.equal(both[4], two[4]) and torch.equal(both[5], two[5])


ADVERSARIAL = {
    "a mean of 1e4 beside a spread of 1": dict(scale=1.0, mean=1e4),
    "constant channels": dict(scale=0.0, mean=3.0),
    "constant channels at 0": dict(scale=0.0, mean=0.0),
    "a variance below eps": dict(scale=1e-4, mean=0.0),
    "denormals": dict(scale=1e-40, mean=0.0),
    "values of 1e4": dict(scale=1e4, mean=0.0),
    "a variance close to the largest float": dict(scale=1e17, mean=0.0),
}


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("why", ADVERSARIAL)
def test_adversarial_values(impl, device, why):
    need(impl, device)
    tensors = inputs((10, 20, 3, 3), torch.float32, **ADVERSARIAL[why])
    got = outputs(tensors, impl, device, slope=0.1)
    reference = outputs(tensors, "reference", device, slope=0.1)
    truth = outputs(tensors, "reference", dtype=torch.float64, slope=0.1)
    # x - mean cancels: an error of eps in the mean (torch sums it in float64 on the CPU) is one of
    # eps |mean| / sigma in y. From E[x^2] - E[x]^2 it would be eps (mean / sigma)^2.
    condition = max(1.0, abs(ADVERSARIAL[why]["mean"]) / max(1.0, ADVERSARIAL[why]["scale"]))
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result, condition)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_channel_and_no_other(impl, device, dtype, slope, value):
    need(impl, device)
    tensors = inputs((6, 5, 3, 3), dtype)
    tensors[0][2, 1, 0, 0] = value
    for result in outputs(tensors, impl, device, slope=slope)[:4]:
        channels = result.transpose(0, 1) if result.dim() > 1 else result
        if result.dim() > 1:
            assert channels[1].isnan().all()
        assert channels[[0, 2, 3, 4]].isfinite().all()


def test_native_results_do_not_depend_on_the_number_of_threads():
    tensors = inputs((66, 33, 9, 9), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(outputs(tensors, "native", slope=0.1, groups=2))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 20),
    channels=st.integers(1, 150),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.none(),
    groups=st.sampled_from([1, 2]),
    slope=st.floats(0.0, 1.0),
    training=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_native_on_any_shape(batch, channels, size, groups, slope, training, seed):
    shape = (2 * batch, channels, *(size or ()))
    if training and shape[0] == groups and size in (None, (1, 1)):
        shape = (2 * shape[0], *shape[1:])
    tensors = inputs(shape, torch.float64, seed)
    mode = dict(slope=slope, groups=groups, training=training)
    got, expected = outputs(tensors, "native", **mode), outputs(tensors, "reference", **mode)
    for a, b in zip(got, expected, strict=True):
        # Two rows leave dx almost nothing but its cancellation, hence the scale of 1 beside it.
        torch.testing.assert_close(a, b, rtol=BN_ACT_64, atol=BN_ACT_64)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_of_the_reference(mode):
    x, weight, bias, running_mean, running_var, _ = inputs((4, 3, 2, 2), torch.float64)
    options = dict(MODES[mode])
    running = options.pop("running", True)

    def call(x, weight, bias):
        statistics = (running_mean.clone(), running_var.clone()) if running else (None, None)
        return bn_act_reference(x, weight, bias, *statistics, **options)

    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in (x, weight, bias)])


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_frozen_network_learns_nothing(impl, device):
    """No gradient of weight and bias where none is asked for, and one of x all the same."""
    need(impl, device)
    x, weight, bias, *_, dy = (t.to(device) for t in inputs((6, 5), torch.float32))
    x.requires_grad_()
    y = bn_act(x, weight, bias, None, None, 0.1, impl=impl)
    y.backward(dy)
    assert weight.grad is None and bias.grad is None
    expected = bn_act(x, weight, bias, None, None, 0.1, impl="reference")
    torch.testing.assert_close(x.grad, torch.autograd.grad(expected, x, dy)[0])


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("running", [True, False])
def test_opcheck(impl, device, running):
    need(impl, device)
    x, weight, bias, running_mean, running_var, dy = (
        t.to(device) for t in inputs((4, 6, 3, 3), torch.float32)
    )
    x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    statistics = (running_mean, running_var) if running else (None, None)
    names = ("partials", "forward", "backward_partials", "backward")
    ops = [getattr(torch.ops.fastinfogan, f"bn_act_{name}_{impl}").default for name in names]
    affine = (weight, bias)
    partials = ops[0](x, 2)
    forward = (*affine, *statistics, 0.1, 2, 0.1, 1e-5, True)
    _, stats = ops[1](x, partials, *forward)
    backward = (dy, x, *affine, stats)
    own = ops[2](*backward, 0.1, 2)
    for checked, args in (
        (ops[0], (x, 2)),
        (ops[1], (x, partials, *forward)),
        (ops[1], (x, None, *forward)),
        (ops[2], (*backward, 0.1, 2)),
        (ops[3], (*backward, own, own.clone(), 0.1, 2, True)),
        (ops[3], (*backward, None, None, 0.1, 2, True)),
    ):
        torch.library.opcheck(checked, args)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("shape", [(10, 33, 5, 5), (6, 700)])
def test_an_exchange_with_nobody_else_changes_nothing(impl, device, shape):
    """The ops gather the sums themselves, or are given what the ops for ranks gathered."""
    need(impl, device)
    tensors = inputs(shape, torch.float32)
    alone = outputs(tensors, impl, device, slope=0.1, groups=2)
    split = outputs(tensors, impl, device, slope=0.1, groups=2, exchange=lambda sums: sums.clone())
    assert all(torch.equal(a, b) for a, b in zip(alone, split, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("training", [True, False])
def test_compiles_into_one_graph(impl, device, training):
    need(impl, device)
    x, weight, bias, running_mean, running_var, _ = (
        t.to(device) for t in inputs((4, 6, 3, 3), torch.float32)
    )

    def call(x, weight, bias, running_mean, running_var):
        y = bn_act(
            2.0 * x, weight, bias, running_mean, running_var, 0.1, 2, training=training, impl=impl
        )
        return y.square().sum()

    results = []
    for function in (call, torch.compile(call, fullgraph=True)):
        tensors = [t.clone() for t in (x, weight, bias, running_mean, running_var)]
        leaves = [t.requires_grad_() for t in tensors[:3]]
        function(*tensors).backward()
        results.append([t.grad for t in leaves] + tensors[3:])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def saved_bytes(call) -> int:
    """Bytes kept for backward, each storage once, parameters left out."""
    kept = {}

    def pack(t):
        if not isinstance(t, torch.nn.Parameter):
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call()
    return sum(kept.values())


def test_keeps_half_of_what_eager_keeps():
    """Of batchnorm + activation: x against x and the activation's input. At least 40 % less."""
    channels = 16
    x = torch.randn(8, channels, 7, 7).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight, bias = (torch.nn.Parameter(torch.ones(channels)) for _ in range(2))
    eager = saved_bytes(lambda: F.leaky_relu(F.batch_norm(x, None, None, weight, bias, True), 0.1))
    fused = saved_bytes(lambda: bn_act(x, weight, bias, None, None, 0.1, impl="native"))
    assert fused <= 0.6 * eager
    assert fused == x.numel() * 4 + 2 * channels * 4  # x; mean and 1 / sigma


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


def arguments(**changed):
    x = changed.pop("x", torch.randn(4, 3, 2, 2))
    channels = x.shape[1] if x.dim() > 1 else 1
    kwargs = dict(x=x, weight=torch.ones(channels), bias=torch.zeros(channels), slope=0.1)
    kwargs |= dict(running_mean=torch.zeros(channels), running_var=torch.ones(channels))
    return kwargs | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.randn(4)), "x is (4,)"),
        (dict(x=torch.randn(2, 3, 4)), "x is (2, 3, 4)"),
        (dict(x=torch.randn(0, 3)), "not empty"),
        (dict(x=torch.ones(4, 3, dtype=torch.int64)), "x is torch.int64"),
        (dict(weight=torch.ones(4)), "weight is (4,), and x has 3 channels"),
        (dict(bias=torch.zeros(1)), "bias is (1,)"),
        (dict(weight=torch.ones(3, dtype=torch.float64)), "weight is torch.float64"),
        (dict(running_var=torch.ones(3, dtype=torch.bfloat16)), "running_var is torch.bfloat16"),
        (dict(bias=torch.zeros(3, device="meta")), "bias is on meta, and x on cpu"),
        (dict(weight=torch.ones(6)[::2]), "weight has stride 2"),
        (dict(running_mean=None), "running_mean and running_var go together"),
        (dict(running_mean=None, running_var=None, training=False), "needs training=True"),
        (dict(slope=-0.1), "slope=-0.1"),
        (dict(slope=float("nan")), "slope=nan"),
        (dict(groups=3), "groups=3"),
        (dict(x=torch.randn(5, 3, 2, 2), groups=2), "groups=2 with a batch of 5"),
        (dict(x=torch.randn(1, 3)), "one value per channel"),
        (dict(x=torch.randn(2, 3, 1, 1), groups=2), "one value per channel"),
    ],
)
def test_bad_arguments(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        bn_act(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("bn_act: ") and "\n" not in str(caught.value)


def test_the_reference_has_no_exchange():
    with pytest.raises(RuntimeError, match="exchange"):
        bn_act(**arguments(), exchange=lambda partials: partials, impl="reference")


def test_eager_calls_do_not_go_through_the_dispatcher():
    x = torch.randn(4, 3)
    assert op("bn_act_partials", "native", x).__name__ == "_native_partials"
