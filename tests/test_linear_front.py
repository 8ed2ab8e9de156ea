"""A batchnorm in front of fully connected layers: its sums come with the gradient of its maps."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BACKENDS, need
from tolerances import EPS

from bench.predict.iteration import count
from bench.predict.ours import name_of
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.channels_last import channels_last, in_rows
from fastinfogan.kernels.linear import linear_and_tail
from fastinfogan.kernels.linear_bn_act import linear_bn_act, triton

# Maps, outputs, groups: why each is here.
CASES = {
    "a strip is a pixel": ((6, 64, 1, 2), 130, 1),
    "several strips of a pixel, and several blocks of outputs": ((6, 128, 1, 2), 130, 2),
}
PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HALF = torch.float16


def leaves_of(why, device="cpu", dtype=HALF):
    """Maps, weight, and twice scale and shift: of the batchnorm in front, and of the layer."""
    shape, features, _ = CASES[why]
    random = torch.Generator().manual_seed(4)

    def draw(*size, dtype=torch.float32):
        return torch.randn(*size, generator=random).to(device, dtype)

    channels, inputs = shape[1], shape[1] * shape[2] * shape[3]
    leaves = [channels_last(draw(*shape, dtype=dtype)), draw(features, inputs, dtype=dtype)]
    leaves += [draw(size) for size in (channels, channels, features, features)]
    return [t.requires_grad_() for t in leaves], draw(shape[0], features, dtype=dtype)


def outputs(leaves, dy, groups, front=True, impl="triton", wanted=None):
    """The result, the running statistics in front, and the gradients of ``wanted``, or all."""
    x, weight, *numbers = leaves
    running = [torch.full_like(numbers[0], n).detach() for n in (0.0, 1.0)]
    norm = Normalising(*numbers[:2], *running, 0.1, groups)
    if not front:
        x, norm = in_rows(bn_act(x, *norm, impl=impl)), None
    y = linear_bn_act(x, weight, *numbers[2:], None, None, 0.2, groups, impl=impl, front=norm)
    return [y.detach(), *running, *torch.autograd.grad(y, wanted or leaves, dy)]


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("why", CASES)
def test_it_is_a_batchnorm_and_the_layer(why, device):
    need("triton", device)
    leaves, dy = leaves_of(why, device)
    groups = CASES[why][2]
    found = outputs(leaves, dy, groups)
    for got, right in zip(found, outputs(leaves, dy, groups, front=False), strict=True):
        size = right.float().abs().max().clamp(min=1.0)
        # A number of the gradient in between may be rounded otherwise.
        single = right.dtype == torch.float32
        allowed = 64 * EPS[right.dtype] * size + 8 * EPS[HALF] if single else 2 * EPS[HALF] * size
        assert (got.float() - right.float()).abs().max() <= allowed
    frozen = [leaf.detach() for leaf in leaves[1:]]
    found = outputs([leaves[0], *frozen], dy, groups, wanted=leaves[:1])
    assert (found[3] - outputs(leaves, dy, groups)[3]).abs().max() <= 2 * EPS[HALF] * size


@pytest.mark.parametrize("one", [2, 3], ids=["scale", "shift"])
def test_one_number_in_front_may_learn_alone(one):
    need("triton", "cpu")
    leaves, dy = leaves_of("a strip is a pixel")
    learning = outputs(leaves, dy, 1)
    for leaf in leaves:
        leaf.requires_grad_(leaf is leaves[one])
    assert torch.equal(outputs(leaves, dy, 1, wanted=[leaves[one]])[-1], learning[3 + one])


def test_what_is_in_front_is_checked():
    need("triton", "cpu")
    (x, weight, *numbers), dy = leaves_of("a strip is a pixel")
    with pytest.raises(ValueError, match="groups=2 with a batch of 5"):
        outputs([x[:5].detach(), weight, *numbers], dy, 2)
    norm = Normalising(*numbers[:2], None, None, 0.1, 2)
    with pytest.raises(ValueError, match="groups=2 with a batch of 5"):
        linear_and_tail(x[:5].detach(), weight, None, 0, "triton", front=norm)


def test_it_gathers_no_sums_by_itself(monkeypatch):
    """D's last convolution in both updates; those that are left are of G's map before the image."""
    found = count("mnist").ours
    assert [name_of(launch) for launch in found].count("linear_bn_act_back") == 2
    gathered = [launch for launch in found if name_of(launch) == "bn_act_backward_partials"]
    assert [launch.args[0].shape for launch in gathered] == [(128, 64, 14, 14)]


def test_older_gpus_let_batchnorm_gather_them(monkeypatch):
    need("triton", "cpu")
    monkeypatch.setattr(triton, "multiplies", lambda device: False)
    leaves, dy = leaves_of("a strip is a pixel")
    found = [outputs(leaves, dy, 1, front) for front in (True, False)]
    assert all(map(torch.equal, *found))


def test_on_a_cpu_it_is_two_operations():
    need("native", "cpu")
    leaves, dy = leaves_of("a strip is a pixel", dtype=torch.float32)
    found = [outputs(leaves, dy, 1, front, "auto") for front in (True, False)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("device", PLACES)
def test_opcheck(device):
    need("triton", device)
    (maps, weight, *numbers), dy = leaves_of("a strip is a pixel", device)
    maps, weight, *numbers = (t.detach() for t in (maps, weight, *numbers))
    stats, maps_stats = (torch.ones(2, 1, len(n), device=device) for n in numbers[::2][::-1])
    of_layer = in_rows(maps), weight, *numbers[2:], dy.clone(), stats, 0.2, 1
    of_maps = maps, *numbers[:2], maps_stats, 0.1
    back = torch.ops.fastinfogan.linear_bn_act_back_triton.default
    torch.library.opcheck(back, (dy, *of_layer, *of_maps))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", PLACES)
def test_compiles_into_one_graph(device, backend):
    need("triton", device)
    leaves, dy = leaves_of("a strip is a pixel", device)

    def call(x, weight, *numbers):
        norm = Normalising(*numbers[:2], None, None, 0.1)
        return linear_bn_act(x, weight, *numbers[2:], None, None, 0.2, impl="triton", front=norm)

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        found.append(torch.autograd.grad(function(*leaves), leaves, dy))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


def heads(why="a head"):
    """Maps, D's head, batchnorm's scale and shift; the gradients of logits and of Q's features."""
    shape = {"a head": (32, 64, 1, 2), "several blocks of rows": (256, 32, 2, 1)}[why]
    random = torch.Generator().manual_seed(5)

    def draw(*size, dtype=HALF):
        return torch.randn(*size, generator=random).to(dtype)

    inputs = shape[1] * shape[2] * shape[3]
    leaves = [channels_last(draw(*shape)), draw(1, inputs), draw(1)]
    leaves += [draw(shape[1], dtype=torch.float32) for _ in range(2)]
    grads = draw(shape[0], 1), draw(shape[0] // 2, inputs)
    return [t.requires_grad_() for t in leaves], grads


def judged(leaves, grads, front, impl="triton", groups=2, wanted=None):
    """Logits, features for Q, and the gradients of ``wanted`` or all leaves."""
    x, weight, bias, *numbers = leaves
    norm = Normalising(*numbers, None, None, 0.1, groups)
    if not front:
        x, norm = in_rows(bn_act(x, *norm, impl=impl)), None
    found = linear_and_tail(x, weight, bias, len(x) // 2, impl, front=norm)
    return [*(t.detach() for t in found), *torch.autograd.grad(found, wanted or leaves, grads)]


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("why", ["a head", "several blocks of rows"])
def test_a_head_finds_them_with_the_gradient_that_two_readers_give(why, device):
    need("triton", device)
    leaves, grads = heads(why)
    leaves = [leaf.detach().to(device).requires_grad_() for leaf in leaves]
    grads = [grad.to(device) for grad in grads]
    found = judged(leaves, grads, True)
    for got, right in zip(found, judged(leaves, grads, False), strict=True):
        roundings = 64 if right.dtype == torch.float32 else 1
        size = right.float().abs().max().clamp(min=1.0)
        assert (got.float() - right.float()).abs().max() <= roundings * EPS[right.dtype] * size
    frozen = [leaves[0], *(leaf.detach() for leaf in leaves[1:])]
    found_x = judged(frozen, grads, True, wanted=leaves[:1])[2]
    assert (found_x - found[2]).abs().max() <= EPS[HALF] * found[2].abs().max()


def test_celeba_s_heads_find_them():
    names = [name_of(launch) for launch in count("celeba").ours]
    assert "bn_act_backward_partials" not in names


def test_rows_that_no_blocks_fill_take_two_operations():
    need("triton", "cpu")
    leaves, grads = heads()
    leaves = [leaves[0].detach()[:12].requires_grad_(), *leaves[1:]]
    grads = grads[0][:12], grads[1][:6]
    found = [judged(leaves, grads, front) for front in (True, False)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("device", PLACES)
def test_opcheck_of_a_head(device):
    need("triton", device)
    (maps, weight, _, scale, shift), (dy, dtail) = heads()
    maps, weight, scale, shift = (t.detach().to(device) for t in (maps, weight, scale, shift))
    stats = torch.ones(2, 2, len(scale), device=device)
    of_layer = dy.to(device), in_rows(maps), weight, dtail.to(device)
    back = torch.ops.fastinfogan.linear_back_triton.default
    torch.library.opcheck(back, (*of_layer, maps, scale, shift, stats, 0.1, 2))
