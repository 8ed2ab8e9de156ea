"""Losses in use: the same bits every time, autograd, torch.compile, CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import PLACES, TARGETS, need
from mi_loss_cases import FORMS, inputs, outputs

from fastinfogan.kernels.dispatch import op
from fastinfogan.kernels.mi_loss import arguments, d_loss, g_loss, layout, mi_loss, native
from fastinfogan.kernels.mi_loss.prepared import Prepared


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_same_inputs_give_the_same_bits(impl, device):
    need(impl, device)
    tensors = inputs("4xcat10,4xuni:learned", 70, torch.float32, "d")
    first, again = (outputs(tensors, impl, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_native_results_do_not_depend_on_the_number_of_threads():
    tensors = inputs("cat500,uni:learned,cat33", 131, torch.float32, "d")
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
def test_a_detached_input_gets_no_gradient(impl, device):
    """The GAN baseline's G: Q watches."""
    need(impl, device)
    logits, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32, "g")
    logits, q_params, values = (t.to(device) for t in (logits, q_params, values))
    logits.requires_grad_()
    g_loss(logits, q_params, values, codes, weights, impl=impl)[0].backward()
    assert q_params.grad is None
    torch.testing.assert_close(logits.grad, -torch.sigmoid(-logits.detach()) / 4)
    assert not g_loss(logits.detach(), q_params, values, codes, weights, impl=impl)[0].requires_grad


class NoGradient(torch.autograd.Function):
    """Hands on what it gets, and nothing back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, _):
        return None


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_who_wants_no_gradient_of_the_total_gets_none(impl, device, seeded):
    need(impl, device)
    _, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32)
    q_params = q_params.to(device).requires_grad_()
    seed = torch.ones((), device=device) if seeded else None
    total, _ = mi_loss(q_params, values.to(device), codes, weights, impl=impl, seed=seed)
    (NoGradient.apply(total) + q_params.sum()).backward()
    assert torch.equal(q_params.grad, torch.ones_like(q_params))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_backward_can_run_twice(impl, device):
    need(impl, device)
    _, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32)
    q_params = q_params.to(device).requires_grad_()
    total, _ = mi_loss(q_params, values.to(device), codes, weights, impl=impl)
    once = torch.autograd.grad(total, q_params, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, q_params)[0], once)


@pytest.mark.parametrize(("impl", "device"), [*PLACES, ("reference", "cpu")])
def test_a_tally_counts_the_terms_of_many_losses(impl, device):
    """D's adversarial term, G's, and the NLLs in D's update."""
    need(impl, device)
    tally = torch.arange(5.0, dtype=torch.float64, device=device)
    expected = tally.clone()
    for seed in range(2):
        terms = {}
        for form, loss in (("d", d_loss), ("g", g_loss)):
            *tensors, codes, weights = inputs("cat3,uni,bern", 9, torch.float32, form, seed)
            tensors = [t.to(device) for t in tensors]
            terms[form] = loss(*tensors, codes, weights, impl=impl, tally=tally)[1]
        expected += torch.cat([terms["d"][:1], terms["g"][:1], terms["d"][1:]])
    assert torch.equal(tally, expected)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("form", FORMS)
def test_with_a_seed_the_backward_hands_on_what_the_launch_wrote(impl, device, dtype, form):
    """The same gradients, rounded at once; a pass that begins with another tensor is refused."""
    need(impl, device)
    *tensors, codes, weights = inputs("cat3,uni:learned,bern,uni:free", 9, dtype, form)
    logits, q_params, values = (t if t is None else t.to(device) for t in tensors)
    leaves = [t.requires_grad_() for t in (logits, q_params) if t is not None]
    seed = torch.tensor([0.7], device=device)
    results = []
    for given in (None, seed):
        total, terms = FORMS[form](*leaves, values, codes, weights, impl=impl, seed=given)
        grads = torch.autograd.grad(total, leaves, seed.view_as(total), retain_graph=True)
        results.append([total, terms, *grads])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(b, a)
    with pytest.raises(ValueError, match="mi_loss: the backward pass began with another tensor"):
        torch.autograd.grad(total, leaves)


def test_keeps_nothing_but_the_gradients():
    kept = []
    logits, q_params, *rest = inputs("cat10,2xuni", 16, torch.bfloat16, "d")
    leaves = [t.requires_grad_() for t in (logits, q_params)]
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        d_loss(*leaves, *rest, impl="native")
    assert [(t.shape, t.dtype) for t in kept] == [((16 * 12 + 32,), torch.float32)]


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_opcheck(impl, device, form):
    need(impl, device)
    logits, q_params, values, codes, weights = inputs(
        "cat3,uni:learned,uni:free", 4, torch.float32, form
    )
    known = arguments.read("mi_loss", codes, weights)
    checked = getattr(torch.ops.fastinfogan, f"mi_loss_{impl}").default
    tensors = [t if t is None else t.to(device) for t in (logits, q_params, values)]
    for seed in ((), (torch.ones(1, device=device),)):
        torch.library.opcheck(checked, (*tensors, *map(list, known[:3]), *seed))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph_for_every_spec(impl, device):
    """Two specs and two weightings of one width: nothing of a spec may be baked in unguarded."""
    need(impl, device)

    def call(logits, q_params, values, codes, weights):
        return d_loss(logits, 2.0 * q_params, values, codes, weights, impl=impl)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")  # flat: no layout to choose
    for spec, weight in (("cat3,2xuni,bern", 1.0), ("cat4,uni:learned", 1.0), ("cat6", 2.0)):
        logits, q_params, values, codes, weights = inputs(spec, 6, torch.float32, "d")
        weights = tuple(weight * w for w in weights)
        leaves = [t.to(device).requires_grad_() for t in (logits, q_params)]
        results = []
        for function in (call, compiled):
            total, terms = function(*leaves, values.to(device), codes, weights)
            results.append([total.detach(), terms, *torch.autograd.grad(total, leaves)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a)


def test_tables_are_made_once():
    def misses():
        caches = layout.table_on_device, arguments.read
        return [cache.cache_info().misses for cache in caches]

    tensors = inputs("cat3,uni,bern", 4, torch.float32)
    outputs(tensors, "native")
    before = misses()
    for _ in range(3):
        outputs(tensors, "native")
    assert misses() == before


@pytest.mark.gpu
def test_a_cuda_graph_replays_it():
    need("triton", "cuda")
    logits, q_params, values, codes, weights = inputs("cat10,2xuni", 128, torch.float32, "d")
    logits, q_params, values = (t.cuda() for t in (logits, q_params, values))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        d_loss(logits, q_params, values, codes, weights)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            total, terms = d_loss(logits, q_params, values, codes, weights)
    q_params.mul_(2.0)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    expected = d_loss(logits, q_params, values, codes, weights)
    assert torch.equal(total, expected[0]) and torch.equal(terms, expected[1])


def test_eager_calls_do_not_go_through_the_dispatcher():
    assert op("mi_loss", "native", torch.zeros(4, 3)) is native.mi_loss


def test_weights_first_asked_for_without_gradients_serve_with_them():
    """They stay on the device for whoever asks next."""
    _, q_params, values, codes, _ = inputs("cat3,uni", 4, torch.float32)
    weights = (0.25, 0.125)
    with torch.inference_mode():
        first = mi_loss(q_params, values, codes, weights, impl="reference")[0]
    total, _ = mi_loss(q_params.requires_grad_(), values, codes, weights, impl="reference")
    total.backward()
    assert torch.equal(total, first)


@pytest.mark.parametrize("form", ["d", "g"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prepared_it_gives_the_bits_of_autograd(form, dtype):
    """Call after call, of outputs that change where they lie."""
    logits, q_params, _, *rest = inputs("cat3,uni:learned,bern,uni:free", 9, dtype, form)
    prepared = Prepared(f"{form}_loss", logits, q_params, *rest)
    for seed in (1, 2):
        tensors = inputs("cat3,uni:learned,bern,uni:free", 9, dtype, form, seed)
        logits.copy_(tensors[0]), q_params.copy_(tensors[1])
        _, terms, dlogits, dq_params = outputs(tensors, "native")
        assert torch.equal(prepared(tensors[2]), terms)
        assert torch.equal(prepared.dlogits, dlogits)
        assert torch.equal(prepared.dq_params, dq_params)


def test_what_is_off_is_named_where_it_is_prepared():
    logits, q_params, values, *rest = inputs("cat3,uni", 4, torch.float32, "g")
    with pytest.raises(ValueError, match="d_loss: logits is .4,.; .8,. fits"):
        Prepared("d_loss", logits, q_params, *rest)
    with pytest.raises(ValueError, match="g_loss: q_params is torch.float32 with strides .1, 4."):
        Prepared("g_loss", logits, q_params.t().contiguous().t(), *rest)
    with pytest.raises(ValueError, match="g_loss: logits is torch.bfloat16 with strides"):
        Prepared("g_loss", logits.bfloat16(), q_params.bfloat16(), *rest)
    prepared = Prepared("g_loss", logits, q_params, *rest)
    with pytest.raises(ValueError, match=r"g_loss: values is .3, 2.; .4, 2. fits"):
        prepared(values[:3])
    with pytest.raises(ValueError, match=r"g_loss: values.0, 0. is 3; the code's categories are"):
        prepared(torch.full_like(values, 3.0))
