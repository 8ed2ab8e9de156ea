"""dense: its kernel against the float64 reference, by hand and with autograd; rule and errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from kernel_cases import BACKENDS, assert_as_close_as

from fastinfogan.kernels import dense as kernel
from fastinfogan.kernels.activation import TANH, numbered
from fastinfogan.kernels.dense import dense
from fastinfogan.kernels.dense.prepared import Prepared
from fastinfogan.kernels.dense.rule import MOST_ROWS, MOST_WEIGHTS, fits
from fastinfogan.kernels.dispatch import plain_ops

# rows, sizes, activations, whether there are biases: why each is here.
CASES = {
    "mnist-mlp's G": (32, (26, 256, 784), (0.0, "sigmoid"), True),
    "its D on real and fake": (64, (784, 128, 1), (0.0, 1.0), True),
    "no whole vector, no whole tile": (7, (33, 5, 3), (0.1, "sigmoid"), True),
    "one number": (1, (1, 1), (1.0,), True),
    "three layers without biases": (20, (17, 14, 30, 9), (0.2, "sigmoid", 0.0), False),
    "sums in several chunks": (5, (300, 13, 270, 2), (0.1, 0.1, 1.0), True),
}


def inputs(case, dtype, seed=0):
    """x, dy, weights and biases as rounded to ``dtype``."""
    rows, sizes, _, biased = case
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=random).to(dtype)

    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = [draw(o, i) / i**0.5 for o, i in pairs]
    biases = [draw(o) if biased else None for o, _ in pairs]
    return draw(rows, sizes[0]), draw(rows, sizes[-1]), weights, biases


def outputs(case, tensors, impl, frozen=False):
    """By name: y, and the gradients of x and, where the layers learn, of the parameters."""
    x, dy, weights, biases = tensors
    leaves = {"dx": x} | ({} if frozen else {f"dweights[{i}]": w for i, w in enumerate(weights)})
    if not frozen:
        leaves |= {f"dbiases[{i}]": b for i, b in enumerate(biases) if b is not None}
    for leaf in leaves.values():
        leaf.requires_grad_()
    y = dense(x, weights, biases, case[2], impl)
    found = torch.autograd.grad(y, list(leaves.values()), dy)
    return {"y": y.detach()} | dict(zip(leaves, found, strict=True))


def doubled(tensors):
    x, dy, weights, biases = tensors
    more = [[None if t is None else t.double() for t in ts] for ts in (weights, biases)]
    return x.double(), dy.double(), *more


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("why", CASES)
def test_parity(why, frozen):
    case = CASES[why]
    tensors = inputs(case, torch.float32)
    truth = outputs(case, doubled(tensors), "reference", frozen)
    reference = outputs(case, inputs(case, torch.float32), "reference", frozen)
    got = outputs(case, inputs(case, torch.float32), "native", frozen)
    assert got.keys() == truth.keys()
    for name in truth:
        assert_as_close_as(got[name], reference[name], truth[name], name)
    in_double = outputs(case, doubled(inputs(case, torch.float32)), "native", frozen)
    for name in truth:
        torch.testing.assert_close(in_double[name], truth[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("why", CASES)
def test_by_hand_it_is_the_same(why):
    """Call after call, whichever gradients are wanted: to the bit."""
    rows, _, activations, _ = case = CASES[why]
    x, _, weights, biases = inputs(case, torch.float32)
    kinds, slopes = zip(*map(numbered, activations), strict=True)
    prepared = Prepared(rows, weights, biases, kinds, slopes)
    for seed in (1, 2):
        x, dy, _, _ = inputs(case, torch.float32, seed)
        right = outputs(case, (x.clone(), dy, weights, biases), "native")
        for tensor in (*weights, *biases):
            if tensor is not None:
                tensor.requires_grad_(False)
        assert torch.equal(prepared.forward(x), right["y"])
        assert torch.equal(prepared.backward(dy, wants_x=True, learns=False), right["dx"])
        assert prepared.backward(dy, wants_x=False, learns=True) is None
        rest = [right[name] for name in right if name not in ("y", "dx")]
        assert all(map(torch.equal, prepared.gradients, rest))


def test_prepared_it_writes_where_it_was_told():
    x, _, weights, biases = inputs(case := CASES["one number"], torch.float32)
    images = torch.zeros(2, 1)
    prepared = Prepared(1, weights, biases, [0], [1.0], images[1:])
    assert torch.equal(prepared.forward(x), dense(x, weights, biases, case[2]))
    assert images[0] == 0.0 and torch.equal(images[1:], prepared.y)


def test_what_is_prepared_is_checked():
    """The kernel has addresses and looks at nothing: a weight that moves, or another shape."""
    x, dy, (weight,), (bias,) = inputs((3, (5, 4), (1.0,), True), torch.float32)

    def prepare(weight=weight, bias=bias, rows=3, kind=0, y=None):
        return Prepared(rows, [weight], [bias], [kind], [1.0], y)

    crossed = weight.t().contiguous().t()
    for message, given in (
        (r"weights\[0\] is torch.float32 .* with strides \(1, 4\)", {"weight": crossed}),
        (r"weights\[0\] is torch.bfloat16; float32 and float64", {"weight": weight.bfloat16()}),
        (r"biases\[0\] is torch.float32 of shape \(3,\)", {"bias": bias[:3]}),
        (r"y is torch.float32 of shape \(2, 4\)", {"y": dy[:2]}),
        (rf"rows={MOST_ROWS + 1}, weights \[\(4, 5\)\]", {"rows": MOST_ROWS + 1}),
        (r"rows=3, weights", {"kind": TANH}),
    ):
        with pytest.raises(ValueError, match=f"dense: {message}"):
            prepare(**given)
    prepared = prepare()
    with pytest.raises(ValueError, match=r"dense: x is torch.float32 of shape \(2, 5\)"):
        prepared.forward(x[:2])
    prepared.forward(x)
    with pytest.raises(ValueError, match="dense: dy is torch.float64"):
        prepared.backward(dy.double(), True, True)
    weight.data = weight.clone()
    with pytest.raises(RuntimeError, match="dense: a weight or a bias has moved since"):
        prepared.forward(x)


def test_threads_change_no_bit():
    leaves = [torch.randn(shape).requires_grad_() for shape in ((64, 784), (200, 784), (99, 200))]
    x, w, v = leaves
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            y = dense(x, [w, v], [None, None], [0.1, "sigmoid"], "native")
            found.append([y.detach(), *torch.autograd.grad(y.sum(), leaves)])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *found))


def test_auto_takes_the_kernel_for_small_layers_alone(monkeypatch):
    """By shapes; not in half precision, with tanh, or among plain ops."""
    ran, real = [], kernel.DenseFunction.apply
    watched = SimpleNamespace(apply=lambda *given: ran.append(True) or real(*given))
    monkeypatch.setattr(kernel, "DenseFunction", watched)
    x = torch.randn(3, 4)

    def runs(weight, activation, dtype=torch.float32):
        ran.clear()
        dense(x.to(dtype), [weight.to(dtype)], [None], [activation])
        return bool(ran)

    small = torch.randn(2, 4)
    assert runs(small, 0.1) and runs(small, "sigmoid") and runs(small, 0.1, torch.float64)
    assert not runs(small, "tanh") and not runs(small, 0.1, torch.bfloat16)
    assert not runs(torch.zeros(MOST_WEIGHTS // 4 + 1, 4), 0.1)
    with plain_ops():
        assert not runs(small, 0.1)
    assert fits(MOST_ROWS, [small.shape], [0]) and not fits(MOST_ROWS + 1, [small.shape], [0])


def test_without_the_kernel_it_is_linear_and_activation():
    x, w, b = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2)
    for activation, f in (("tanh", torch.tanh), ("sigmoid", torch.sigmoid), (1.0, lambda t: t)):
        right = f(torch.nn.functional.linear(x, w, b))
        torch.testing.assert_close(dense(x, [w], [b], [activation], "reference"), right)
        torch.testing.assert_close(dense(x, [w], [b], [activation]), right)


def test_opcheck():
    case = CASES["three layers without biases"]
    x, dy, weights, _ = inputs(case, torch.float32)
    kinds, slopes = map(list, zip(*map(numbered, case[2]), strict=True))
    biases = [None, torch.randn(30), None]
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.dense_forward_native.default, (x, weights, biases, kinds, slopes))
    results = ops.dense_forward_native(x, weights, biases, kinds, slopes)
    for wants in ((True, True), (True, False), (False, True)):
        arguments = (dy, x, results, weights, [False, True, False], kinds, slopes, *wants)
        torch.library.opcheck(ops.dense_backward_native.default, arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_into_one_graph(backend):
    case = CASES["no whole vector, no whole tile"]
    x, _, weights, biases = inputs(case, torch.float32)
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]

    def call(x, a, b, c, d):
        return dense(2.0 * x, [a, b], [c, d], case[2], "native").sin().sum()

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    results = [torch.autograd.grad(f(*leaves), leaves) for f in (call, compiled)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)


X, W, B = torch.zeros(3, 4), torch.zeros(2, 4), torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], [W], [B], [1.0]), r"x is \(4,\); \(B, I\), not empty, works"),
        ((X.int(), [W], [B], [1.0]), "x is torch.int32"),
        ((X, [W], [B], [1.0, 0.0]), "1 weights, 1 biases, 2 activations; as many of each"),
        ((X, [], [], []), "0 weights, 0 biases, 0 activations; as many of each"),
        ((X, [W.t()], [B], [1.0]), r"weights\[0\] is \(4, 2\); \(O, 4\) fits"),
        ((X, [W, W], [B, B], [1.0, 1.0]), r"weights\[1\] is \(2, 4\); \(O, 2\) fits"),
        ((X, [W], [B[:1]], [1.0]), r"biases\[0\] is \(1,\); \(2,\) fits"),
        ((X, [W.double()], [B], [1.0]), r"weights\[0\] is torch.float64"),
        ((X, [W], [B], ["gelu"]), r"activations\[0\]='gelu'; a slope from 0 to 1, sigmoid, tanh"),
        ((X, [W], [B], [1.5]), r"activations\[0\]=1.5; a slope from 0 to 1, sigmoid, tanh work"),
    ],
)
def test_what_is_off_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"dense: {message}"):
        dense(*arguments)


def test_what_native_lacks_is_named():
    with pytest.raises(RuntimeError, match="dense: impl='native' can't run: it has no tanh"):
        dense(X, [W], [B], ["tanh"], "native")
