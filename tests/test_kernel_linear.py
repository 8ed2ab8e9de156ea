"""linear: its kernels against the float64 reference; its tail, rule, launches and errors."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BACKENDS, PLACES, TARGETS, assert_as_close_as, in_turn, need
from tolerances import SUMMATION_64

from fastinfogan.kernels import linear as linear_package
from fastinfogan.kernels import triton_module, triton_needs
from fastinfogan.kernels.linear import library, linear, linear_and_tail, rule
from fastinfogan.kernels.linear.layout import is_small

# (rows, inputs), outputs, rows of the tail: why each is here.
CASES = {
    "one output, half of the rows go on": ((10, 33), 1, 5),
    "one output, several blocks of inputs and rows, all rows go on": ((70, 300), 1, 70),
    "a dozen outputs": ((40, 128), 12, 0),
    "outputs that fill a block, a tail that isn't a block": ((37, 50), 16, 11),
    "wide, as ten codes of ten categories": ((33, 70), 100, 0),
    "one row, one input": ((1, 1), 2, 1),
    "more outputs than a program holds": ((35, 21), 150, 0),
    "as many, with a tail": ((35, 21), 150, 5),
}
NAMES = ("y", "dx", "dweight", "dbias")
OURS = [target for target in TARGETS if target != ("native", "cpu", torch.bfloat16)]
TRITON_PLACES = [place for place in PLACES if "triton" in str(place)]


def inputs(case, dtype, seed=0):
    """x, weight, bias, dy and dtail as rounded to ``dtype``."""
    (rows, columns), outputs, tail = case
    random = torch.Generator().manual_seed(seed)
    sizes = (rows, columns), (outputs, columns), (outputs,), (rows, outputs), (tail, columns)
    return [torch.randn(size, generator=random).to(dtype) for size in sizes]


def outputs(tensors, impl, device="cpu", dtype=None, frozen=False):
    """What NAMES has; y's and the tail's gradients are dy and dtail."""
    x, weight, bias, dy, dtail = (t.to(device, dtype).contiguous() for t in tensors)
    wanted = [x.requires_grad_()]
    if not frozen:
        wanted += [weight.requires_grad_(), bias.requires_grad_()]
    y, tail = linear_and_tail(x, weight, bias, len(dtail), impl)
    assert torch.equal(tail, x[len(x) - len(dtail) :])
    results, gradients = ((y, tail), (dy, dtail)) if len(dtail) else ((y,), (dy,))
    return y.detach(), *torch.autograd.grad(results, wanted, gradients)


@pytest.mark.parametrize(
    ("why", "frozen", "impl", "device", "dtype"), in_turn(OURS, CASES, [False, True])
)
def test_parity(why, frozen, impl, device, dtype):
    need(impl, device)
    tensors = inputs(CASES[why], dtype)
    got = outputs(tensors, impl, device, frozen=frozen)
    reference = outputs(tensors, "reference", device, frozen=frozen)
    truth = outputs(tensors, "reference", dtype=torch.float64, frozen=frozen)
    for *results, name in zip(got, reference, truth, NAMES, strict=False):
        assert_as_close_as(*results, name)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_the_tail_alone_has_a_gradient_too(impl, device):
    need(impl, device)
    x, weight, bias, _, dtail = (t.to(device) for t in inputs(((6, 5), 3, 2), torch.float32))
    _, tail = linear_and_tail(x.requires_grad_(), weight, bias, 2, impl)
    (dx,) = torch.autograd.grad(tail, x, dtail)
    assert torch.equal(dx, torch.cat([torch.zeros_like(x[:4]), dtail]))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_without_a_bias_and_with_any_strides(impl, device):
    need(impl, device)
    x, weight, _, dy, _ = (t.to(device) for t in inputs(((6, 5), 3, 0), torch.float32))
    x, weight, dy = x.t().contiguous().t(), weight[:, :1].expand(3, 5), dy.sum()
    for tensor in (x, weight):
        tensor.requires_grad_()
    results = []
    for one in (impl, "reference"):
        y = linear(x, weight, None, one)
        results.append([y, *torch.autograd.grad(y.sum(), (x, weight))])
    for got, right in zip(*results, strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize(("impl", "device"), TRITON_PLACES)
def test_same_inputs_give_the_same_bits(impl, device):
    need(impl, device)
    tensors = inputs(CASES["a dozen outputs"], torch.bfloat16)
    first, again = (outputs(tensors, impl, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(("impl", "device"), TRITON_PLACES)
def test_opcheck(impl, device):
    need(impl, device)
    x, weight, bias, dy, dtail = (t.to(device) for t in inputs(((6, 5), 3, 2), torch.float32))
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.linear_forward_triton.default, (x, weight, bias))
    torch.library.opcheck(ops.linear_backward_triton.default, (dy, x, weight, dtail))
    torch.library.opcheck(ops.linear_backward_triton.default, (dy, None, weight, None))
    torch.library.opcheck(ops.linear_weight_triton.default, (dy, x))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device, backend):
    """The tail is a view of an input, in the middle of the graph as well."""
    need(impl, device)
    x, weight, bias, _, _ = (t.to(device) for t in inputs(((6, 5), 3, 2), torch.float32))

    def call(x, weight, bias):
        y, tail = linear_and_tail(2.0 * x, weight, bias, 2, impl)
        return y.tanh().sum() + tail.sin().sum()

    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    compiled = torch.compile(call, fullgraph=True, backend=backend)
    results = [torch.autograd.grad(f(*leaves), leaves) for f in (call, compiled)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize(
    ("weight", "small"),
    [((1, 1024), True), ((1, 16_384), True), ((12, 128), True), ((100, 128), True),
     ((62, 1024), True), ((128, 1024), False), ((129, 2), False)],
)  # fmt: skip
def test_heads_are_ours_and_hidden_layers_are_the_library_s(weight, small):
    """Counted on tensors without data: a launch each way, or none."""
    if not triton_needs.INSTALLED:
        pytest.skip("Triton is not installed")
    assert is_small(weight) == small
    x, weight = (
        torch.empty(s, device="meta", requires_grad=True) for s in ((8, weight[1]), weight)
    )
    triton_module.recorded.clear()
    y, tail = linear_and_tail(x, weight, None, 4)
    torch.autograd.grad((y, tail), (x, weight), (torch.empty_like(y), torch.empty_like(tail)))
    launched = [launch.kernel.__name__ for launch in triton_module.recorded]
    triton_module.recorded.clear()
    assert launched == (["_linear_forward_kernel", "_linear_backward_kernel"] if small else [])


@pytest.mark.parametrize(
    ("inputs", "wanted", "ours"),
    [(74, False, True), (228, False, True), (133, False, True), (72, False, False),
     (74, True, False), (260, False, False)],
)  # fmt: skip
def test_layers_with_few_unaligned_inputs_are_ours_if_nothing_goes_back_to_these(
    inputs, wanted, ours
):
    if not triton_needs.INSTALLED:
        pytest.skip("Triton is not installed")
    x = torch.empty(8, inputs, device="meta", requires_grad=wanted)
    weight = torch.empty(1024, inputs, device="meta", requires_grad=True)
    triton_module.recorded.clear()
    linear(x, weight, None).sum().backward()
    launched = [launch.kernel.__name__ for launch in triton_module.recorded]
    triton_module.recorded.clear()
    assert launched == (["_linear_forward_kernel", "_linear_weight_kernel"] if ours else [])


# Around a tile, a block and a strip, and a sum that is packed in parts.
NATIVE = {
    "one of each": ((1, 1), 1, 0),
    "a row and an output more than a tile has": ((15, 17), 15, 0),
    "two strips and a vector": ((33, 65), 41, 7),
    "outputs in three parts": ((20, 40), 2100, 0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("why", NATIVE)
def test_native_on_other_sizes(why, dtype):
    tensors = inputs(NATIVE[why], dtype)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    reference = outputs(tensors, "reference")
    for *results, name in zip(outputs(tensors, "native"), reference, truth, NAMES, strict=True):
        if dtype == torch.float64:
            torch.testing.assert_close(*results[::2], rtol=SUMMATION_64, atol=SUMMATION_64)
        else:
            assert_as_close_as(*results, name)


def test_native_results_do_not_depend_on_the_number_of_threads():
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 17):
            torch.set_num_threads(count)
            tensors = inputs(((40, 130), 100, 3), torch.float32)
            found.append(outputs(tensors, "native")[:3])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_native_opcheck():
    x, weight, bias, dy, _ = inputs(((6, 5), 3, 2), torch.float32)
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.linear_forward_native.default, (x, weight, bias))
    torch.library.opcheck(ops.linear_input_native.default, (dy, weight))
    torch.library.opcheck(ops.linear_weight_native.default, (dy, x))


def test_a_cpu_takes_large_layers_from_a_library_for_another_maker_s(monkeypatch):
    large, small, head = (1024, 6272), (128, 784), (1, 16_384)
    for narrow in (True, False):
        monkeypatch.setattr(rule, "MKL_IS_NARROW", narrow)
        assert rule.native_is_faster(torch.float32, 128, large) == narrow
        assert not rule.native_is_faster(torch.bfloat16, 128, large)
        assert not rule.native_is_faster(torch.float32, 32, small)
        assert not rule.native_is_faster(torch.float32, 256, head)
    monkeypatch.setattr(rule, "MKL_IS_NARROW", True)
    monkeypatch.setattr(rule, "THREADED", False)  # on one thread it would be slower
    assert not rule.native_is_faster(torch.float32, 128, large)


needs_onednn = pytest.mark.skipif(not rule.INTEL or not library.HAS_ONEDNN, reason="an Intel CPU's")


def spy(monkeypatch, module, name):
    """The calls of a function that still does its work."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: (calls.append(args), real(*args))[1])
    return calls


@needs_onednn
@pytest.mark.parametrize("frozen", [False, True])
def test_parity_of_onednn(frozen, monkeypatch):
    """With the least that the rule takes, and a tail."""
    case = (64, 1024), 1024, 5
    asked = spy(monkeypatch, library, "_LINEAR")
    tensors = inputs(case, torch.float32)
    got = outputs(tensors, "auto", frozen=frozen)
    assert len(asked) == 1
    reference = outputs(tensors, "reference", frozen=frozen)
    truth = outputs(tensors, "reference", dtype=torch.float64, frozen=frozen)
    for *results, name in zip(got, reference, truth, NAMES, strict=False):
        assert_as_close_as(*results, name)


@needs_onednn
def test_onednn_compiles_into_one_graph():
    """torch's own name for it does not: its weight would have to be a constant."""
    x, weight, _, dy, _ = inputs(((64, 1024), 1024, 0), torch.float32)

    def layer(x, weight):
        return linear_package.LongLinearFunction.apply(x, weight, None)

    found = []
    for run in (layer, torch.compile(layer, fullgraph=True)):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        y = run(*leaves)
        found.append([y.detach(), *torch.autograd.grad(y, leaves, dy)])
    torch.testing.assert_close(*found)


@needs_onednn
def test_onednn_takes_any_strides():
    """And a layer without a bias, as those before a batchnorm are."""
    x, weight, _, _, _ = inputs(((64, 2048), 1024, 0), torch.float32)
    x, weight = x[:, ::2], weight[:, :1024].t()
    results = []
    for impl, dtype in (("auto", None), ("reference", None), ("reference", torch.float64)):
        leaves = [t.to(dtype=dtype).detach().requires_grad_() for t in (x, weight)]
        y = linear(*leaves, None, impl)
        assert ("LongLinear" in type(y.grad_fn).__name__) == (impl == "auto")
        results.append([y.detach(), *torch.autograd.grad(y.sum(), leaves)])  # dy is one number
    for *found, name in zip(*results, NAMES, strict=False):
        assert_as_close_as(*found, name)


@needs_onednn
def test_onednn_opcheck():
    x, weight, bias, _, _ = inputs(((6, 5), 3, 2), torch.float32)
    long = torch.ops.fastinfogan.linear_long_native.default
    torch.library.opcheck(long, (x, weight, bias))
    torch.library.opcheck(long, (x, weight, None))


def test_a_long_sum_s_way_forward_is_onednn_s(monkeypatch):
    monkeypatch.setattr(rule, "INTEL", True)
    monkeypatch.setattr(rule, "HAS_ONEDNN", True)
    assert rule.onednn_is_faster(torch.float32, 128, (1024, 6272))
    assert not rule.onednn_is_faster(torch.float64, 128, (1024, 6272))
    assert not rule.onednn_is_faster(torch.bfloat16, 128, (1024, 6272))
    assert not rule.onednn_is_faster(torch.float32, 128, (6272, 256))
    assert not rule.onednn_is_faster(torch.float32, 32, (1024, 1024))
    assert not rule.onednn_is_faster(torch.float32, 4096, (16, 16_384))
    for lacking in ("INTEL", "HAS_ONEDNN"):
        with monkeypatch.context() as without:
            without.setattr(rule, lacking, False)
            assert not rule.onednn_is_faster(torch.float32, 128, (1024, 6272))


def test_the_cpu_takes_torch_s_own_for_all_others():
    """To the bit."""
    x, weight, bias, _, _ = inputs(((6, 5), 3, 2), torch.float32)
    assert torch.equal(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
    with pytest.raises(RuntimeError, match="linear: impl='native' can't run: it has no bfloat16"):
        linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), impl="native")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.zeros(5)), "x is (5,); (B, I), not empty"),
        (dict(x=torch.zeros(0, 5)), "x is (0, 5); (B, I), not empty"),
        (dict(x=torch.zeros(4, 5).int()), "x is torch.int32; a float"),
        (dict(weight=torch.zeros(3, 4)), "weight is (3, 4); (O, 5) fits x"),
        (dict(weight=torch.zeros(0, 5)), "weight is (0, 5); (O, 5) fits x"),
        (dict(weight=torch.zeros(3, 5).bfloat16()), "weight is torch.bfloat16, and x torch.float"),
        (dict(bias=torch.zeros(2)), "bias is (2,); (3,) fits weight"),
        (dict(bias=torch.zeros(3, device="meta")), "bias is on meta, and x on cpu"),
        (dict(tail=5), "tail=5; 0 to 4 work"),
        (dict(tail=-1), "tail=-1; 0 to 4 work"),
    ],
)
def test_bad_arguments(changed, message):
    arguments = dict(x=torch.zeros(4, 5), weight=torch.zeros(3, 5), bias=torch.zeros(3), tail=0)
    with pytest.raises(ValueError) as caught:
        linear_and_tail(**(arguments | changed))
    assert message in str(caught.value)
    assert str(caught.value).startswith("linear: ") and "\n" not in str(caught.value)
