"""conv on the CPU: against the float64 reference; its rule, its memory, its errors."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from conv_cases import CASES, HALF, assert_right, assert_right_in_float64, inputs, results
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fastinfogan.kernels.activation import LINEAR, SIGMOID
from fastinfogan.kernels.conv import chosen, conv, conv_reference, rule
from fastinfogan.kernels.conv.rule import ours_is_faster

TARGETS = [
    ("native", torch.float32),
    pytest.param("native", torch.bfloat16, marks=HALF),
    ("auto", torch.float32),
    ("auto", torch.bfloat16),
]


@pytest.mark.parametrize(("impl", "dtype"), TARGETS)
@pytest.mark.parametrize("why", CASES)
def test_parity(why, impl, dtype):
    assert_right(inputs(CASES[why], dtype), CASES[why], impl)


@pytest.mark.parametrize("impl", ["native", "library"])
@pytest.mark.parametrize("why", CASES)
def test_parity_in_float64(why, impl, monkeypatch):
    """The three operations of the library as well, which the rule takes for some shapes only."""
    if impl == "library":
        monkeypatch.setattr(chosen, "ours_is_faster", lambda *shape: False)
        impl = "auto"
    for got in assert_right_in_float64(inputs(CASES[why], torch.float64), CASES[why], impl):
        if got.dim() == 4:
            assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("impl", ["native", "auto"])
@pytest.mark.parametrize("activation", [0.0, 0.1, "sigmoid", "tanh"])
@pytest.mark.parametrize("wants_x", [True, False])
@pytest.mark.parametrize("why", ["conv, grey images", "transposed, colour images"])
def test_an_activation_is_that_of_torch_to_the_bit(why, wants_x, activation, impl):
    """As of one that follows in a call of its own, in place; and so are the gradients."""
    case, found = CASES[why], []
    for inside in (True, False):
        x, weight, bias, dy = inputs(case, torch.float32)
        leaves = [t.requires_grad_() for t in ((x, weight, bias) if wants_x else (weight, bias))]
        y = conv(x, weight, bias, *case[2:], activation if inside else 1.0, impl=impl)
        if not inside and isinstance(activation, float):
            y = F.leaky_relu(y, activation, inplace=True)
        elif not inside:
            y = torch.sigmoid_(y) if activation == "sigmoid" else torch.tanh_(y)
        found.append([y.detach(), *torch.autograd.grad(y, leaves, dy)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("impl", [pytest.param("native", marks=HALF), "auto"])
@pytest.mark.parametrize("activation", [0.0, 0.1, "sigmoid", "tanh"])
@pytest.mark.parametrize("why", ["conv, grey images", "transposed, 1x1 maps"])
def test_an_activation_in_half_precision(why, activation, impl):
    """A slope comes before the one rounding, so it isn't that of a call of its own."""
    tensors = inputs(CASES[why], torch.bfloat16)
    assert_right(tensors, CASES[why], impl, activation=activation)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, pytest.param(torch.bfloat16, marks=HALF)]
)
@pytest.mark.parametrize("batch", [6, 7, 13, 14, 15, 31, 33])
@pytest.mark.parametrize("transposed", [False, True])
def test_any_number_of_images_and_channels(batch, transposed, dtype):
    """Around a tile's rows and a block of the sum; channels around a vector and two."""
    case = ((batch, 32 if batch % 2 else 17, 4, 3), batch + 2, 2, transposed)
    assert_right(inputs(case, dtype), case, "native")


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    stride=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_native_on_any_shape(batch, channels, size, stride, transposed, bias, seed):
    case = ((batch, channels[0], *size), channels[1], stride, transposed)
    assert_right_in_float64(inputs(case, torch.float64, seed, bias), case, "native")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "cropped", "permuted", "expanded gradient"])
def test_any_strides_do(layout, transposed):
    case = ((4, 6, 4, 6), 5, 2, transposed)
    tensors = inputs(case, torch.float64)
    x, weight, bias, dy = tensors
    if layout == "contiguous":  # NCHW
        moved = [t.contiguous() for t in tensors]
    elif layout == "cropped":
        moved = [F.pad(x, (1, 0, 1, 0))[..., 1:, 1:], weight, bias, F.pad(dy, (0, 1))[..., :-1]]
    elif layout == "permuted":
        moved = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (x, weight)]
        moved += [torch.stack([bias, bias], 1)[:, 0], dy]
    else:  # as .sum() hands down
        tensors[3] = torch.ones_like(dy)
        moved = [x, weight, bias, torch.ones((), dtype=torch.float64).expand(dy.shape)]
    assert any(a.stride() != b.stride() for a, b in zip(tensors, moved, strict=True))
    expected = results(tensors, case, "native")
    for got, right in zip(results(moved, case, "native"), expected, strict=True):
        assert torch.equal(got, right)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck(stride, transposed):
    case = ((2, 2, 3, 4), 3, stride, transposed)
    x, weight, bias, _ = inputs(case, torch.float64)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    for impl in ("reference", "native"):
        call = lambda *leaves, impl=impl: conv(*leaves, stride, transposed, impl=impl)  # noqa: E731
        assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=HALF)])
@pytest.mark.parametrize("channels", [1, 3, 33, 64])
def test_native_results_do_not_depend_on_the_number_of_threads(channels, dtype):
    threads, found = torch.get_num_threads(), []
    cases = [((17, channels, 9, 8), 40, 2, False), ((17, 40, 4, 5), channels, 2, True)]
    try:
        for count in (1, 2, 3, 5, 17):
            torch.set_num_threads(count)
            found.append([r for c in cases for r in results(inputs(c, dtype), c, "native")[:3]])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_image_and_no_other(value):
    case = CASES["conv, colour images"]
    tensors = inputs(case, torch.float32)
    tensors[0][2] = value
    y = results(tensors, case, "native")[0]
    assert y[2].isfinite().logical_not().any() and y[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize(
    ("x_learns", "weight_learns"), [(True, False), (False, True), (False, False)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_only_what_is_asked_for_is_computed_and_kept(x_learns, weight_learns, transposed):
    """A frozen D needs no weight gradients, and its first layer no gradient of the images."""
    case = ((2, 3, 4, 4), 5, 2, transposed)
    x, weight, bias, dy = inputs(case, torch.float32)
    x.requires_grad_(x_learns)
    weight.requires_grad_(weight_learns)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = conv(x, weight, bias.requires_grad_(), 2, transposed, impl="native")
    assert [t.shape for t in kept] == [x.shape] * weight_learns + [weight.shape] * x_learns
    y.backward(dy)
    assert (x.grad is not None, weight.grad is not None) == (x_learns, weight_learns)
    torch.testing.assert_close(bias.grad, dy.sum((0, 2, 3)))


def test_the_output_may_be_changed_in_place():
    case = ((2, 3, 4, 4), 5, 2, False)
    tensors = inputs(case, torch.float64)
    expected = None
    for impl, inplace in product(("reference", "native"), (False, True)):
        x, weight, bias = (t.clone().requires_grad_() for t in tensors[:3])
        y = conv(x, weight, bias, 2, False, impl=impl)
        F.leaky_relu(y, 0.1, inplace).square().sum().backward()
        expected = expected or [x.grad, weight.grad, bias.grad]
        for got, right in zip((x.grad, weight.grad, bias.grad), expected, strict=True):
            torch.testing.assert_close(got, right)


@pytest.mark.parametrize(("stride", "bias"), [(1, True), (2, False)])
def test_opcheck(stride, bias):
    ops = torch.ops.fastinfogan
    large, weight, _, small = inputs(((2, 3, 5, 4), 6, stride, False), torch.float32)
    biases = [torch.randn(6), torch.randn(3)] if bias else [None, None]
    follows = (SIGMOID, 1.0) if bias else (LINEAR, 1.0)
    down = large, weight, biases[0], stride, *follows
    up = small, weight, biases[1], stride, 5, 4, *follows
    torch.library.opcheck(ops.conv_down_native.default, down)
    torch.library.opcheck(ops.conv_up_native.default, up)
    torch.library.opcheck(
        ops.conv_weight_native.default, (large, small, small, 0.1, stride, False, bias)
    )


@pytest.mark.parametrize(
    ("impl", "backend"), [("native", "inductor"), ("auto", "aot_eager"), ("reference", "aot_eager")]
)
def test_compiles_into_one_graph(impl, backend):
    x, weight, bias, _ = inputs(((2, 3, 4, 4), 5, 2, False), torch.float32)
    back = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last)

    def call(x, weight, bias, back):
        y = conv(x, weight, bias, 2, False, impl=impl)
        return conv(y.relu_(), back, None, 1, True, impl=impl).square().sum()

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias, back)]
        function(*leaves).backward()
        found.append([t.grad for t in leaves])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


ALL = {"down", "up", "weight"}
# Layers: (small channels, small size, large channels, stride), and the operations taken natively in
# float32 and in bfloat16, which from maps of 32x32 on is never made of fewer products.
RULE = {
    "mnist, between image and maps": ((64, 14, 1, 2), ALL, ALL),
    "mnist, between maps": ((128, 7, 64, 2), ALL, ALL),
    "celeba, between image and maps": ((64, 16, 3, 2), {"up", "weight"}, {"up", "weight"}),
    "celeba, 2x2": ((448, 2, 256, 2), ALL, ALL),
    "chairs, 32x32": ((128, 16, 64, 2), ALL, {"up", "weight"}),
    "few channels, 32x32": ((32, 16, 32, 2), {"up", "weight"}, {"up", "weight"}),
    "chairs, stride 1": ((256, 8, 256, 1), ALL, ALL),
}


@pytest.mark.parametrize("layer", RULE)
def test_the_rule(layer, monkeypatch):
    (channels, size, image_channels, stride), natively, in_half = RULE[layer]
    large = (128, image_channels, size * stride, size * stride)

    def ours(operation, dtype):
        return ours_is_faster("native", operation, dtype, large, channels, stride)

    for operation in ("down", "up", "weight"):
        assert ours(operation, torch.float64)
        for amx in (False, True):
            monkeypatch.setattr(rule, "AMX", amx)
            assert ours(operation, torch.float32) == (operation in natively)
            assert ours(operation, torch.bfloat16) == (operation in in_half and not amx)


def test_what_runs_on_one_thread_leaves_all_but_float64_to_torch(monkeypatch):
    """Kernels built without OpenMP, as for macOS: see CMakeLists.txt."""
    monkeypatch.setattr(rule, "THREADED", False)
    for operation in ALL:
        shape = (128, 64, 14, 14), 128, 2
        assert not ours_is_faster("native", operation, torch.float32, *shape)
        assert ours_is_faster("native", operation, torch.float64, *shape)


@pytest.mark.parametrize(("batch", "natively"), [(7, set()), (15, {"down", "up"}), (16, ALL)])
def test_the_rule_for_few_images(batch, natively):
    for size, taken in ((14, natively), (8, ALL)):
        large = (batch, 64, size, size)
        for operation in ALL:
            ours = ours_is_faster("native", operation, torch.float32, large, 128, 2)
            assert ours == (operation in taken)


@pytest.mark.parametrize("impl", ["reference", "native", "auto"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.randn(3, 8, 8)), "x is (3, 8, 8)"),
        (dict(x=torch.randn(0, 3, 8, 8)), "not empty"),
        (dict(x=torch.ones(2, 3, 8, 8, dtype=torch.int64)), "x is torch.int64"),
        (dict(stride=3), "stride=3"),
        (dict(x=torch.randn(2, 3, 1, 8)), "2x2 or more"),
        (dict(weight=torch.randn(5, 3, 3, 3)), "weight is (5, 3, 3, 3); its kernel must be 4x4"),
        (dict(weight=torch.randn(3, 5, 4, 4)), "it takes 5 channels, and x has 3"),
        (dict(transposed=True), "with transposed=True: it takes 5 channels, and x has 3"),
        (dict(activation=-0.1), "activation=-0.1; 0 to 1 work"),
        (dict(activation="relu"), "activation='relu'; a slope, sigmoid, tanh work"),
        (dict(bias=torch.randn(3)), "bias is (3,), and weight puts out 5 channels"),
        (
            dict(weight=torch.randn(5, 3, 4, 4).double()),
            "weight is torch.float64, and x torch.floa",
        ),
        (dict(bias=torch.randn(5).bfloat16()), "bias is torch.bfloat16"),
        (dict(weight=torch.randn(5, 3, 4, 4, device="meta")), "weight is on meta, and x on cpu"),
    ],
)
def test_bad_arguments(impl, changed, message):
    kwargs = dict(x=torch.randn(2, 3, 8, 8), weight=torch.randn(5, 3, 4, 4), bias=torch.randn(5))
    with pytest.raises(ValueError) as caught:
        conv(**(kwargs | dict(stride=2) | changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("conv: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("impl", "dtype", "message"),
    [
        ("native", torch.float16, "conv: impl='native' can't run: it has no float16 kernel"),
        ("triton", torch.float32, "conv: impl='triton' can't run: "),
    ],
)
def test_an_implementation_that_is_not_there_raises(impl, dtype, message):
    x, weight, bias, _ = inputs(CASES["conv, grey images"], dtype)
    with pytest.raises(RuntimeError) as caught:
        conv(x, weight, bias, 2, impl=impl)
    assert str(caught.value).startswith(message)


def test_the_reference_is_torchs_own():
    x, weight, bias, _ = inputs(
        CASES["conv, odd sizes: a row and a column that nothing sees"], torch.float64
    )
    torch.testing.assert_close(
        conv_reference(x, weight, bias, 2), F.conv2d(x, weight, bias, 2, 1), rtol=0, atol=0
    )
