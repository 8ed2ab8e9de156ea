"""The sums that conv finds for a batchnorm behind it: those that it would gather itself."""

from __future__ import annotations

import pytest
import torch
from conv_cases import inputs
from kernel_cases import BACKENDS, need
from tolerances import EPS

from bench.predict.iteration import count
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.activation import LINEAR
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.conv import conv, conv_and_sums, sums, triton

# (batch, inputs, height, width), outputs, stride, transposed: why each is here.
CASES = {
    "conv, fewer pixels than a tile": ((2, 3, 6, 6), 5, 2, False),
    "conv, several tiles, the last one short": ((6, 1, 16, 14), 5, 2, False),
    "conv, stride 1": ((4, 2, 7, 6), 7, 1, False),
    "conv, two strips of channels": ((2, 3, 6, 6), 70, 2, False),
    "transposed, a tile for each parity": ((2, 3, 3, 5), 20, 2, True),
    "transposed, several tiles of each parity": ((2, 3, 9, 8), 6, 2, True),
}
PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def of_group(part):
    """Count, mean and M2 of each channel."""
    numbers = part.double().transpose(0, 1).flatten(1)
    mean = numbers.mean(1)
    return numbers.shape[1], mean, (numbers - mean[:, None]).square().sum(1)


def joined(partials):
    """(groups, channels) each, in float64."""
    count, mean, m2 = partials.double().unbind(1)
    whole = count.sum(0)
    average = (count * mean).sum(0) / whole
    return whole, average, (m2 + count * (mean - average).square()).sum(0)


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(("groups", "dtype"), [(1, torch.bfloat16), (2, torch.float16)])
@pytest.mark.parametrize("why", CASES)
def test_they_are_those_of_the_rounded_result(why, groups, dtype, device):
    need("triton", device)
    x, weight, bias, _ = (t.to(device) for t in inputs(CASES[why], dtype))
    arguments = x, weight, bias, *CASES[why][2:], 0.1
    y, found = conv_and_sums(*arguments, groups, "triton")
    # (The interpreter's products add in another order elsewhere in a tile.)
    expected = conv(*arguments, "triton").float()
    assert (y.float() - expected).abs().max() <= EPS[dtype] * expected.abs().max()
    assert torch.equal(conv_and_sums(*arguments, groups, "triton")[1], found)
    count, mean, m2 = joined(found)
    rounding = 16 * EPS[torch.float32]
    for i, part in enumerate(y.chunk(groups)):
        n, expected_mean, expected_m2 = of_group(part)
        assert (count[i] == n).all()
        size = part.double().abs().amax()
        torch.testing.assert_close(mean[i], expected_mean, rtol=0, atol=rounding * size)
        torch.testing.assert_close(m2[i], expected_m2, rtol=rounding, atol=n * rounding**2 * size)


@pytest.mark.parametrize("transposed", [False, True])
def test_batchnorm_gathers_those_of_many_tiles(transposed, monkeypatch):
    """As many as it can have in registers come with a map; of groups each for itself."""
    need("triton", "cpu")
    case = ((2, 3, 8, 8) if transposed else (8, 3, 16, 16)), 10, 2, transposed
    x, weight, _, _ = inputs(case, torch.float16)
    for groups, tiles in ((1, 8 if transposed else 4), (2, 4 if transposed else 2)):
        for most in (tiles, tiles - 1):
            monkeypatch.setattr(sums, "MOST_PARTS", most)
            found = conv_and_sums(x, weight, None, 2, transposed, 1.0, groups, "triton")[1]
            assert found is None if most < tiles else len(found) == tiles


@pytest.mark.parametrize("transposed", [False, True])
def test_an_op_asked_for_them_all_the_same_gives_none(transposed, monkeypatch):
    """And the map."""
    need("triton", "cpu")
    monkeypatch.setattr(sums, "MOST_PARTS", 1)
    case = ((4, 5, 8, 8) if transposed else (4, 5, 16, 16)), 10, 2, transposed
    x, weight, _, _ = inputs(case, torch.float16)
    run = triton.conv_up_sums if transposed else triton.conv_down_sums
    y, found = run(x, weight, None, 2, LINEAR, 1.0, 1)
    assert found.shape == (0, 3, 1, 10)
    assert torch.equal(y, conv(x, weight, None, 2, transposed, 1.0, "triton"))
    scale, shift, stats = torch.ones(5), torch.zeros(5), torch.ones(2, 1, 5)
    back = triton.conv_down_back if transposed else triton.conv_up_back
    dx, found = back(y, weight, 2, x, scale, shift, stats, 0.1, 1)
    assert found.shape == (0, 3, 1, 5) and dx.shape == x.shape


@pytest.mark.parametrize("parts", [67, 128])
def test_batchnorm_adds_up_as_many_as_come(parts):
    """The sums of many tiles give what its own pass finds."""
    need("triton", "cpu")
    x = inputs(((parts, 40, 2, 2), 3, 2, False), torch.float16)[0]
    numbers = [torch.full((40,), n) for n in (1.0, 0.5)]
    each = x.float().flatten(2)
    mean = each.mean(2)
    given = torch.stack(
        [torch.full_like(mean, 4.0), mean, (each - mean[..., None]).square().sum(2)], 1
    )
    y = bn_act(x, *numbers, None, None, 0.1, sums=given[:, :, None].contiguous(), impl="triton")
    own = bn_act(x, *numbers, None, None, 0.1, impl="triton")
    assert (y.float() - own.float()).abs().max() <= 2 * EPS[torch.float16] * own.abs().max()


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("transposed", [False, True])
def test_batchnorm_takes_them(transposed, device):
    """It comes to the same as if it had gathered them itself, back and forth."""
    need("triton", device)
    case = ((4, 3, 6, 6) if transposed else (4, 3, 16, 16), 10, 2, transposed)
    found = []
    for with_sums in (True, False):
        x, weight, _, dy = (t if t is None else t.to(device) for t in inputs(case, torch.float16))
        leaves = [t.requires_grad_() for t in (x, weight)]
        numbers = [torch.full((10,), n, device=device) for n in (1.0, 0.5, 0.0, 1.0)]
        y, gathered = conv_and_sums(*leaves, None, 2, transposed, 1.0, 2, "triton")
        gathered = gathered if with_sums else None
        y = bn_act(y, *numbers, 0.1, 2, sums=gathered, impl="triton")
        found.append([y.detach(), *torch.autograd.grad(y, leaves, dy), *numbers[2:]])
    for with_sums, without in zip(*found, strict=True):
        scale = without.float().abs().max().clamp(min=1.0)
        difference = (with_sums.float() - without.float()).abs().max()
        # Sums of squares in another order, from other zeros: a few roundings of float32.
        roundings = 16 if with_sums.dtype == torch.float32 else 2
        assert difference <= roundings * EPS[with_sums.dtype] * scale


@pytest.mark.parametrize("transposed", [False, True])
def test_two_launches_do_both(transposed):
    """Convolution and batchnorm of a layer, on tensors without data, as on a GPU."""
    case = ((128, 64, 8, 8), 128, 2, transposed)
    x, weight, _, _ = (t if t is None else t.to("meta") for t in inputs(case, torch.bfloat16))
    numbers = [torch.empty(128, device="meta") for _ in range(4)]
    y, found = conv_and_sums(x, weight, None, 2, transposed, 1.0, 2)
    bn_act(y, *numbers, 0.1, 2, sums=found)
    names = [launch.kernel.__name__ for launch in triton_module.recorded]
    triton_module.recorded.clear()
    assert names == [f"conv_{'up' if transposed else 'down'}_kernel", "bn_act_forward_kernel"]


def test_backward_no_zeros_are_made_for_them():
    found = count("mnist", torch.bfloat16)
    assert not {"zeros", "new_zeros"} & {work.kernel for work in found.library}


@pytest.mark.parametrize(
    ("case", "impl"),
    [
        (((2, 3, 6, 6), 5, 2, False), "native"),
        (((2, 3, 6, 6), 5, 2, False), "reference"),
        (((2, 6, 4, 4), 3, 2, True), "triton"),  # images
    ],
)
def test_none_where_others_make_the_map(case, impl):
    need(impl, "cpu")
    dtype = torch.float16 if impl == "triton" else torch.float32
    x, weight, bias, _ = inputs(case, dtype)
    y, found = conv_and_sums(x, weight, bias, *case[2:], 1.0, 1, impl)
    assert found is None
    assert torch.equal(y, conv(x, weight, bias, *case[2:], 1.0, impl))


@pytest.mark.parametrize("transposed", [False, True])
def test_older_gpus_let_batchnorm_gather_them(transposed, monkeypatch):
    need("triton", "cpu")
    monkeypatch.setattr(triton, "multiplies", lambda device: False)
    x, weight, _, _ = inputs(((4, 6, 6, 6), 8, 2, transposed), torch.float16)
    y, found = conv_and_sums(x, weight, None, 2, transposed, 1.0, 2, "triton")
    assert found.shape == (0, 3, 2, 8)
    numbers = torch.ones(8), torch.zeros(8), None, None
    taken = bn_act(y, *numbers, 0.1, 2, sums=found, impl="triton")
    assert torch.equal(taken, bn_act(y, *numbers, 0.1, 2, impl="triton"))


@pytest.mark.parametrize("device", PLACES)
def test_opcheck(device):
    need("triton", device)
    x, weight, bias, _ = (t.to(device) for t in inputs(((4, 3, 6, 6), 6, 2, False), torch.float16))
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.conv_down_sums_triton.default, (x, weight, bias, 2, LINEAR, 1.0, 2))
    weight = weight.transpose(0, 1).contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(ops.conv_up_sums_triton.default, (x, weight, bias, 2, LINEAR, 1.0, 1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", PLACES)
def test_compiles_into_one_graph(device, backend):
    need("triton", device)
    x, weight, _, _ = (
        t if t is None else t.to(device) for t in inputs(((2, 3, 4, 4), 5, 2, False), torch.float16)
    )
    numbers = torch.ones(5, device=device), torch.zeros(5, device=device)

    def call(x, weight):
        y, found = conv_and_sums(x, weight, None, 2, False, 1.0, 1, "triton")
        return bn_act(y, *numbers, None, None, 0.1, sums=found, impl="triton").square().sum()

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend=backend)):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        function(*leaves).backward()
        found.append([t.grad for t in leaves])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(training=False), "bn_act: sums need training=True and exchange=None"),
        (dict(exchange=lambda own: own), "bn_act: sums need training=True and exchange=None"),
        (dict(groups=1), "bn_act: sums are (1, 3, 2, 5); (parts, 3, 1, 5) works"),
    ],
)
def test_sums_that_do_not_fit_are_refused(changed, message):
    numbers = [torch.ones(5) for _ in range(4)]
    given = dict(groups=2, sums=torch.ones(1, 3, 2, 5)) | changed
    with pytest.raises(ValueError) as caught:
        bn_act(torch.ones(4, 5), *numbers, 0.1, **given)
    assert str(caught.value) == message


def test_groups_that_do_not_fit_are_refused():
    x, weight, _, _ = inputs(((3, 3, 6, 6), 5, 2, False), torch.float32)
    with pytest.raises(ValueError) as caught:
        conv_and_sums(x, weight, None, 2, False, 1.0, 2)
    assert str(caught.value) == (
        "conv: groups=2 with a batch of 3; 1, or 2 if the batch is even, 0 where no sums are wanted"
    )
