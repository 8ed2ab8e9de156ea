"""consistency in use: arguments, the same bits every time, autograd, torch.compile, CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from consistency_cases import inputs, outputs
from kernel_cases import PLACES, TARGETS, need

from fastinfogan.kernels.consistency import consistency, layout, native, read
from fastinfogan.kernels.dispatch import op
from fastinfogan.model.latent_spec import parse_codes


def arguments(**changed):
    kwargs = dict(q_image=torch.zeros(4, 6), q_copy=torch.zeros(4, 6))
    return kwargs | dict(codes=parse_codes("cat3,uni:learned,bern,cat9:free")) | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(q_copy=torch.zeros(4, 5)), "q_copy is (4, 5); (B, 6) fits the codes"),
        (dict(q_copy=torch.zeros(24)), "q_copy is (24,); (B, 6)"),
        (dict(q_copy=torch.zeros(0, 6)), "q_copy is (0, 6)"),
        (dict(q_copy=torch.zeros(4, 6, dtype=torch.int32)), "q_copy is torch.int32; a float"),
        (dict(q_image=torch.zeros(3, 6)), "q_image is (3, 6); (4, 6) fits q_copy"),
        (dict(q_image=torch.zeros(4, 5)), "q_image is (4, 5); (4, 6) fits q_copy"),
        (dict(q_image=torch.zeros(4, 6).bfloat16()), "q_image is torch.bfloat16, and q_copy"),
        (dict(q_image=torch.zeros(4, 6).long()), "q_image is torch.int64, and q_copy torch.float"),
        (dict(q_image=torch.zeros(4, 6, device="meta")), "q_image is on meta, and q_copy on cpu"),
        (dict(codes=parse_codes("cat4,uni:learned,bern")), "(B, 7) fits the codes"),
        (dict(codes="cat6"), "codes[0] is 'c'; a Code works, such as Code('categorical', 10)"),
        (dict(codes=parse_codes("6xuni")), "codes has no categorical or Bernoulli code"),
        (dict(codes=parse_codes("6xuni,cat3:free,bern:free")), "code that is regularised"),
        (
            dict(seed=torch.ones(2)),
            "seed is torch.float32 of shape (2,) on cpu; one number, torch.",
        ),
        (dict(seed=torch.ones(1).double()), "seed is torch.float64 of shape (1,) on cpu; one num"),
        (dict(codes=()), "codes has no categorical or Bernoulli code"),
    ],
)
def test_bad_arguments(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        consistency(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("consistency: ") and "\n" not in str(caught.value)


def test_an_implementation_that_cannot_run_says_why():
    kwargs = arguments(q_image=torch.zeros(4, 6).half(), q_copy=torch.ones(4, 6).half())
    with pytest.raises(RuntimeError, match="consistency: impl='native' can't run: it has no float"):
        consistency(**kwargs, impl="native")
    assert torch.equal(consistency(**kwargs), consistency(**kwargs, impl="reference"))
    with pytest.raises(ValueError, match="consistency: impl='fast' is unknown"):
        consistency(**kwargs, impl="fast")


def test_auto_takes_the_kernel_on_the_cpu():
    tensors = inputs("4xcat10,bern", 70, torch.float32)
    auto, ours = (outputs(tensors, impl) for impl in ("auto", "native"))
    assert all(torch.equal(a, b) for a, b in zip(auto, ours, strict=True))
    assert op("consistency", "native", torch.zeros(4, 3)) is native.consistency


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_same_inputs_give_the_same_bits(impl, device):
    need(impl, device)
    tensors = inputs("4xcat10,4xuni:learned,bern", 70, torch.float32)
    first, again = (outputs(tensors, impl, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_native_results_do_not_depend_on_the_number_of_threads():
    tensors = inputs("cat500,uni:learned,cat33,bern", 131, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(outputs(tensors, "native"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["transposed", "cropped", "expanded"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    *pair, codes = inputs("cat3,uni,bern", 4, torch.float32)
    if layout == "transposed":
        strange = [t.t().contiguous().t() for t in pair]
    elif layout == "cropped":
        strange = [torch.stack([t, t], dim=-1)[..., 0] for t in pair]
    else:
        strange = pair = [t[:1].expand(4, -1) for t in pair]
    got = consistency(*(t.to(device) for t in strange), codes, impl=impl)
    assert torch.equal(got, consistency(*(t.contiguous().to(device) for t in pair), codes, impl))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_backward_can_run_twice(impl, device):
    need(impl, device)
    q_image, q_copy, codes = inputs("cat3,bern", 4, torch.float32)
    q_copy = q_copy.to(device).requires_grad_()
    loss = consistency(q_image.to(device), q_copy, codes, impl=impl)
    once = torch.autograd.grad(loss, q_copy, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, q_copy)[0], once)
    assert not consistency(q_image.to(device), q_copy.detach(), codes, impl=impl).requires_grad


def test_keeps_nothing_but_the_gradient():
    kept = []
    q_image, q_copy, codes = inputs("cat10,2xuni", 16, torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        consistency(q_image, q_copy.requires_grad_(), codes, impl="native")
    assert [(t.shape, t.dtype) for t in kept] == [((16, 12), torch.float32)]


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_opcheck(impl, device):
    need(impl, device)
    q_image, q_copy, codes = inputs("cat3,uni:learned,bern,uni:free", 4, torch.float32)
    checked = getattr(torch.ops.fastinfogan, f"consistency_{impl}").default
    arguments = q_image.to(device), q_copy.to(device), *map(list, read(codes))
    for seed in ((), (torch.ones(1, device=device),)):
        torch.library.opcheck(checked, (*arguments, *seed))


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
def test_with_a_seed_the_backward_hands_on_what_the_launch_wrote(impl, device, dtype):
    """The same gradient, rounded at once; and a pass that begins with another tensor is refused."""
    need(impl, device)
    q_image, q_copy, codes = inputs("cat3,uni:learned,bern,uni:free", 9, dtype)
    q_image, q_copy = q_image.to(device), q_copy.to(device).requires_grad_()
    seed = torch.tensor([0.7], device=device)
    results = []
    for given in (None, seed):
        loss = consistency(q_image, q_copy, codes, impl=impl, seed=given)
        (grad,) = torch.autograd.grad(loss, q_copy, seed.view_as(loss), retain_graph=True)
        results.append([loss, grad])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(b, a)
    with pytest.raises(ValueError, match="consistency: the backward pass began with another tens"):
        torch.autograd.grad(loss, q_copy)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph_for_every_spec(impl, device):
    """Three specs of one width: nothing of a spec may be baked in unguarded."""
    need(impl, device)

    def call(q_image, q_copy, codes):
        return consistency(2.0 * q_image, 2.0 * q_copy, codes, impl=impl)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")  # flat: no layout to choose
    for spec in ("cat3,2xuni,bern", "cat4,uni:learned", "cat6"):
        q_image, q_copy, codes = inputs(spec, 6, torch.float32)
        q_image, q_copy = q_image.to(device), q_copy.to(device).requires_grad_()
        results = []
        for function in (call, compiled):
            loss = function(q_image, q_copy, codes)
            results.append([loss.detach(), *torch.autograd.grad(loss, q_copy)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a)


def test_tables_are_made_once():
    def misses():
        return [cache.cache_info().misses for cache in (layout.table_on_device, read)]

    tensors = inputs("cat3,uni,bern", 4, torch.float32)
    outputs(tensors, "native")
    before = misses()
    for _ in range(3):
        outputs(tensors, "native")
    assert misses() == before


@pytest.mark.gpu
def test_a_cuda_graph_replays_it():
    need("triton", "cuda")
    q_image, q_copy, codes = inputs("cat10,2xuni,bern", 128, torch.float32)
    q_image, q_copy = q_image.cuda(), q_copy.cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        consistency(q_image, q_copy, codes)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            loss = consistency(q_image, q_copy, codes)
    q_copy.mul_(2.0)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(loss, consistency(q_image, q_copy, codes))
