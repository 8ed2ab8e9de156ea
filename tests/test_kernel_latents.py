"""latents: every implementation against the float64 formulas; the draws' distribution; errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from kernel_cases import PLACES, need
from scipy import stats
from tolerances import DRAW_ROUNDINGS, EPS

from fastinfogan.kernels import triton_needs
from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.latents import latents, latents_reference
from fastinfogan.kernels.latents.layout import layout_of, word_columns
from fastinfogan.kernels.philox import STREAM_LATENTS, halves, philox_reference
from fastinfogan.model.latent_spec import make_spec

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# Why each is here: noise, codes, batch.
CASES = {
    "preset mnist, a block of rows and one more": (62, "cat10,uni,uni", 17),
    "preset svhn": (124, "4xcat10,4xuni", 9),
    "every kind, noise that ends within a pair": (5, "cat7,uni,gauss,bern", 3),
    "one code, no noise": (0, "cat2", 1),
    "words that alignment skips": (3, "bern,gauss,uni,gauss,cat3,gauss", 4),
    "a one-hot vector of several blocks": (2, "cat1024,uni,cat65", 3),
    "the most codes": (1, "16xcat3,16xgauss,16xbern,16xuni", 3),
    "the most noise": (4096, "64xgauss", 1),
}
SEED, OFFSET = 2**62 + 2**33 + 7, 2**32 - 2  # both halves of both; a carry within the batch


def numbers(*values, device="cpu"):
    return [torch.tensor([value], device=device) for value in values]


def draw(noise, codes, batch, impl, device="cpu", seed=SEED, offset=OFFSET, **options):
    spec = make_spec(noise, codes)
    drawn = latents(
        noise, spec.codes, batch, *numbers(seed, offset, device=device), impl=impl, **options
    )
    return [t.cpu() for t in drawn]


def formulas(noise, codes, batch, seed=SEED, offset=OFFSET):
    """Noise and values by the formulas at the head of the kernel's file, in float64."""
    codes = make_spec(noise, codes).codes
    columns, count = word_columns(noise, codes)
    sample = torch.arange(offset, offset + batch).unsqueeze(1)
    block = torch.arange(-(-count // 4)).unsqueeze(0)
    stream = torch.full_like(block, STREAM_LATENTS)
    words = torch.stack(philox_reference(seed, *halves(sample), block, stream), 2).flatten(1)
    # The uniform numbers are float32's, so that no two implementations round them apart.
    u = ((words.double() + 0.5) / 2**32).float().clamp_max(1 - 2**-24).double()
    radius, turns = (-2 * u[:, 0::2].log()).sqrt(), 2 * math.pi * u[:, 1::2]
    normal = torch.stack([radius * turns.cos(), radius * turns.sin()], 2).flatten(1)
    values = {
        "categorical": lambda code, j: (words[:, j] * code.categories >> 32).double(),
        "uniform": lambda code, j: (2 * u[:, j] - 1).float().double(),
        "bernoulli": lambda code, j: (words[:, j] >= 2**31).double(),
        "gaussian": lambda code, j: normal[:, j],
    }
    drawn = [values[code.kind](code, j) for code, j in zip(codes, columns, strict=True)]
    return normal[:, :noise], torch.stack(drawn, 1)


def assert_draws(noise, codes, inputs, values, truth, condition=1.0):
    """Integers and uniform numbers to the bit, normal ones to a few roundings."""
    spec = make_spec(noise, codes)
    expected_noise, expected = truth
    allowed = condition * DRAW_ROUNDINGS * EPS[torch.float32]
    torch.testing.assert_close(
        inputs[:, :noise].double(), expected_noise, rtol=allowed, atol=allowed
    )
    for i, code in enumerate(spec.codes):
        tolerance = allowed if code.kind == "gaussian" else 0.0
        torch.testing.assert_close(
            values[:, i].double(), expected[:, i], rtol=tolerance, atol=tolerance
        )
    assert torch.equal(inputs, spec.assemble(inputs[:, :noise], values))


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("why", CASES)
def test_draws(impl, device, why):
    need(impl, device)
    inputs, values = draw(*CASES[why], impl, device)
    assert inputs.dtype == values.dtype == torch.float32
    # The reference rounds the angle, of up to 2 pi, before it takes sine and cosine.
    condition = 2 * math.pi if impl == "reference" else 1.0
    assert_draws(*CASES[why][:2], inputs, values, formulas(*CASES[why]), condition)


def test_native_draws_more_rows_than_it_takes_at_once():
    case = (62, "cat10,gauss", 150)  # 75 rows at once
    assert_draws(*case[:2], *draw(*case, "native"), formulas(*case))


@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_inputs_are_rounded_once(impl, device, dtype):
    need(impl, device)
    case = CASES["every kind, noise that ends within a pair"]
    exact, values = draw(*case, impl, device)
    inputs, same_values = draw(*case, impl, device, dtype=dtype)
    assert inputs.dtype == dtype and same_values.dtype == torch.float32
    assert torch.equal(values, same_values)
    # The interpreter cuts float32 -> bfloat16 off instead of rounding it.
    cut = triton_needs.INTERPRETED and impl == "triton" and dtype == torch.bfloat16
    rtol = EPS[dtype] if cut else 0.0
    torch.testing.assert_close(inputs, exact.to(dtype), rtol=rtol, atol=0.0)


# Found by search: of seed 0, the word behind the first radius is 2^32 - 20 and 147.
@pytest.mark.parametrize(("impl", "device"), [("reference", "cpu"), *PLACES])
@pytest.mark.parametrize(
    ("sample", "u"), [(38_471_471, 1 - 2**-24), (14_883_995, 147.5 / 2**32)], ids=["small", "large"]
)
def test_extreme_radii_are_right(impl, device, sample, u):
    need(impl, device)
    inputs, _ = draw(2, "uni", 1, impl, device, seed=0, offset=sample)
    radius = math.sqrt(-2 * math.log(u))
    rounding = DRAW_ROUNDINGS * EPS[torch.float32]
    assert inputs[0, :2].norm().item() == pytest.approx(radius, rel=rounding)


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_stream_does_not_depend_on_how_it_is_split(impl, device):
    need(impl, device)
    case = (5, "cat7,uni,gauss,bern")
    whole = draw(*case, 10, impl, device, offset=2**32 - 5)
    parts = [
        draw(*case, n, impl, device, offset=2**32 - 5, shift=o) for n, o in ((3, 0), (1, 3), (6, 4))
    ]
    for all_rows, rows in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(all_rows, torch.cat(rows))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_seeds_and_offsets_differ_in_both_halves(impl, device):
    need(impl, device)
    starts = [(0, 0), (1, 0), (2**32, 0), (2**62, 0), (0, 1), (0, 2**32), (0, 2**62)]
    firsts = {
        tuple(draw(4, "uni", 1, impl, device, seed, offset)[0][0].tolist())
        for seed, offset in starts
    }
    assert len(firsts) == len(starts)


@pytest.mark.gpu
def test_a_captured_draw_follows_seed_and_offset():
    need("triton", "cuda")
    spec = make_spec(62, "cat10,uni,uni")
    seed, offset = numbers(3, 2**32 - 2, device="cuda")

    def call():
        return latents(62, spec.codes, 32, seed, offset, shift=5, impl="triton")

    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for _ in range(2):
        offset += 32
        graph.replay()
        for got, expected in zip(captured, call(), strict=True):
            assert torch.equal(got, expected)


SPEC = make_spec(5, "cat7,uni,gauss,bern,cat1024")
COUNT = 40_000
# The draws are fixed by the seed, so these tests can't flicker; a p-value under 1e-4 in one of
# some 20 of them would be a fault, not bad luck.
SMALLEST_P = 1e-4


@pytest.fixture(scope="module")
def sample():
    return SPEC.sample(COUNT, seed=3, offset=0)


def test_noise_and_gaussian_codes_are_standard_normal(sample):
    columns = [*sample.noise.T, sample.values[:, 2]]
    for column in columns:
        assert stats.kstest(column.numpy(), "norm").pvalue > SMALLEST_P


def test_uniform_codes_fill_minus_one_to_one(sample):
    column = sample.values[:, 1].numpy()
    assert stats.kstest(column, "uniform", args=(-1, 2)).pvalue > SMALLEST_P
    assert abs(column).max() <= 1.0


def test_means_and_variances_are_those_of_the_priors(sample):
    columns = torch.cat([sample.noise, sample.values[:, 1:4]], dim=1).double()
    means = torch.tensor([0.0] * 7 + [0.5], dtype=torch.float64)
    variances = torch.tensor([1.0] * 5 + [1 / 3, 1.0, 1 / 4], dtype=torch.float64)
    # Var[(x - mean)^2] = (kurtosis - 1) variance^2; the kurtosis is 3, 9/5 or 1.
    spread = torch.tensor([2.0] * 5 + [0.8, 2.0, 0.0], dtype=torch.float64).sqrt() * variances
    deviates = math.sqrt(COUNT) * (columns.mean(0) - means) / variances.sqrt()
    assert 2 * stats.norm.sf(deviates.abs().max().item()) > SMALLEST_P / 8
    error = (columns - means).square().mean(0) - variances
    assert error[-1] == 0.0  # (0 or 1 - 1/2)^2 is 1/4 always
    deviates = math.sqrt(COUNT) * error[:-1] / spread[:-1]
    assert 2 * stats.norm.sf(deviates.abs().max().item()) > SMALLEST_P / 7


@pytest.mark.parametrize(("code", "categories"), [(0, 7), (3, 2), (4, 1024)])
def test_categories_are_equally_likely(sample, code, categories):
    counts = torch.bincount(sample.values[:, code].long(), minlength=categories)
    assert len(counts) == categories
    assert stats.chisquare(counts.numpy()).pvalue > SMALLEST_P


def test_columns_and_neighbouring_samples_are_uncorrelated(sample):
    table = torch.cat([sample.noise, sample.values], dim=1)
    table = (table - table.mean(0)) / table.std(0)
    bound = stats.norm.isf(SMALLEST_P / 2 / table.shape[1] ** 2) / math.sqrt(COUNT)
    across = table.T @ table / COUNT
    following = table[:-1].T @ table[1:] / COUNT
    assert (across - torch.eye(table.shape[1])).abs().max() < bound
    assert following.abs().max() < bound


@pytest.mark.parametrize(("noise", "codes"), [(5, "cat7,uni,gauss,bern"), (4, "uni,gauss,cat3")])
def test_every_pair_of_columns_is_independent(noise, codes):
    """Beyond correlation: r cos t and a uniform code from the word behind t are uncorrelated."""
    columns = torch.cat(make_spec(noise, codes).sample(COUNT, seed=3, offset=0), dim=1).T.numpy()
    binned = []
    for column in columns:
        edges = np.unique(np.quantile(column, [0.25, 0.5, 0.75]))
        binned.append(np.searchsorted(edges, column, side="right"))
        assert np.unique(binned[-1]).size >= 2  # or the test below couldn't fail
    pairs = list(itertools.combinations(range(len(columns)), 2))
    for i, j in pairs:
        table = stats.contingency.crosstab(binned[i], binned[j]).count
        assert stats.chi2_contingency(table).pvalue > SMALLEST_P / len(pairs), (i, j)


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(impl, device, dtype):
    need(impl, device)
    seed, offset = numbers(1, 2, device=device)
    checked = getattr(torch.ops.fastinfogan, f"latents_{impl}").default
    table, *sizes = layout_of(SPEC.noise, SPEC.codes)
    torch.library.opcheck(checked, (seed, offset, 3, 4, SPEC.noise, list(table), *sizes, dtype))


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_compiles_into_one_graph(impl, device):
    """With the codes an argument, and again with another batch and shift."""
    need(impl, device)

    def call(codes, batch, seed, offset, shift):
        inputs, values = latents(5, codes, batch, seed, offset, shift=shift, impl=impl)
        return 2.0 * inputs, values.square()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")  # flat: no layout to choose
    seed, offset = numbers(1, 2**40, device=device)
    for batch, shift in ((4, 0), (6, 6)):
        args = (SPEC.codes, batch, seed, offset, shift)
        for got, expected in zip(compiled(*args), call(*args), strict=True):
            allowed = DRAW_ROUNDINGS * EPS[torch.float32]
            torch.testing.assert_close(got, expected, rtol=allowed, atol=allowed)


def test_the_reference_takes_numbers_and_tensors_alike():
    first = latents_reference(5, SPEC.codes, 3, -1, 2**40)
    second = latents_reference(5, SPEC.codes, 3, *numbers(-1, 2**40))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(noise=-1), "noise=-1; 0 to 4096 work"),
        (dict(noise=4097), "noise=4097; 0 to 4096 work"),
        (dict(codes=()), "codes has 0 of them; 1 to 64 work"),
        (dict(codes=(Code("uniform"),) * 65), "codes has 65 of them; 1 to 64 work"),
        (dict(codes=(Code("categorical", 1),)), "codes[0] has 1 categories; 2 to 1024 work"),
        (dict(codes=(Code("categorical", 1025),)), "codes[0] has 1025 categories"),
        (dict(codes=(Code("uniform"), "bern")), "codes[1] is 'bern'; a Code works, such as"),
        (dict(batch=0), "batch=0; 1 or more work"),
        (dict(seed=3), "seed is of type int; a tensor works"),
        (dict(seed=torch.tensor([1.0])), "seed is torch.float32 of shape (1,)"),
        (dict(offset=torch.tensor(1)), "offset is torch.int64 of shape ()"),
        (dict(offset=torch.tensor([1, 2])), "offset is torch.int64 of shape (2,)"),
        (dict(offset=torch.tensor([1], device="meta")), "offset is on meta, and seed on cpu"),
        (dict(dtype=torch.int32), "dtype=torch.int32; a float of 16, 32 or 64 bits works"),
    ],
)
def test_bad_arguments(impl, changed, message):
    seed, offset = numbers(0, 0)
    arguments = dict(noise=2, codes=SPEC.codes, batch=3, seed=seed, offset=offset, impl=impl)
    with pytest.raises(ValueError) as caught:
        latents(**arguments | changed)
    assert message in str(caught.value)
    assert str(caught.value).startswith("latents: ") and "\n" not in str(caught.value)
