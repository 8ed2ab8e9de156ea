"""mi_loss, d_loss, g_loss: every implementation against the float64 reference; specs, errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import PLACES, TARGETS, assert_as_close_as, need
from tolerances import EPS, EXP_OF_60, FORMULA_32, SOFTPLUS_64, SUMMATION_64

from fastinfogan.kernels import mi_loss as module
from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.dispatch import op
from fastinfogan.kernels.mi_loss import (
    d_loss,
    d_loss_reference,
    g_loss,
    g_loss_reference,
    mi_loss,
    mi_loss_reference,
)
from fastinfogan.model.latent_spec import parse_codes

# numpy, in Triton's interpreter, warns of the NaN and infinity that some tests feed it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")

# Why each case is here: codes, batch.
CASES = {
    "mnist, an odd batch": ("cat10,2xuni", 37),
    "celeba: the categories share nothing": ("10xcat10", 20),
    "svhn: all kinds of columns side by side": ("4xcat10,4xuni:learned", 17),
    "chairs: more categories than lanes": ("3xcat20,uni:learned", 9),
    "every kind, and a code without columns": ("gauss,cat3,uni:free,bern,gauss:learned,cat7", 19),
    "a single image": ("cat10,uni", 1),
    "no categorical code": ("bern,uni", 5),
    "two categories, the fewest": ("cat2", 3),
    "whole vectors of categories": ("cat64,uni,cat16", 6),
    "the most categories": ("cat1024,bern", 5),
    "many codes": ("5xcat3,5xuni,5xbern,5xgauss:learned", 4),
    "a code that isn't regularised comes last": ("cat5:free,cat5,uni:free", 4),
}
FORMS = {"mi": mi_loss, "d": d_loss, "g": g_loss}
NAMES = ("total", "terms", "dlogits", "dq_params")


def inputs(spec, batch, dtype, form="mi", seed=0, scale=2.0):
    """logits (None for mi_loss), q_params, values, codes, weights; as rounded to ``dtype``."""
    random = torch.Generator().manual_seed(seed)
    codes = parse_codes(spec)

    def draw(*size):
        return (scale * torch.randn(*size, generator=random)).to(dtype)

    columns = {
        "categorical": lambda c: torch.randint(c.categories, (batch,), generator=random).float(),
        "bernoulli": lambda _: torch.randint(2, (batch,), generator=random).float(),
        "uniform": lambda _: 2.0 * torch.rand(batch, generator=random) - 1.0,
        "gaussian": lambda _: torch.randn(batch, generator=random),
    }
    values = torch.stack([columns[code.kind](code) for code in codes], dim=1)
    weights = tuple(0.5 + 0.25 * i for i in range(len(codes)))
    logits = None if form == "mi" else draw((2 if form == "d" else 1) * batch)
    return logits, draw(batch, sum(code.q_width for code in codes)), values, codes, weights


def outputs(tensors, impl, device="cpu", dtype=None, incoming=1.0):
    """The four results by the order of NAMES, in ``dtype`` if given; no dlogits for mi_loss."""
    logits, q_params, values, codes, weights = tensors
    leaves = [
        t.to(device, dtype, copy=True).requires_grad_() for t in (logits, q_params) if t is not None
    ]
    form = "mi" if logits is None else "d" if len(logits) > len(q_params) else "g"
    total, terms = FORMS[form](*leaves, values.to(device), codes, weights, impl=impl)
    assert not terms.requires_grad
    grads = torch.autograd.grad(total, leaves, torch.full_like(total, incoming))
    return [total.detach(), terms, *([None] * (2 - len(grads))), *grads]


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("why", CASES)
def test_parity(impl, device, dtype, form, why):
    need(impl, device)
    tensors = inputs(*CASES[why], dtype, form)
    got = outputs(tensors, impl, device)
    reference = outputs(tensors, "reference", device)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_several_native_parts(form, dtype):
    """A part needs 32 K numbers at least: too many for the interpreter."""
    tensors = inputs("cat500,uni:learned,cat33", 131, dtype, form)
    got, reference = (outputs(tensors, impl) for impl in ("native", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


def test_several_triton_parts_are_added_up_over_several_blocks(monkeypatch):
    """Real blocks hold as many parts as make the interpreter slow."""
    need("triton", "cpu")
    blocks = module._blocks
    monkeypatch.setattr(module, "_blocks", lambda *codes: blocks(*codes) | {"BLOCK_PARTS": 2})
    tensors = inputs("cat600,uni", 5, torch.float32, "d")
    assert blocks([module._CATEGORICAL], [600])["BLOCK_ROWS"] == 1
    got, reference = (outputs(tensors, impl) for impl in ("triton", "reference"))
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


def test_float64_is_exact():
    for why, (spec, batch) in CASES.items():
        tensors = inputs(spec, batch, torch.float64, "d")
        got, expected = (outputs(tensors, impl) for impl in ("native", "reference"))
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=SOFTPLUS_64, atol=SUMMATION_64, msg=why)


def kinds_of_values():
    """What the losses are by pencil and paper, at zero logits: log K, log 2, (c - m)^2 / 2 ..."""
    half = 0.5 * math.log(2.0 * math.pi)
    return [
        ("cat7", [3.0], [0.0] * 7, math.log(7.0)),
        ("bern", [1.0], [0.0], math.log(2.0)),
        ("uni", [0.5], [0.0], 0.125 + half),
        ("gauss:learned", [2.0], [1.0, 0.0], 0.5 + half),
        # sigma = exp(2 tanh(s / 2)) with tanh(s / 2) = 1 / 2: e
        ("gauss:learned", [2.0], [1.0, 2 * math.atanh(0.5)], 0.5 * math.exp(-2.0) + 1.0 + half),
    ]


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize(("spec", "value", "q", "nll"), kinds_of_values())
def test_values_by_hand(impl, device, spec, value, q, nll):
    need(impl, device)
    codes, weights = parse_codes(spec), (3.0,)
    tensors = [torch.tensor([t], device=device) for t in (q, value)]
    total, nlls = mi_loss(*tensors, codes, weights, impl=impl)
    assert nlls.shape == (1,) and total.shape == ()
    assert nlls.item() == pytest.approx(nll, rel=FORMULA_32)
    assert total.item() == pytest.approx(3.0 * nll, rel=FORMULA_32)
    logits = torch.zeros(2, device=device)
    total_d, terms = d_loss(logits, *tensors, codes, weights, impl=impl)
    assert terms[0].item() == pytest.approx(2.0 * math.log(2.0), rel=FORMULA_32)
    assert total_d.item() == pytest.approx(3.0 * nll + 2.0 * math.log(2.0), rel=FORMULA_32)
    total_g, terms = g_loss(logits[:1], *tensors, codes, weights, impl=impl)
    assert total_g.item() == pytest.approx(3.0 * nll + math.log(2.0), rel=FORMULA_32)
    assert terms.tolist() == pytest.approx([math.log(2.0), nll], rel=FORMULA_32)


ADVERSARIAL = {
    "logits of 1e4": 1e4,
    "logits of 100: exp would overflow": 100.0,
    "logits of 1e-4: everything is near its value at 0": 1e-4,
    "denormals": 1e-40,
}


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("why", ADVERSARIAL)
def test_adversarial_values(impl, device, why):
    need(impl, device)
    spec = "cat10,uni,bern,gauss:learned,cat20"
    tensors = inputs(spec, 21, torch.float32, "d", scale=ADVERSARIAL[why])
    got = outputs(tensors, impl, device)
    reference = outputs(tensors, "reference", device)
    truth = outputs(tensors, "reference", dtype=torch.float64)
    for result in zip(got, reference, truth, NAMES, strict=True):
        assert_as_close_as(*result)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_small_losses_keep_their_digits(impl, device):
    """log(1 + e^-x) is e^-x for a D that is sure: 1 + e^-x would be 1, and the loss 0."""
    need(impl, device)
    logits = torch.tensor([10.0, 30.0, 60.0], device=device)
    for logit in logits:
        _, terms = g_loss(
            logit[None], torch.zeros(1, 1, device=device), torch.zeros(1, 1, device=device),
            (Code("uniform"),), (0.0,), impl=impl,
        )  # fmt: skip
        assert terms[0].item() == pytest.approx(math.log1p(math.exp(-logit.item())), rel=EXP_OF_60)


@pytest.mark.parametrize(("impl", "device", "dtype"), TARGETS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 4, 8, 9, 10], ids=["cat", "cat2", "mean", "s", "bern"])
def test_nan_and_infinity_spoil_their_own(impl, device, dtype, value, column):
    """A bad number shows in its code and row, wherever the reference shows it; in no other."""
    need(impl, device)
    tensors = inputs("cat3,cat5,gauss:learned,bern", 6, dtype, "g")
    tensors[1][2, column] = value
    got, expected = (outputs(tensors, i, device) for i in (impl, "reference"))
    code = {0: 1, 4: 2, 8: 3, 9: 3, 10: 4}[column]
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
    if math.isnan(value):
        assert got[0].isnan() and got[1][code].isnan()
        assert got[3][2].isnan().any()
    assert got[1][[t for t in range(5) if t != code]].isfinite().all()
    assert got[3][[0, 1, 3, 4, 5]].isfinite().all()


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_logit_of_d_spoils_its_own(impl, device, value):
    need(impl, device)
    tensors = inputs("cat3,uni", 6, torch.float32, "d")
    tensors[0][8] = value
    got, expected = (outputs(tensors, i, device) for i in (impl, "reference"))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
    assert got[1][1:].isfinite().all()


BAD_CATEGORIES = [math.nan, -1.0, 3.0, 1.5, math.inf, -100.0, 1e30]


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize("bad", BAD_CATEGORIES)
@pytest.mark.parametrize("form", FORMS)
def test_a_category_that_is_none_raises_on_the_cpu(impl, bad, form):
    logits, q_params, values, codes, weights = inputs("uni,cat3,cat9", 5, torch.float32, form)
    values[3, 1] = bad
    given = [t for t in (logits, q_params) if t is not None]
    with pytest.raises(ValueError) as caught:
        FORMS[form](*given, values, codes, weights, impl=impl)
    assert str(caught.value) == (
        f"{form}_loss: values[3, 1] is {bad:g}; the code's categories are the integers 0 to 2"
    )


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], ids=["interpreter", "gpu"]
)
@pytest.mark.parametrize("bad", BAD_CATEGORIES)
def test_a_category_that_is_none_gives_nan_where_nobody_can_wait(device, bad):
    need("triton", device)
    tensors = inputs("uni,cat3,cat9", 5, torch.float32, "g")
    clean = outputs(tensors, "triton", device)
    tensors[2][3, 1] = bad
    total, terms, dlogits, dq_params = outputs(tensors, "triton", device)
    assert total.isnan() and terms[2].isnan() and dq_params[3, 1:4].isnan().all()
    dq_params[3, 1:4] = clean[3][3, 1:4]
    assert torch.equal(dq_params, clean[3]) and torch.equal(dlogits, clean[2])
    assert torch.equal(terms[[0, 1, 3]], clean[1][[0, 1, 3]])


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
def test_a_loss_scale_keeps_small_gradients(impl, device):
    """e^-15 / 128 is below half of float16's smallest number, and times 65536 it isn't."""
    need(impl, device)
    dtype = torch.float16 if impl == "triton" else torch.bfloat16
    codes, weights = parse_codes("cat10"), (1.0,)
    q_params = torch.zeros(128, 10)
    q_params[:, 0] = 15.0
    tensors = (None, q_params.to(dtype), torch.zeros(128, 1), codes, weights)
    # Column 0 has 1 - p, whose digits cancel.
    scaled = outputs(tensors, impl, device, incoming=65536.0)[3][:, 1:].cpu()
    truth = outputs(tensors, "reference", dtype=torch.float64)[3][:, 1:]
    torch.testing.assert_close(scaled.double(), 65536.0 * truth, rtol=EPS[dtype], atol=0.0)
    if dtype == torch.float16:
        assert truth[0, 0].to(dtype) == 0.0  # what rounding first would have made of it


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["transposed", "cropped", "expanded"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    logits, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32, "d")
    if layout == "transposed":
        strange = [logits, q_params.t().contiguous().t(), values.t().contiguous().t()]
    elif layout == "cropped":
        strange = [torch.stack([t, t], dim=-1)[..., 0] for t in (logits, q_params, values)]
    else:
        logits, q_params, values = logits[:1].expand(8), q_params[:1].expand(4, -1), values[:1]
        values = values.expand(4, -1)
        strange = [logits, q_params, values]
    plain = [t.contiguous().to(device) for t in (logits, q_params, values)]
    got = d_loss(*(t.to(device) for t in strange), codes, weights, impl=impl)
    expected = d_loss(*plain, codes, weights, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


# Some code is regularised: --codes takes nothing else.
SPECS = st.lists(
    st.one_of(
        st.integers(2, 70).map(lambda k: f"cat{k}"),
        st.sampled_from(["uni", "gauss", "uni:learned", "gauss:learned", "bern"]),
        st.sampled_from(["uni:free", "cat5:free", "bern:free"]),
    ),
    min_size=1,
    max_size=12,
).map(lambda codes: ",".join([*codes, "uni"]))


@settings(max_examples=80, deadline=None)
@given(
    spec=SPECS, batch=st.integers(1, 70), form=st.sampled_from(list(FORMS)), seed=st.integers(0, 99)
)
def test_native_on_any_spec(spec, batch, form, seed):
    tensors = inputs(spec, batch, torch.float64, form, seed)
    got, expected = (outputs(tensors, impl) for impl in ("native", "reference"))
    for a, b in zip(got, expected, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=SOFTPLUS_64, atol=SUMMATION_64)


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_of_the_reference(form):
    logits, q_params, *rest = inputs("cat3,uni,gauss:learned,bern,uni:free", 3, torch.float64, form)
    leaves = [t.requires_grad_() for t in (logits, q_params) if t is not None]
    reference = {"mi": mi_loss_reference, "d": d_loss_reference, "g": g_loss_reference}[form]
    assert torch.autograd.gradcheck(lambda *t: reference(*t, *rest)[0], leaves)


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


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_backward_can_run_twice_but_not_be_differentiated(impl, device):
    need(impl, device)
    _, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32)
    q_params = q_params.to(device).requires_grad_()
    total, _ = mi_loss(q_params, values.to(device), codes, weights, impl=impl)
    once = torch.autograd.grad(total, q_params, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, q_params, retain_graph=True)[0], once)
    (grad,) = torch.autograd.grad(total, q_params, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


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
    known = module._read("mi_loss", codes, weights)
    checked = getattr(torch.ops.fastinfogan, f"mi_loss_{impl}").default
    tensors = [t if t is None else t.to(device) for t in (logits, q_params, values)]
    torch.library.opcheck(checked, (*tensors, *map(list, known[:3])))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph_for_every_spec(impl, device):
    """Two specs and two weightings of one width: nothing of a spec may be baked in unguarded."""
    need(impl, device)

    def call(logits, q_params, values, codes, weights):
        return d_loss(logits, 2.0 * q_params, values, codes, weights, impl=impl)

    compiled = torch.compile(call, fullgraph=True)
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


def test_compiled_code_names_a_bad_category_too():
    _, q_params, values, codes, weights = inputs("cat3,uni", 4, torch.float32)
    values[1, 0] = 7.0
    compiled = torch.compile(
        lambda q_params, values: mi_loss(q_params, values, codes, weights, impl="native")[0],
        fullgraph=True,
    )
    with pytest.raises(ValueError, match=r"mi_loss: values\[1, 0\] is 7;"):
        compiled(q_params, values)


def test_tables_are_made_once():
    tensors = inputs("cat3,uni,bern", 4, torch.float32)
    outputs(tensors, "native")
    before = module._table.cache_info().misses, module._read.cache_info().misses
    for _ in range(3):
        outputs(tensors, "native")
    assert (module._table.cache_info().misses, module._read.cache_info().misses) == before


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


def arguments(**changed):
    """Of d_loss, with one code of each width."""
    codes = parse_codes("cat3,uni:learned,bern:free")
    kwargs = dict(logits=torch.zeros(8), q_params=torch.zeros(4, 5), values=torch.zeros(4, 3))
    return kwargs | dict(codes=codes, weights=(1.0, 1.0, 0.0)) | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(q_params=torch.zeros(4, 6)), "q_params is (4, 6); (B, 5) fits the codes"),
        (dict(q_params=torch.zeros(20)), "q_params is (20,); (B, 5)"),
        (dict(q_params=torch.zeros(0, 5)), "q_params is (0, 5)"),
        (dict(q_params=torch.zeros(4, 5, dtype=torch.int32)), "q_params is torch.int32"),
        (dict(values=torch.zeros(4, 2)), "values is (4, 2); (4, 3) fits"),
        (dict(values=torch.zeros(5, 3)), "values is (5, 3); (4, 3) fits"),
        (dict(values=torch.zeros(4, 3, dtype=torch.int64)), "values is torch.int64"),
        (dict(values=torch.zeros(4, 3, dtype=torch.bfloat16)), "values is torch.bfloat16"),
        (dict(values=torch.zeros(4, 3, requires_grad=True)), "values requires grad"),
        (dict(values=torch.zeros(4, 3, device="meta")), "values is on meta, and q_params on cpu"),
        (dict(weights=(1.0,) * 4), "weights has 4 numbers for 3 codes"),
        (dict(weights=(1.0,)), "weights has 1 numbers for 3 codes"),
        (dict(weights=(1.0, math.nan, 0.0)), "weights has a nan"),
        (dict(weights=(1.0, math.inf, 0.0)), "weights has a inf"),
        (dict(codes=parse_codes("cat4,uni:learned,bern")), "(B, 7) fits the codes"),
        (dict(logits=torch.zeros(4)), "logits is (4,); (8,) fits q_params' batch of 4"),
        (dict(logits=torch.zeros(8, 1)), "logits is (8, 1); (8,) fits"),
        (dict(logits=torch.zeros(8, dtype=torch.bfloat16)), "logits is torch.bfloat16, and q"),
        (dict(logits=torch.zeros(8, device="meta")), "logits is on meta, and q_params on cpu"),
    ],
)
def test_bad_arguments(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        d_loss(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("d_loss: ") and "\n" not in str(caught.value)


def test_each_function_names_itself_and_its_batch():
    kwargs = arguments()
    with pytest.raises(ValueError, match=r"g_loss: logits is \(8,\); \(4,\) fits"):
        g_loss(**kwargs)
    del kwargs["logits"]
    with pytest.raises(ValueError, match="mi_loss: weights has 2 numbers for 3 codes"):
        mi_loss(**kwargs | dict(weights=(1.0, 1.0)))
    with pytest.raises(RuntimeError, match="mi_loss: impl='native' can't run: it has no float16"):
        mi_loss(**kwargs | dict(q_params=torch.zeros(4, 5).half()), impl="native")


def test_auto_takes_the_reference_for_float16():
    kwargs = arguments(logits=torch.ones(8).half(), q_params=torch.ones(4, 5).half())
    got, expected = d_loss(**kwargs), d_loss(**kwargs, impl="reference")
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_eager_calls_do_not_go_through_the_dispatcher():
    assert op("mi_loss", "native", torch.zeros(4, 3)).__name__ == "_native"
