"""latents on a GPU: Triton kernels and their launcher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.codes import KINDS
from fastinfogan.kernels.latents.layout import empty_results, table_on_device
from fastinfogan.kernels.philox import STREAM_LATENTS
from fastinfogan.kernels.triton_math import philox
from fastinfogan.kernels.triton_module import await_previous, constexpr, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two

_FEW = 66  # programs: half as many as an H100 has SMs

_CATEGORICAL = constexpr(KINDS["categorical"].number)
_UNIFORM = constexpr(KINDS["uniform"].number)
_GAUSSIAN = constexpr(KINDS["gaussian"].number)
_BERNOULLI = constexpr(KINDS["bernoulli"].number)


@jit
def _uniform(word):
    """(word + 0.5) / 2^32, below 1, correctly rounded: only the last addition rounds."""
    high, low = (word >> 16).to(tl.float32), (word & 0xFFFF).to(tl.float32)
    return tl.minimum((high * 65536.0 + (low + 0.5)) * (1.0 / 4294967296.0), 1.0 - 1.0 / 16777216.0)


@jit
def _normal_pair(word1, word2):
    """Two independent normal numbers.

    Sine and cosine are polynomials (interpolated in Chebyshev's points), because tl.cos reduces
    large angles in local memory. The angle is quarter + f quarter turns, |f| <= 1/2, exactly.
    """
    radius = tl.sqrt(-2.0 * tl.log(_uniform(word1)))
    turns = 4.0 * _uniform(word2)
    quarter = (turns + 0.5).to(tl.int32)
    f = turns - quarter.to(tl.float32)
    z = f * f
    s = ((1.5820629e-4 * z - 4.6812663e-3) * z + 7.9692583e-2) * z - 6.4596410e-1
    s = (s * z + 1.5707963) * f  # sin(pi f / 2)
    c = ((9.0362806e-4 * z - 2.0860070e-2) * z + 2.5366920e-1) * z - 1.2337005
    c = c * z + 1.0  # cos(pi f / 2)
    odd = (quarter & 1) != 0
    along, across = tl.where(odd, s, c), tl.where(odd, c, s)
    first = tl.where(((quarter + 1) & 2) != 0, -along, along)
    second = tl.where((quarter & 2) != 0, -across, across)
    return radius * first, radius * second


@jit
def _draw_code(
    inputs_ptrs,  # (BLOCK_ROWS, 1): rows of the inputs
    values_ptrs,  # (BLOCK_ROWS,): this code's values
    entry_ptr,  # (4,) int64: kind, width, column of words, column of inputs
    seed,
    sample,
    inside,
    STREAM: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    kind, width = tl.load(entry_ptr), tl.load(entry_ptr + 1)
    at = tl.load(entry_ptr + 2)
    inputs_ptrs += tl.load(entry_ptr + 3)
    w0, w1, w2, w3 = philox(seed, sample, sample >> 32, at // 4, STREAM)
    word = tl.where(at % 4 < 2, tl.where(at % 4 == 0, w0, w1), tl.where(at % 4 == 2, w2, w3))
    normal, _ = _normal_pair(word, tl.where(at % 4 == 0, w1, w3))  # a pair begins at 0 or 2
    category = ((word.to(tl.int64) * width) >> 32).to(tl.float32)
    value = tl.where(kind == _CATEGORICAL, category, 0.0)
    value = tl.where(kind == _UNIFORM, 2.0 * _uniform(word) - 1.0, value)
    value = tl.where(kind == _GAUSSIAN, normal, value)
    value = tl.where(kind == _BERNOULLI, (word >> 31).to(tl.float32), value)
    tl.store(values_ptrs, value, mask=inside)
    for start in range(0, width, BLOCK_COLUMNS):
        column = (start + tl.arange(0, BLOCK_COLUMNS))[None, :]
        one_hot = (column == value[:, None]).to(tl.float32)
        shown = tl.where(kind == _CATEGORICAL, one_hot, value[:, None])
        mask = inside[:, None] & (column < width)
        tl.store(inputs_ptrs + column, shown.to(inputs_ptrs.dtype.element_ty), mask=mask)


@jit
def _draw_noise(
    inputs_ptrs,  # (BLOCK_ROWS, 1): rows of the inputs
    block,  # (BLOCK_COUNTERS,): four columns each
    noise,
    seed,
    sample,
    inside,
    STREAM: tl.constexpr,
):
    dtype = inputs_ptrs.dtype.element_ty
    sample, inside, column = sample[:, None], inside[:, None], 4 * block[None, :]
    w0, w1, w2, w3 = philox(seed, sample, sample >> 32, block[None, :], STREAM)
    n0, n1 = _normal_pair(w0, w1)
    n2, n3 = _normal_pair(w2, w3)
    tl.store(inputs_ptrs + column, n0.to(dtype), mask=inside & (column < noise))
    tl.store(inputs_ptrs + column + 1, n1.to(dtype), mask=inside & (column + 1 < noise))
    tl.store(inputs_ptrs + column + 2, n2.to(dtype), mask=inside & (column + 2 < noise))
    tl.store(inputs_ptrs + column + 3, n3.to(dtype), mask=inside & (column + 3 < noise))


@jit
def _latents_kernel(
    inputs_ptr,  # (batch, width), any float
    values_ptr,  # (batch, codes) float32
    seed_ptr,  # (1,) int64
    offset_ptr,  # (1,) int64
    table_ptr,  # (codes, 4) int64: kind, width, column of words, column of inputs
    shift,
    batch,
    noise,
    codes,
    width,
    STREAM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COUNTERS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Programs (i, j): rows of block i, and of them code j or, past the codes, a block of noise."""
    await_previous(EARLY)
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    part = tl.program_id(1)
    seed = tl.load(seed_ptr)
    sample = tl.load(offset_ptr) + shift + row
    inside = row < batch
    rows = inputs_ptr + row[:, None] * width
    if part < codes:
        values = values_ptr + row * codes + part
        entry = table_ptr + 4 * part
        _draw_code(rows, values, entry, seed, sample, inside, STREAM, BLOCK_COLUMNS)
    else:
        block = (part - codes) * BLOCK_COUNTERS + tl.arange(0, BLOCK_COUNTERS)
        _draw_noise(rows, block, noise, seed, sample, inside, STREAM)


def latents(
    seed: Tensor,
    offset: Tensor,
    shift: int,
    batch: int,
    noise: int,
    table: Sequence[int],
    words: int,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """``latents`` as the registered op, on a GPU or interpreted; see ``layout.Layout``."""
    inputs, values = empty_results(seed, table, batch, width, dtype)
    codes = values.shape[1]
    # 256 counters, two in each of 128 threads: 1,024 numbers. One in each where programs are few.
    counters = max(4, min(32, power_of_two(-(-noise // 4))))
    parts, rows = codes + -(-noise // (4 * counters)), 256 // counters
    if parts * -(-batch // rows) <= _FEW:
        rows //= 2
    launch(
        _latents_kernel,
        (-(-batch // rows), parts),
        inputs,
        values,
        seed,
        offset,
        table_on_device(tuple(table), seed.device),
        shift,
        batch,
        noise,
        codes,
        width,
        STREAM=STREAM_LATENTS,
        BLOCK_ROWS=rows,
        BLOCK_COUNTERS=counters,
        BLOCK_COLUMNS=min(4 * counters, power_of_two(max(table[1::4]))),  # of the widest code
        num_warps=4,
    )
    return inputs, values
