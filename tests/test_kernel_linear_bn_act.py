"""linear_bn_act: its kernels against the float64 reference; when they run, launches and errors."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BACKENDS, TARGETS, accumulator, assert_as_close_as, in_turn, need
from tolerances import EPS, KERNEL_ROUNDINGS

from fastinfogan.kernels import triton_module, triton_needs
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.linear import linear
from fastinfogan.kernels.linear_bn_act import linear_bn_act, triton, triton_parts

# Rows of a group, inputs, outputs, groups: why each is here.
CASES = {
    "few outputs, two of everything": (2, 2, 2, 1),
    "several blocks of everything but rows, all full": (16, 128, 64, 1),
    "several blocks, the last ones not full": (13, 133, 40, 1),
    "two groups": (7, 33, 20, 2),
    "more outputs than a program finds by itself, two parts of the inputs": (6, 70, 130, 1),
}
MODES = {
    "learning": dict(),
    "frozen, without running statistics": dict(frozen=True, running=False),
    "nothing goes back to the inputs": dict(back=False),
}
NAMES = ("y", "running_mean", "running_var", "dx", "dweight", "dscale", "dshift")
OURS = [target for target in TARGETS if "native" not in str(target)]
PLACES = [("triton", "cpu"), pytest.param("triton", "cuda", marks=pytest.mark.gpu)]
SLOPE = 0.1


def inputs(case, dtype, seed=0):
    """x, weight, scale, shift, running_mean, running_var, dy: as rounded to ``dtype``."""
    rows, columns, outputs, groups = case
    random = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=random)

    x, weight = draw(groups * rows, columns) + 0.5, draw(outputs, columns) * columns**-0.5
    affine = [draw(outputs), draw(outputs), draw(outputs), 0.5 + draw(outputs).abs()]
    halves = [t.to(dtype) for t in (x, weight)]
    return [
        *halves,
        *(t.to(accumulator(dtype)) for t in affine),
        draw(groups * rows, outputs).to(dtype),
    ]


def outputs(
    tensors, groups, impl, device="cpu", dtype=None, frozen=False, running=True, back=True, **mode
):
    """What NAMES has, None where nobody asks."""
    tensors = [t.to(device, dtype, copy=True) for t in tensors]
    x, weight, scale, shift, running_mean, running_var, dy = tensors
    leaves = {"dx": x} if back else {}
    if not frozen:
        leaves |= {"dweight": weight, "dscale": scale, "dshift": shift}
    for leaf in leaves.values():
        leaf.requires_grad_()
    statistics = (running_mean, running_var) if running else (None, None)
    y = linear_bn_act(x, weight, scale, shift, *statistics, SLOPE, groups, impl=impl, **mode)
    gradients = torch.autograd.grad(y, list(leaves.values()), dy)
    found = dict(zip(leaves, gradients, strict=True))
    return [y.detach(), *statistics, *(found.get(name) for name in NAMES[3:])]


@pytest.mark.parametrize(("why", "mode", "impl", "device", "dtype"), in_turn(OURS, CASES, MODES))
def test_parity(why, mode, impl, device, dtype):
    need(impl, device)
    tensors, groups = inputs(CASES[why], dtype), CASES[why][-1]
    got = outputs(tensors, groups, impl, device, **MODES[mode])
    reference = outputs(tensors, groups, "reference", device, **MODES[mode])
    truth = outputs(tensors, groups, "reference", dtype=torch.float64, **MODES[mode])
    # The interpreter cuts z off, to bfloat16, which moves all of a mean the same way.
    cut = triton_needs.INTERPRETED and dtype == torch.bfloat16
    condition = EPS[dtype] / EPS[torch.float32] / KERNEL_ROUNDINGS if cut else 1.0
    few = CASES[why][0] == 2 and dtype != torch.float32
    for *result, name in zip(got, reference, truth, NAMES, strict=True):
        # The gradient of the product is rounded before it is multiplied: two terms show it.
        more = 0.5 * EPS[dtype] / EPS[torch.float32] / KERNEL_ROUNDINGS if few else 0.0
        assert_as_close_as(*result, name, condition + more * (name in ("dx", "dweight")))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_wide_strips(impl, device, monkeypatch):
    """As layers with thousands of outputs have them: 64 and 32 outputs a program."""
    need(impl, device)
    monkeypatch.setattr(triton, "PROGRAMS", 1)
    for columns, outputs_, groups in ((130, 70, 1), (130, 40, 2), (128, 70, 1)):
        tensors = inputs((8, columns, outputs_, groups), torch.float32)
        got = outputs(tensors, groups, impl, device)
        reference = outputs(tensors, groups, "reference", device)
        truth = outputs(tensors, groups, "reference", dtype=torch.float64)
        for result in zip(got, reference, truth, NAMES, strict=True):
            assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("groups", [1, 2])
def test_long_sums_are_made_in_parts_and_give_the_same(impl, device, groups, monkeypatch):
    """Two launches, parts and their sum, forward and, of one group, for the gradient of x."""
    need(impl, device)
    tensors = inputs((70, 133, 20, groups), torch.float32)
    whole = outputs(tensors, groups, impl, device)
    for module in (triton, triton_parts):
        monkeypatch.setattr(module, "MOST_INPUTS", 1)
    for a, b in zip(outputs(tensors, groups, impl, device), whole, strict=True):
        size = b.abs().max().item()
        torch.testing.assert_close(a, b, rtol=0, atol=KERNEL_ROUNDINGS * EPS[b.dtype] * size)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("mode", MODES)
def test_older_gpus_multiply_with_the_library_and_get_the_same(impl, device, mode, monkeypatch):
    need(impl, device)
    case = CASES["two groups"]
    tensors = inputs(case, torch.float32)
    ours = outputs(tensors, 2, impl, device, **MODES[mode])
    monkeypatch.setattr(triton, "multiplies", lambda device: False)
    for a, b in zip(outputs(tensors, 2, impl, device, **MODES[mode]), ours, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_two_groups_equal_two_calls_exactly(impl, device):
    need(impl, device)
    x, *rest, dy = (t.to(device) for t in inputs((7, 33, 20, 2), torch.float32))
    both = outputs([x, *rest, dy], 2, impl, device, back=False)
    one = outputs([x[:7], *rest, dy[:7]], 1, impl, device, back=False)
    weight, scale, shift = rest[:3]
    two = outputs([x[7:], weight, scale, shift, *one[1:3], dy[7:]], 1, impl, device, back=False)
    assert torch.equal(both[0], torch.cat([one[0], two[0]]))
    assert torch.equal(both[1], two[1]) and torch.equal(both[2], two[2])
    for k in (5, 6):
        assert torch.equal(both[k], one[k] + two[k])


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_same_inputs_give_the_same_bits(impl, device):
    need(impl, device)
    tensors = inputs(CASES["two groups"], torch.bfloat16)
    first, again = (outputs(tensors, 2, impl, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_without_a_gradient_nothing_is_kept(impl, device):
    need(impl, device)
    x, weight, *rest, _ = (t.to(device) for t in inputs((6, 20, 9, 1), torch.float32))
    arguments = x, weight, *rest[:2], None, None, SLOPE, 1, 0.1, 1e-5
    y, z, stats = triton.linear_bn_act_forward(*arguments, True)
    same_y, nothing, same_stats = triton.linear_bn_act_forward(*arguments, False)
    assert torch.equal(y, same_y) and torch.equal(stats, same_stats)
    assert z.shape == y.shape and nothing.numel() == 0
    torch.testing.assert_close(z, linear(x, weight, None))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_opcheck(impl, device):
    need(impl, device)
    x, weight, *affine, dy = (t.to(device) for t in inputs((3, 5, 4, 2), torch.float32))
    scale, shift, *statistics = affine
    ops, settings = torch.ops.fastinfogan, (SLOPE, 2)
    for running, keeps in ((statistics, True), ((None, None), False)):
        arguments = (x, weight, scale, shift, *running, *settings, 0.1, 1e-5, keeps)
        torch.library.opcheck(ops.linear_bn_act_forward_triton.default, arguments)
    forward = (x, weight, scale, shift, None, None, *settings, 0.1, 1e-5, True)
    _, z, stats = ops.linear_bn_act_forward_triton(*forward)
    for own, wants_x in ((x, True), (x, False), (None, True)):
        arguments = (dy, own, weight, scale, shift, z, stats, *settings, wants_x)
        torch.library.opcheck(ops.linear_bn_act_backward_triton.default, arguments)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device, backend):
    need(impl, device)
    tensors = [t.to(device) for t in inputs((3, 5, 4, 2), torch.float32)][:6]

    def call(x, weight, scale, shift, running_mean, running_var):
        statistics = running_mean, running_var
        y = linear_bn_act(2.0 * x, weight, scale, shift, *statistics, SLOPE, 2, impl=impl)
        return y.square().sum()

    results = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        copies = [t.clone() for t in tensors]
        leaves = [t.requires_grad_() for t in copies[:4]]
        function(*copies).backward()
        results.append([t.grad for t in leaves] + copies[4:])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_on_a_cpu_it_is_linear_and_then_bn_act_to_the_bit(dtype, training):
    tensors, found = inputs((6, 20, 9, 2), dtype), []

    def two(x, weight, *rest, **mode):
        return bn_act(linear(x, weight, None), *rest, **mode)

    for function in (linear_bn_act, two):
        *copies, dy = (t.clone() for t in tensors)
        leaves = [t.requires_grad_() for t in copies[:4]]
        y = function(*copies, SLOPE, 2, training=training)
        found.append([y, *torch.autograd.grad(y, leaves, dy), *copies[4:]])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


# -- Which launches there are, counted on tensors without data -------------------------------------


def launched(case, dtype=torch.bfloat16, learning=True, back=True, **mode):
    """Names of the kernels, forward and back, without ``_kernel``."""
    if not triton_needs.INSTALLED:
        pytest.skip("Triton is not installed")
    rows, columns, outputs_, groups = case

    def empty(*size, dtype=torch.float32):
        return torch.empty(size, dtype=dtype, device="meta")

    x = empty(rows * groups, columns, dtype=dtype).requires_grad_(back)
    weight = empty(outputs_, columns, dtype=dtype)
    scale, shift, mean, var = (empty(outputs_) for _ in range(4))
    for leaf in (weight, scale, shift):
        leaf.requires_grad_(learning)
    triton_module.recorded.clear()
    y = linear_bn_act(x, weight, scale, shift, mean, var, SLOPE, groups, **mode)
    y.backward(torch.empty_like(y))
    names = [found.kernel.__name__.removesuffix("_kernel") for found in triton_module.recorded]
    triton_module.recorded.clear()
    return names


FORWARD, PARTS, SUM, BACKWARD, WEIGHT = (
    f"linear_bn_act_{name}" for name in ("forward", "parts", "sum", "backward", "weight")
)
WHOLE = "bn_act_whole_forward", "bn_act_whole_backward"


@pytest.mark.parametrize(
    ("case", "way", "names"),
    [
        ((128, 74, 1024, 1), dict(back=False), [FORWARD, WEIGHT]),
        ((128, 1024, 6272, 1), {}, [FORWARD, WEIGHT, PARTS, "sum_parts"]),
        ((128, 1024, 128, 1), {}, [FORWARD, BACKWARD]),
        ((128, 1024, 128, 1), dict(learning=False), [FORWARD, BACKWARD]),
        ((128, 4096, 128, 1), {}, [PARTS, SUM, BACKWARD]),
        ((128, 6272, 1024, 2), {}, [PARTS, SUM, WHOLE[1]]),
        ((128, 6272, 1024, 1), dict(learning=False), [PARTS, SUM, WHOLE[1]]),
        ((129, 74, 1024, 1), {}, [*WHOLE]),
        ((128, 1024, 128, 1), dict(dtype=torch.float32), [*WHOLE]),
        ((128, 1024, 128, 1), dict(training=False), ["bn_act_forward", WHOLE[1]]),
    ],
)
def test_launches(case, way, names):
    """Of the layers of ``mnist`` and ``celeba``, and of what is left to two ops."""
    assert launched(case, **way) == names


def test_ranks_exchange_their_sums_between_two_ops():
    calls = []

    def exchange(sums):
        calls.append(sums.shape)
        return sums

    names = launched((128, 1024, 128, 2), exchange=exchange)
    assert calls == [(1, 3, 2, 128)] * 2
    assert not any(name.startswith("linear_bn_act") for name in names)


# -- Errors ----------------------------------------------------------------------------------------


def some(**changed):
    return dict(
        x=torch.zeros(4, 5), weight=torch.zeros(3, 5), scale=torch.zeros(3), shift=torch.zeros(3),
        running_mean=torch.zeros(3), running_var=torch.zeros(3), slope=0.1,
    ) | changed  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.zeros(4, 5, 1, 1)), "x is (4, 5, 1, 1); (B, I), not empty, works"),
        (dict(x=torch.zeros(0, 5)), "x is (0, 5); (B, I), not empty, works"),
        (dict(x=torch.zeros(4, 5, dtype=torch.int64)), "x is torch.int64; a float of 16"),
        (dict(weight=torch.zeros(3, 4)), "weight is (3, 4); (O, 5) fits x"),
        (dict(weight=torch.zeros(3, 5).bfloat16()), "weight is torch.bfloat16, and x torch.float"),
        (dict(weight=torch.zeros(3, 5, device="meta")), "weight is on meta, and x on cpu"),
        (dict(running_var=None), "running_mean and running_var go together"),
        (dict(running_mean=None, running_var=None, training=False), "running_mean=None needs"),
        (dict(scale=torch.zeros(2)), "scale is (2,), and weight has 3 outputs"),
        (dict(shift=torch.zeros(3).double()), "shift is torch.float64; torch.float32 fits x"),
        (dict(slope=1.5), "slope=1.5; 0 to 1 work"),
        (dict(groups=3), "groups=3 with a batch of 4; 1, or 2 if the batch is even"),
        (dict(x=torch.zeros(2, 5), groups=2), "one value per output has no variance"),
    ],
)
def test_bad_arguments(changed, message):
    with pytest.raises(ValueError) as caught:
        linear_bn_act(**some(**changed))
    assert message in str(caught.value)
    assert str(caught.value).startswith("linear_bn_act: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(exchange=lambda sums: sums), "it has no exchange"),
        (dict(training=False), "it has no running statistics to go by: training=True works"),
        (dict(x=torch.zeros(129, 5)), "it takes up to 128 rows a group, and these are 129"),
        (dict(impl="native"), "the op has no such implementation"),
        (dict(impl="reference", exchange=lambda sums: sums), "it has no exchange"),
    ],
)
def test_what_can_t_run_says_why(changed, message):
    arguments = some(**{"impl": "triton"} | changed)
    need(arguments["impl"], "cpu")
    with pytest.raises(RuntimeError, match=f"impl='{arguments['impl']}' can't run: {message}"):
        linear_bn_act(**arguments)
