"""The losses of D and G: the information term, and with it the adversarial terms.

The information term is the negative log-likelihood of the codes under Q; L_I = H(c) - NLL. Per
code, for the value c that was fed to the generator and the numbers that Q put out for it:

    categorical  NLL = logsumexp(l) - l[c]                                  K logits l
    uniform,
    Gaussian     NLL = 0.5 ((c - m) / sigma)^2 + log sigma + 0.5 log 2 pi   mean m, sigma
                 sigma = 1 (fixed) or exp(b tanh(s / b)), b = 2 (learned)   mean m, s
    Bernoulli    NLL = softplus(l) - c l                                    logit l

averaged over the batch; the objective adds the codes up, each times its lambda. (Paper, eq. 5 and
section 6; a uniform code has a Gaussian posterior, as in the published code. Why tanh:
``codes.LOG_SIGMA_BOUND``.) The adversarial terms, of D's logits, are the non-saturating ones:

    D    mean softplus(-l_real) + mean softplus(l_fake)
    G    mean softplus(-l_fake)

Gradients of one row, to be multiplied by lambda / B, with e = (c - m) / sigma:

    categorical  dNLL/dl = softmax(l) - onehot(c)
    Gaussian     dNLL/dm = -e / sigma             dNLL/ds = (1 - e^2) (1 - tanh(s / b)^2)
    Bernoulli    dNLL/dl = sigmoid(l) - c
    adversarial  dsoftplus(x)/dx = sigmoid(x)

They come out of the launch that computes the loss. Kept for the backward are they alone, in
float32: there they meet the incoming scalar, which may be a loss scale, before they are rounded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, LOG_SIGMA_BOUND, Code
from fastinfogan.kernels.dispatch import (
    NATIVE,
    NATIVE_DTYPES,
    Impl,
    accumulator,
    choose,
    op,
    register,
)
from fastinfogan.kernels.triton_module import jit, launch, power_of_two, tl


def mi_loss_reference(
    q_params: Tensor, values: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Weighted NLL of the codes, and each code's own, in plain torch.

    Args:
        q_params: (B, sum of the codes' ``q_width``), any float dtype; the arithmetic is float32
            or wider.
        values: (B, len(codes)) as drawn; a category is its index.
        codes: the codes in order; one that isn't regularised has no columns in ``q_params``.
        weights: lambda per code.

    Returns:
        The weighted sum, a scalar; and the NLL per code, (len(codes),), in nats, detached, 0 for a
        code that isn't regularised.

    Raises:
        ValueError: a width doesn't fit the codes.
    """
    widths = [code.q_width for code in codes]
    if q_params.shape[1] != sum(widths) or values.shape[1] != len(codes):
        raise ValueError(
            f"q_params has {q_params.shape[1]} columns and values {values.shape[1]}; "
            f"the codes need {sum(widths)} and {len(codes)}"
        )
    q_params = q_params.to(torch.promote_types(q_params.dtype, torch.float32))
    values = values.to(q_params.dtype)
    nlls = []
    for i, (code, out) in enumerate(zip(codes, q_params.split(widths, dim=1), strict=True)):
        value = values[:, i]
        if not code.regularized:
            nll = q_params.new_zeros(())
        elif code.kind == "categorical":
            nll = F.cross_entropy(out, value.long())
        elif code.kind == "bernoulli":
            nll = F.binary_cross_entropy_with_logits(out[:, 0], value)
        else:
            log_sigma = torch.zeros_like(value)
            if code.std == "learned":
                log_sigma = LOG_SIGMA_BOUND * torch.tanh(out[:, 1] / LOG_SIGMA_BOUND)
            error = (value - out[:, 0]) * torch.exp(-log_sigma)
            nll = (0.5 * error.square() + log_sigma + HALF_LOG_TWO_PI).mean()
        nlls.append(nll)
    nll = torch.stack(nlls)
    return nll @ nll.new_tensor(weights), nll.detach()


def d_loss_reference(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """``d_loss`` in plain torch."""
    real, fake = _wide(logits).chunk(2)
    adversarial = F.softplus(-real).mean() + F.softplus(fake).mean()
    information, nlls = mi_loss_reference(q_params, values, codes, weights)
    return adversarial + information, torch.cat([adversarial.detach()[None], nlls])


def g_loss_reference(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """``g_loss`` in plain torch."""
    adversarial = F.softplus(-_wide(logits)).mean()
    information, nlls = mi_loss_reference(q_params, values, codes, weights)
    return adversarial + information, torch.cat([adversarial.detach()[None], nlls])


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


# -- Triton --------------------------------------------------------------------------------------
# A loss is a sum of terms: 0 is the adversarial one, 1 + i that of code i. Their kinds are numbers
# in a table on the device, the same for Triton and C++.

_NONE, _CATEGORICAL, _FIXED, _LEARNED, _BERNOULLI, _ADVERSARIAL = range(6)


@jit
def _softplus(x):
    """softplus(x) = log(1 + e^x) and its derivative, the sigmoid of x."""
    e = tl.exp(-tl.abs(x))
    sigmoid = tl.where(x < 0.0, e, 1.0) / (1.0 + e)
    # log(1 + e) = 2 atanh(e / (2 + e)), by its series: exact to rounding also where e is tiny.
    s = e / (2.0 + e)
    z = s * s
    series = 1.0 / 11.0 + z * (1.0 / 13.0 + z * (1.0 / 15.0))
    series = 1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * series))
    series = 1.0 + z * (1.0 / 3.0 + z * series)
    return tl.where(x < 0.0, 0.0, x) + 2.0 * s * series, sigmoid


@jit
def _mi_loss_kernel(
    q_params_ptr,  # (rows, columns), any float
    logits_ptr,  # (rows,) or (2, rows): real, fake; like q_params; or None
    values_ptr,  # (rows, terms - 1) float32
    table_ptr,  # (terms, 3) int32: kind, first column, width
    weights_ptr,  # (terms,) float32
    counter_ptr,  # (1,) int32: 0 between launches
    partials_ptr,  # (parts, terms) float32: sums over a part of the rows
    grads_ptr,  # (rows * columns + logits,) float32
    means_ptr,  # (terms,) float32
    total_ptr,  # (1,) float32
    rows,
    columns,
    terms,
    LOG_SIGMA_BOUND: tl.constexpr,
    BOTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
):
    """One program per term and part of the rows; the last to finish adds the parts up, in order."""
    part, term = tl.program_id(0), tl.program_id(1)
    kind = tl.load(table_ptr + 3 * term)
    first = tl.load(table_ptr + 3 * term + 1)
    width = tl.load(table_ptr + 3 * term + 2)
    batch = (rows * tl.full((), 1, tl.int32)).to(tl.float32)  # a batch of 1 is a constant
    scale = tl.load(weights_ptr + term) / batch
    row = part * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = row < rows
    at = row.to(tl.int64) * columns + first
    nll = tl.zeros((BLOCK_ROWS,), tl.float32)
    value = tl.zeros((BLOCK_ROWS,), tl.float32)
    if term > 0:
        value += tl.load(values_ptr + row * (terms - 1) + (term - 1), mask=inside, other=0.0)
    if kind == 1:  # categorical
        column = tl.arange(0, BLOCK_COLUMNS)
        here = (column < width)[None, :]
        mask = inside[:, None] & here
        tile = at[:, None] + column[None, :]
        l = tl.load(q_params_ptr + tile, mask=mask, other=0.0).to(tl.float32)  # noqa: E741
        l = tl.where(here, l, float("-inf"))  # noqa: E741
        largest = tl.max(l, 1)
        e = tl.exp(l - largest[:, None])
        total = tl.sum(e, 1)
        chosen = column[None, :].to(tl.float32) == value[:, None]
        # No column is that of a NaN, a fraction or an index out of range: 0 / 0.
        count = tl.sum(tl.where(chosen & here, 1.0, 0.0), 1)
        distance = largest - tl.sum(tl.where(chosen & here, l, 0.0), 1)
        valid = (count / count)[:, None]
        nll += (tl.log(total) + distance) * (count / count)
        d = e / total[:, None] - tl.where(chosen, valid, 0.0)
        tl.store(grads_ptr + tile, scale * d * valid, mask=mask)
    if (kind == 2) | (kind == 3):  # Gaussian with sigma fixed, learned
        m = tl.load(q_params_ptr + at, mask=inside, other=0.0).to(tl.float32)
        learned = tl.where(kind == 3, inside, False)
        s = tl.load(q_params_ptr + at + 1, mask=learned, other=0.0).to(tl.float32)
        # b tanh(s / b), with tanh(x) = (1 - e^-2x) / (1 + e^-2x); 0 where s isn't there
        e = tl.exp(tl.abs(s) * (-2.0 / LOG_SIGMA_BOUND))
        magnitude = (1.0 - e) / (1.0 + e)
        log_sigma = LOG_SIGMA_BOUND * tl.where(s < 0.0, -magnitude, magnitude)
        inverse = tl.exp(-log_sigma)
        error = (value - m) * inverse
        nll += 0.5 * error * error + log_sigma + 0.9189385332046727  # log(2 pi) / 2
        tl.store(grads_ptr + at, -scale * error * inverse, mask=inside)
        slope = 1.0 - magnitude * magnitude
        tl.store(grads_ptr + at + 1, scale * (1.0 - error * error) * slope, mask=learned)
    if kind == 4:  # Bernoulli
        logit = tl.load(q_params_ptr + at, mask=inside, other=0.0).to(tl.float32)
        loss, sigmoid = _softplus(-logit)
        nll += loss + (1.0 - value) * logit  # softplus(l) - c l without its cancellation for c = 1
        tl.store(grads_ptr + at, scale * ((1.0 - value) - sigmoid), mask=inside)
    if logits_ptr is not None:
        if kind == 5:  # adversarial
            logit = tl.load(logits_ptr + row, mask=inside, other=0.0).to(tl.float32)
            loss, sigmoid = _softplus(-logit)
            nll += loss
            logit_grads_ptr = grads_ptr + tl.cast(rows, tl.int64) * columns + row
            tl.store(logit_grads_ptr, -scale * sigmoid, mask=inside)
            if BOTH:
                logit = tl.load(logits_ptr + rows + row, mask=inside, other=0.0).to(tl.float32)
                loss, sigmoid = _softplus(logit)
                nll += loss
                tl.store(logit_grads_ptr + rows, scale * sigmoid, mask=inside)
    tl.store(partials_ptr + part * terms + term, tl.sum(tl.where(inside, nll, 0.0), 0))

    parts = tl.num_programs(0)
    tl.debug_barrier()  # all of this program's stores come before its ticket
    ticket = tl.atomic_add(counter_ptr, 1, sem="acq_rel")
    if ticket == parts * tl.num_programs(1) - 1:
        index = tl.arange(0, BLOCK_TERMS)
        present = index < terms
        sums = tl.zeros((BLOCK_TERMS,), tl.float32)
        for start in range(0, parts, BLOCK_PARTS):
            p = start + tl.arange(0, BLOCK_PARTS)
            mask = (p < parts)[:, None] & present[None, :]
            tile = partials_ptr + p[:, None] * terms + index[None, :]
            sums += tl.sum(tl.load(tile, mask=mask, other=0.0), 0)
        means = sums / batch
        tl.store(means_ptr + index, means, mask=present)
        weights = tl.load(weights_ptr + index, mask=present, other=0.0)
        tl.store(total_ptr, tl.sum(tl.where(present, weights * means, 0.0), 0))
        tl.store(counter_ptr, 0)


# -- Launchers -----------------------------------------------------------------------------------


class _Table(NamedTuple):
    """What a kernel reads of the codes, on its device."""

    terms: Tensor  # (terms, 3) int32: kind, first column, width
    weights: Tensor  # (terms,) of the accumulator's dtype
    counter: Tensor  # (1,) int32, 0 between launches


@functools.cache  # for good: a CUDA graph has the addresses
def _table(
    kinds: tuple[int, ...],
    widths: tuple[int, ...],
    weights: tuple[float, ...],
    adversarial: bool,
    dtype: torch.dtype,
    device: torch.device,
    stream: int,
) -> _Table:
    """Copied to the device once. Launches of one stream share a counter; streams do not."""
    rows, first = [(_ADVERSARIAL if adversarial else _NONE, 0, 0)], 0
    for kind, width in zip(kinds, widths, strict=True):
        rows.append((kind, first, width))
        first += width
    return _Table(
        torch.tensor(rows, dtype=torch.int32, device=device),
        torch.tensor((1.0, *weights), dtype=dtype, device=device),
        torch.zeros(1, dtype=torch.int32, device=device),
    )


Results = tuple[Tensor, Tensor, Tensor]  # total (), means (terms,), grads (numbers of both inputs,)


def _empty_results(logits: Tensor | None, q_params: Tensor, kinds: Sequence[int]) -> Results:
    dtype = accumulator(q_params.dtype)
    numbers = q_params.numel() + (0 if logits is None else logits.numel())
    return (
        q_params.new_empty((), dtype=dtype),
        q_params.new_empty((1 + len(kinds),), dtype=dtype),
        q_params.new_empty((numbers,), dtype=dtype),
    )


def _blocks(kinds: Sequence[int], widths: Sequence[int]) -> dict[str, int]:
    """Tiles of 1,024 numbers, 8 in each of 128 threads; a row of logits is never cut."""
    categories = [w for k, w in zip(kinds, widths, strict=True) if k == _CATEGORICAL]
    block_columns = power_of_two(max([16, *categories]))
    block_terms = power_of_two(1 + len(kinds))
    return {
        "BLOCK_ROWS": max(1, 1024 // block_columns),
        "BLOCK_COLUMNS": block_columns,
        "BLOCK_PARTS": max(1, 1024 // block_terms),
        "BLOCK_TERMS": block_terms,
        "num_warps": 4,
    }


def _triton(
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    weights: Sequence[float],
) -> Results:
    device = q_params.device
    stream = torch.cuda.current_stream(device).cuda_stream if q_params.is_cuda else 0
    table = _table(
        *(tuple(kinds), tuple(widths), tuple(weights)),
        *(logits is not None, torch.float32, device, stream),
    )
    total, means, grads = _empty_results(logits, q_params, kinds)
    rows, columns = q_params.shape
    blocks = _blocks(kinds, widths)
    parts, terms = -(-rows // blocks["BLOCK_ROWS"]), 1 + len(kinds)
    partials = q_params.new_empty((parts, terms), dtype=torch.float32)
    launch(
        _mi_loss_kernel,
        (parts, terms),
        *(q_params, logits, values, table.terms, table.weights, table.counter),
        *(partials, grads, means, total, rows, columns, terms),
        LOG_SIGMA_BOUND=LOG_SIGMA_BOUND,
        BOTH=logits is not None and logits.shape[0] > rows,
        **blocks,
    )
    return total, means, grads


_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_FLOATS = (*NATIVE_DTYPES, torch.float16)
_CPU = torch.device("cpu")


def _native(
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    weights: Sequence[float],
) -> Results:
    dtype = accumulator(q_params.dtype)
    table = _table(
        tuple(kinds), tuple(widths), tuple(weights), logits is not None, dtype, _CPU, stream=0
    )
    total, means, grads = _empty_results(logits, q_params, kinds)
    rows, columns = q_params.shape
    terms = 1 + len(kinds)
    # A function of the shape alone, so that results don't depend on the number of threads.
    parts = 1 if rows * columns < 1 << 15 else min(16, rows)
    bad = NATIVE.mi_loss(
        NATIVE_DTYPES[q_params.dtype],
        *(rows, columns, 0 if logits is None else logits.shape[0], terms, parts, LOG_SIGMA_BOUND),
        *(0 if logits is None else logits.data_ptr(), q_params.data_ptr(), values.data_ptr()),
        *(table.terms.data_ptr(), table.weights.data_ptr()),
        *(grads.data_ptr(), means.data_ptr(), total.data_ptr()),
    )
    if bad >= 0:
        name = "mi_loss" if logits is None else "g_loss" if logits.shape[0] == rows else "d_loss"
        raise _no_category(name, values, bad, widths)
    return total, means, grads


def _no_category(name: str, values: Tensor, index: int, widths: Sequence[int]) -> ValueError:
    row, code = divmod(index, len(widths))
    return ValueError(
        f"{name}: values[{row}, {code}] is {values[row, code].item():g}; "
        f"the code's categories are the integers 0 to {widths[code] - 1}"
    )


# -- Registration --------------------------------------------------------------------------------


def _fake(impl: Impl) -> Callable[..., Results]:
    def fake(logits, q_params, values, kinds, widths, weights):
        return _empty_results(logits, q_params, kinds)

    return fake


register(
    "mi_loss(Tensor? logits, Tensor q_params, Tensor values, int[] kinds, int[] widths, "
    "float[] weights) -> (Tensor, Tensor, Tensor)",
    native=_native,
    triton=_triton,
    fake=_fake,
)


# -- The op --------------------------------------------------------------------------------------


class _Codes(NamedTuple):
    """Codes and weights as the op takes them."""

    kinds: tuple[int, ...]
    widths: tuple[int, ...]
    weights: tuple[float, ...]
    columns: int  # of q_params


@functools.lru_cache(maxsize=256)
def _read(name: str, codes: tuple[Code, ...], weights: tuple[float, ...]) -> _Codes:
    if len(codes) != len(weights):
        raise ValueError(f"{name}: weights has {len(weights)} numbers for {len(codes)} codes")
    kinds, widths = [], []
    for code, weight in zip(codes, weights, strict=True):
        if not abs(weight) < math.inf:
            raise ValueError(f"{name}: weights has a {weight}; finite numbers work")
        if not code.regularized:
            kind = _NONE
        elif code.is_discrete:
            kind = _CATEGORICAL if code.kind == "categorical" else _BERNOULLI
        else:
            kind = _LEARNED if code.std == "learned" else _FIXED
        kinds.append(kind)
        widths.append(code.q_width)
    return _Codes(tuple(kinds), tuple(widths), tuple(float(w) for w in weights), sum(widths))


class MiLossFunction(torch.autograd.Function):
    """Keeps the gradients of the total, which the launch has computed with it."""

    @staticmethod
    def forward(
        ctx, logits: Tensor | None, q_params: Tensor, values: Tensor, codes: _Codes, impl: Impl
    ) -> tuple[Tensor, Tensor]:
        total, means, grads = op("mi_loss", impl, q_params)(
            logits, q_params, values, codes.kinds, codes.widths, codes.weights
        )
        ctx.save_for_backward(grads)
        ctx.settings = q_params.shape, q_params.dtype
        ctx.mark_non_differentiable(means)
        ctx.set_materialize_grads(False)
        return total, means

    @staticmethod
    @once_differentiable
    def backward(ctx, dtotal: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        (grads,) = ctx.saved_tensors
        shape, dtype = ctx.settings
        # One launch for both inputs, which rounds after the scale and not before.
        scaled = torch.empty_like(grads, dtype=dtype)
        torch.mul(grads, dtotal, out=scaled)
        numbers, dlogits = shape.numel(), None
        if scaled.numel() > numbers:
            scaled, dlogits = scaled.split_with_sizes((numbers, scaled.numel() - numbers))
        return dlogits, scaled.view(shape), None, None, None


def mi_loss(
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Weighted NLL of the codes, and each code's own; its gradient in the same launch.

    Args:
        q_params: (B, sum of the codes' ``q_width``), float32, bfloat16, float16 or float64. The
            arithmetic is float32 (float64 if this is).
        values: (B, len(codes)) as drawn, float32 or float64; a category is its index. A category
            that is no integer in [0, K) raises on the CPU; on a GPU, which would have to wait for
            it, loss and gradient of that code are NaN.
        codes: the codes in order; one that isn't regularised has no columns in ``q_params``.
        weights: lambda per code.
        impl: see ``dispatch.choose``.

    Tensors of any strides do; contiguous ones need no copy. The first call with a combination of
    codes, weights, device and stream copies a table to the device, so make it before a CUDA graph
    is captured. Two graphs captured on one stream must not be replayed at the same time.

    Returns:
        The weighted sum, a scalar; and the NLL per code, (len(codes),), in nats, detached, 0 for a
        code that isn't regularised. Both float32 (float64 if ``q_params`` is).

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    total, terms = _loss("mi_loss", None, q_params, values, codes, weights, impl)
    return total, terms[1:]


def d_loss(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """D's whole objective in one launch: mean softplus(-real) + mean softplus(fake) + mi_loss.

    Args:
        logits: (2 B,) of D, on the real images, then on the fakes; of ``q_params``' dtype.
        q_params, values, codes, weights, impl: see ``mi_loss``.

    Returns:
        The total, a scalar; and its terms, (1 + len(codes),), in nats, detached: the adversarial
        one, then each code's NLL before its weight.

    Raises:
        as ``mi_loss``.
    """
    return _loss("d_loss", logits, q_params, values, codes, weights, impl)


def g_loss(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """G's whole objective in one launch: mean softplus(-logits) + mi_loss.

    Args:
        logits: (B,) of D on the fakes; of ``q_params``' dtype.
        q_params, values, codes, weights, impl: see ``mi_loss``.

    Returns:
        as ``d_loss``.

    Raises:
        as ``mi_loss``.
    """
    return _loss("g_loss", logits, q_params, values, codes, weights, impl)


def _loss(
    name: str,
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Sequence[float],
    impl: Impl,
) -> tuple[Tensor, Tensor]:
    # Dynamo follows Python, but not into a cache.
    read = _read.__wrapped__ if torch.compiler.is_compiling() else _read
    known = read(name, tuple(codes), tuple(weights))
    _check(name, logits, q_params, values, known)
    impl = choose(name, impl, q_params, native=NATIVE_DTYPES, triton=_TRITON_DTYPES)
    values = values.to(accumulator(q_params.dtype))
    if impl != "reference":
        if logits is not None:
            logits = logits.contiguous()
        return MiLossFunction.apply(logits, q_params.contiguous(), values.contiguous(), known, impl)
    if q_params.device == _CPU and not torch.compiler.is_compiling():
        _check_categories(name, values, known)
    if logits is None:
        total, nlls = mi_loss_reference(q_params, values, codes, weights)
        return total, F.pad(nlls, (1, 0))
    reference = d_loss_reference if name == "d_loss" else g_loss_reference
    return reference(logits, q_params, values, codes, weights)


def _check_categories(name: str, values: Tensor, codes: _Codes) -> None:
    width = values.new_tensor(codes.widths)
    categorical = torch.tensor(codes.kinds) == _CATEGORICAL
    valid = (values >= 0) & (values < width) & (values == values.floor()) | ~categorical
    if not valid.all():
        raise _no_category(name, values, int(valid.flatten().int().argmin()), codes.widths)


def _check(
    name: str, logits: Tensor | None, q_params: Tensor, values: Tensor, codes: _Codes
) -> None:
    count = len(codes.kinds)
    if q_params.dim() != 2 or q_params.shape[0] == 0 or q_params.shape[1] != codes.columns:
        raise ValueError(
            f"{name}: q_params is {tuple(q_params.shape)}; (B, {codes.columns}) fits the codes"
        )
    if q_params.dtype not in _FLOATS:
        raise ValueError(
            f"{name}: q_params is {q_params.dtype}; it must be a float of 16, 32 or 64 bits"
        )
    batch = q_params.shape[0]
    if values.shape != (batch, count):
        raise ValueError(
            f"{name}: values is {tuple(values.shape)}; ({batch}, {count}) fits q_params and codes"
        )
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: values is {values.dtype}; float32 and float64 work")
    if values.requires_grad:
        raise ValueError(f"{name}: values requires grad, and has none here; values.detach() works")
    if values.device != q_params.device:
        raise ValueError(f"{name}: values is on {values.device}, and q_params on {q_params.device}")
    if logits is None:
        return
    length = 2 * batch if name == "d_loss" else batch
    if logits.shape != (length,):
        raise ValueError(
            f"{name}: logits is {tuple(logits.shape)}; ({length},) fits q_params' batch of {batch}"
        )
    if logits.dtype != q_params.dtype:
        raise ValueError(
            f"{name}: logits is {logits.dtype}, and q_params {q_params.dtype}; one dtype works"
        )
    if logits.device != q_params.device:
        raise ValueError(f"{name}: logits is on {logits.device}, and q_params on {q_params.device}")
