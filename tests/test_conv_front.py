"""A batchnorm in front of a convolution, which finds the sums of its backward pass on the way."""

from __future__ import annotations

import pytest
import torch
from conv_cases import inputs
from kernel_cases import BACKENDS, need
from tolerances import EPS

from bench.predict.iteration import count
from bench.predict.ours import name_of
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.conv import conv_and_sums, triton

# (batch, inputs, height, width), outputs, stride, transposed; groups: why each is here.
CASES = {
    "conv, a tile for each parity": (((4, 20, 4, 6), 9, 2, False), 2),
    "conv, several tiles of each parity": (((2, 6, 10, 14), 4, 2, False), 1),
    "conv, stride 1": (((4, 7, 6, 5), 6, 1, False), 2),
    "transposed, fewer pixels than a tile": (((4, 5, 3, 5), 20, 2, True), 2),
    "transposed, several tiles, the last one short": (((2, 5, 5, 7), 6, 2, True), 1),
}
PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HALF = torch.float16


def leaves_of(case, device="cpu"):
    """x, weight, scale and shift, and the gradient of the result."""
    x, weight, _, dy = (t if t is None else t.to(device) for t in inputs(case, HALF, bias=False))
    random = torch.Generator().manual_seed(3)
    scale, shift = (torch.randn(x.shape[1], generator=random).to(device) for _ in range(2))
    return [t.requires_grad_() for t in (x, weight, scale, shift)], dy


def outputs(leaves, dy, case, groups, front=True, impl="triton", wanted=None):
    """The result, the running statistics, and the gradients of ``wanted`` or all leaves."""
    x, weight, scale, shift = leaves
    running = [torch.full_like(scale, n).detach() for n in (0.0, 1.0)]
    norm = Normalising(scale, shift, *running, 0.1, groups)
    if not front:
        x, norm = bn_act(x, *norm, impl=impl), None
    y, _ = conv_and_sums(x, weight, None, *case[2:], 1.0, 0, impl, front=norm)
    return [y.detach(), *running, *torch.autograd.grad(y, wanted or leaves, dy)]


def assert_close(found, expected):
    """The sums are made of the gradient in between, of which a number may be rounded otherwise.

    (The interpreter's products add in another order elsewhere in a tile.)
    """
    for got, right in zip(found, expected, strict=True):
        size = right.float().abs().max().clamp(min=1.0)
        single = right.dtype == torch.float32
        allowed = 64 * EPS[right.dtype] * size + 8 * EPS[HALF] if single else 2 * EPS[HALF] * size
        assert (got.float() - right.float()).abs().max() <= allowed


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("why", CASES)
def test_it_is_a_batchnorm_and_a_convolution(why, device):
    need("triton", device)
    case, groups = CASES[why]
    leaves, dy = leaves_of(case, device)
    found = outputs(leaves, dy, case, groups)
    assert_close(found, outputs(leaves, dy, case, groups, front=False))
    assert all(map(torch.equal, found, outputs(leaves, dy, case, groups)))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_frozen_one_gives_the_same_gradient_of_x(transposed):
    need("triton", "cpu")
    case, groups = CASES["conv, stride 1" if not transposed else list(CASES)[3]]
    leaves, dy = leaves_of(case)
    learning = outputs(leaves, dy, case, groups)
    for leaf in leaves[1:]:
        leaf.requires_grad_(False)
    frozen = outputs(leaves, dy, case, groups, wanted=leaves[:1])
    assert torch.equal(frozen[-1], learning[3])


@pytest.mark.parametrize("one", [2, 3], ids=["scale", "shift"])
def test_one_number_in_front_may_learn_alone(one):
    need("triton", "cpu")
    case, groups = CASES["conv, stride 1"]
    leaves, dy = leaves_of(case)
    learning = outputs(leaves, dy, case, groups)
    for leaf in leaves:
        leaf.requires_grad_(leaf is leaves[one])
    assert torch.equal(
        outputs(leaves, dy, case, groups, wanted=[leaves[one]])[-1], learning[3 + one]
    )


def test_what_is_in_front_is_checked():
    need("triton", "cpu")
    case, _ = CASES["conv, several tiles of each parity"]
    (x, weight, scale, shift), dy = leaves_of(case)
    odd = torch.cat([x.detach(), x.detach()[:1]])
    with pytest.raises(ValueError, match="groups=2 with a batch of 3"):
        outputs([odd, weight, scale, shift], dy, case, 2)
    with pytest.raises(ValueError, match="weight is"):
        outputs([x, weight, scale[1:], shift], dy, case, 1)
    norm = Normalising(scale, shift, None, None, 0.1)
    with pytest.raises(ValueError, match="x_slope=0.1 with front"):
        conv_and_sums(x, weight, None, 2, False, 1.0, 0, "triton", x_slope=0.1, front=norm)


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_elsewhere_it_is_two_operations(impl):
    need(impl, "cpu")
    case, groups = CASES["conv, stride 1"]
    leaves, dy = leaves_of(case)
    leaves, dy = [t.detach().float().requires_grad_() for t in leaves], dy.float()
    found = [outputs(leaves, dy, case, groups, front, impl) for front in (True, False)]
    assert all(map(torch.equal, *found))


def test_pixels_that_a_convolution_does_not_see_have_a_gradient_all_the_same():
    need("triton", "cpu")
    case, groups = ((2, 5, 7, 9), 4, 2, False), 1
    leaves, dy = leaves_of(case)
    assert all(
        map(torch.equal, *(outputs(leaves, dy, case, groups, front) for front in (True, False)))
    )


@pytest.mark.parametrize("why", ["conv, stride 1", "transposed, fewer pixels than a tile"])
def test_older_gpus_let_batchnorm_gather_them(why, monkeypatch):
    need("triton", "cpu")
    monkeypatch.setattr(triton, "multiplies", lambda device: False)
    case, groups = CASES[why]
    leaves, dy = leaves_of(case)
    found = [outputs(leaves, dy, case, groups, front) for front in (True, False)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(("preset", "few"), [("mnist", 1), ("celeba", 0), ("chairs-rotation", 4)])
def test_batchnorm_gathers_sums_only_of_large_maps(preset, few):
    """And where a library made the gradient. Those of up to 128 tiles come with it."""
    gathered = [n for n in count(preset).ours if name_of(n) == "bn_act_backward_partials"]
    assert len(gathered) == few
    assert all(launch.args[0].numel() >= 1 << 20 for launch in gathered)


@pytest.mark.parametrize("transposed", [False, True])
def test_two_launches_come_back(transposed):
    """The gradients of a frozen pair, on tensors without data, as on a GPU."""
    case = ((128, 64, 8, 8), 128, 2, transposed)
    leaves = [t.detach().to("meta") for t in leaves_of(((1, 64, 8, 8), 128, 2, transposed))[0]]
    x = leaves[0].new_empty(case[0]).requires_grad_()
    y, _ = conv_and_sums(
        x, leaves[1], None, 2, transposed, 1.0, 0,
        front=Normalising(*leaves[2:], None, None, 0.1, 2),
    )  # fmt: skip
    triton_module.recorded.clear()
    y.backward(torch.empty_like(y))
    names = [launch.kernel.__name__ for launch in triton_module.recorded]
    triton_module.recorded.clear()
    assert names == [f"conv_{'down' if transposed else 'up'}_kernel", "bn_act_backward_kernel"]


@pytest.mark.parametrize("device", PLACES)
def test_opcheck(device):
    need("triton", device)
    ops = torch.ops.fastinfogan
    for why, op in (
        ("conv, stride 1", ops.conv_up_back_triton),
        ("transposed, fewer pixels than a tile", ops.conv_down_back_triton),
    ):
        case, groups = CASES[why]
        (x, weight, scale, shift), dy = leaves_of(case, device)
        tensors = [t.detach() for t in (dy, weight, x, scale, shift)]
        stats = torch.ones(2, groups, len(scale), device=device)
        torch.library.opcheck(op.default, (*tensors[:2], case[2], *tensors[2:], stats, 0.1, groups))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", PLACES)
def test_compiles_into_one_graph(device, backend):
    need("triton", device)
    case, groups = CASES["conv, stride 1"]
    leaves, dy = leaves_of(case, device)

    def call(x, weight, scale, shift):
        norm = Normalising(scale, shift, None, None, 0.1, groups)
        return conv_and_sums(x, weight, None, *case[2:], 1.0, 0, "triton", front=norm)[0]

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        found.append(torch.autograd.grad(function(*leaves), leaves, dy))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)
