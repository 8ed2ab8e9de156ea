"""Noise and latent codes from counter-based random numbers.

Sample n of a run draws column j from word j mod 4 of
Philox(seed, counter = (n low, n high, j div 4, stream)):

    uniform      c = 2 u - 1                    u = (word + 0.5) / 2^32
    categorical  c = floor(word K / 2^32)
    Bernoulli    c = word >= 2^31
    Gaussian     Box-Muller on columns (j, j + 1), j even: the pair (r cos t, r sin t),
                 r = sqrt(-2 log u1), t = 2 pi u2

The noise has the first columns. The codes follow, one column each, from the next even column on;
a Gaussian code has an even-aligned pair to itself and takes its cosine. No word serves two draws,
so all draws are independent, and a batch is the same whatever way it is split among devices.
(Priors: paper, section 7 and appendix C.)

G's input is the noise and then the codes in order, a categorical one as a one-hot vector.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, Impl, choose, op, register
from fastinfogan.kernels.philox import STREAM_LATENTS, halves, philox, philox_reference
from fastinfogan.kernels.triton_module import jit, launch, power_of_two, tl


def latents_reference(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: int | Tensor,
    offset: int | Tensor,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Draw samples ``offset`` to ``offset + batch - 1`` in plain torch.

    Args:
        seed, offset: integers, or int64 tensors of shape (1,) on ``device``.

    Returns:
        G's input (batch, noise + the codes' widths), ``dtype``; and code values
        (batch, len(codes)), float32, a category as its index.
    """
    columns, words_used = _columns(noise, codes)
    blocks = -(-words_used // 4)
    sample = (offset + torch.arange(batch, device=device)).unsqueeze(1)
    block = torch.arange(blocks, device=device).unsqueeze(0)
    stream = torch.full_like(block, STREAM_LATENTS)
    words = torch.stack(
        philox_reference(seed, *halves(sample), block, stream), dim=2
    )  # (batch, blocks, 4)
    u = ((words.double() + 0.5) * 2.0**-32).float().clamp_max(1.0 - 2.0**-24)
    radius = torch.sqrt(-2.0 * torch.log(u[..., 0::2]))
    angle = 2.0 * math.pi * u[..., 1::2]
    normal = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=3)

    words, u, normal = (t.reshape(batch, 4 * blocks) for t in (words, u, normal))
    inputs, values = [normal[:, :noise]], []
    for j, code in zip(columns, codes, strict=True):
        if code.kind == "categorical":
            value = (words[:, j] * code.categories) >> 32
            inputs.append(torch.nn.functional.one_hot(value, code.categories))
        elif code.kind == "bernoulli":
            value = words[:, j] >> 31
        elif code.kind == "uniform":
            value = 2.0 * u[:, j] - 1.0
        else:
            value = normal[:, j]
        values.append(value.float())
        if code.kind != "categorical":
            inputs.append(values[-1].unsqueeze(1))
    return torch.cat([part.to(dtype) for part in inputs], dim=1), torch.stack(values, dim=1)


def _columns(noise: int, codes: Sequence[Code]) -> tuple[list[int], int]:
    """The first column of words of each code, and how many columns there are in all."""
    columns, free = [], noise + noise % 2
    for code in codes:
        pair = code.kind == "gaussian"
        free += free % 2 if pair else 0
        columns.append(free)
        free += 2 if pair else 1
    return columns, free


# -- Triton --------------------------------------------------------------------------------------


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
    entry_ptr,  # (3,) int64: kind, column of words, column of inputs
    seed,
    sample,
    inside,
    STREAM: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    kind, at = tl.load(entry_ptr), tl.load(entry_ptr + 1)
    inputs_ptrs += tl.load(entry_ptr + 2)
    w0, w1, w2, w3 = philox(seed, sample, sample >> 32, at // 4, STREAM)
    word = tl.where(at % 4 < 2, tl.where(at % 4 == 0, w0, w1), tl.where(at % 4 == 2, w2, w3))
    normal, _ = _normal_pair(word, tl.where(at % 4 == 0, w1, w3))  # a pair begins at 0 or 2
    category = ((word.to(tl.int64) * kind) >> 32).to(tl.float32)
    value = 2.0 * _uniform(word) - 1.0
    value = tl.where(kind == -1, normal, value)
    value = tl.where(kind == -2, (word >> 31).to(tl.float32), value)
    value = tl.where(kind > 0, category, value)
    tl.store(values_ptrs, value, mask=inside)
    columns = tl.maximum(kind, 1)
    for start in range(0, columns, BLOCK_COLUMNS):
        column = (start + tl.arange(0, BLOCK_COLUMNS))[None, :]
        one_hot = (column == value[:, None]).to(tl.float32)
        shown = tl.where(kind > 0, one_hot, value[:, None])
        mask = inside[:, None] & (column < columns)
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
    table_ptr,  # (codes, 3) int64: kind, column of words, column of inputs
    shift,
    batch,
    noise,
    codes,
    width,
    STREAM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COUNTERS: tl.constexpr,
):
    """Programs (i, j): rows of block i, and of them code j or, past the codes, a block of noise."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    part = tl.program_id(1)
    seed = tl.load(seed_ptr)
    sample = tl.load(offset_ptr) + shift + row
    inside = row < batch
    rows = inputs_ptr + row[:, None] * width
    if part < codes:
        values = values_ptr + row * codes + part
        entry = table_ptr + 3 * part
        _draw_code(rows, values, entry, seed, sample, inside, STREAM, 4 * BLOCK_COUNTERS)
    else:
        block = (part - codes) * BLOCK_COUNTERS + tl.arange(0, BLOCK_COUNTERS)
        _draw_noise(rows, block, noise, seed, sample, inside, STREAM)


# -- Launchers -----------------------------------------------------------------------------------
# ``table`` has three numbers per code: its kind (0 uniform, -1 Gaussian, -2 Bernoulli, or K), its
# column of words, and its column of G's input.

_KINDS = {"uniform": 0, "gaussian": -1, "bernoulli": -2}


def _table(noise: int, codes: Sequence[Code]) -> tuple[list[int], int, int]:
    """The table, the columns of words, and the width of G's input."""
    columns, words = _columns(noise, codes)
    table, width = [], noise
    for code, column in zip(codes, columns, strict=True):
        table += [_KINDS.get(code.kind, code.categories), column, width]
        width += code.input_width
    return table, words, width


@functools.cache  # for good: a CUDA graph has the address
def _on_device(table: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(table, device=device)


def _empty(
    seed: Tensor, table: list[int], batch: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    values = seed.new_empty((batch, len(table) // 3), dtype=torch.float32)
    return seed.new_empty((batch, width), dtype=dtype), values


def _triton_latents(
    seed: Tensor,
    offset: Tensor,
    shift: int,
    batch: int,
    noise: int,
    table: list[int],
    words: int,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    inputs, values = _empty(seed, table, batch, width, dtype)
    codes = values.shape[1]
    # 256 counters, two in each of 128 threads: 1,024 numbers.
    counters = max(4, min(32, power_of_two(-(-noise // 4))))
    rows = 256 // counters
    launch(
        _latents_kernel,
        (-(-batch // rows), codes + -(-noise // (4 * counters))),
        *(inputs, values, seed, offset, _on_device(tuple(table), seed.device)),
        *(shift, batch, noise, codes, width),
        STREAM=STREAM_LATENTS,
        BLOCK_ROWS=rows,
        BLOCK_COUNTERS=counters,
        num_warps=4,
    )
    return inputs, values


_DTYPES = (*NATIVE_DTYPES, torch.float16)


def _native_latents(
    seed: Tensor,
    offset: Tensor,
    shift: int,
    batch: int,
    noise: int,
    table: list[int],
    words: int,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    stored = dtype if dtype in NATIVE_DTYPES else torch.float32
    inputs, values = _empty(seed, table, batch, width, stored)
    NATIVE.latents(
        *(NATIVE_DTYPES[stored], seed.data_ptr(), offset.data_ptr(), shift, batch, noise),
        *(_on_device(tuple(table), seed.device).data_ptr(), values.shape[1], words, width),
        *(inputs.data_ptr(), values.data_ptr()),
    )
    return inputs.to(dtype), values


# -- Registration --------------------------------------------------------------------------------


def _fake_latents(impl: Impl) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(seed, offset, shift, batch, noise, table, words, width, dtype):
        return _empty(seed, table, batch, width, dtype)

    return fake


register(
    "latents(Tensor seed, Tensor offset, SymInt shift, SymInt batch, int noise, int[] table, "
    "int words, int width, ScalarType dtype) -> (Tensor, Tensor)",
    native=_native_latents,
    triton=_triton_latents,
    fake=_fake_latents,
)


# -- The op --------------------------------------------------------------------------------------

_MOST_NOISE, _MOST_CODES, _MOST_CATEGORIES = 4096, 64, 1024  # that the tests cover


def latents(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: Tensor,
    offset: Tensor,
    *,
    shift: int = 0,
    dtype: torch.dtype = torch.float32,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Draw samples ``offset + shift`` to ``offset + shift + batch - 1`` of the seed's stream.

    The host reads neither seed nor offset, so that a CUDA graph draws what they hold when it is
    replayed. (One call must come before the capture: it puts the table of the codes on the device.)

    Args:
        noise: columns of noise, 0 to 4,096.
        codes: 1 to 64 codes, categorical ones of 2 to 1,024 categories.
        batch: samples, 1 or more.
        seed, offset: int64 of shape (1,), on the device where the results are wanted; meant to be
            0 or more, which isn't checked (a negative one counts as the 64 bits that it has).
        shift: added to the offset: a rank's share, or an iteration's second draw.
        dtype: of the inputs: float32, bfloat16, float16 or float64. Draws are made in float32 and
            rounded once.
        impl: see ``dispatch.choose``.

    Returns:
        G's input (batch, noise + the codes' widths), ``dtype``: the noise, then the codes in order,
        a categorical one as a one-hot vector. And the codes' values (batch, len(codes)), float32,
        a category as its index.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check(noise, codes, batch, seed, offset, dtype)
    impl = choose("latents", impl, seed, native=(torch.int64,), triton=(torch.int64,))
    if impl == "reference":
        return latents_reference(noise, codes, batch, seed, offset + shift, seed.device, dtype)
    table, words, width = _table(noise, codes)
    return op("latents", impl, seed)(seed, offset, shift, batch, noise, table, words, width, dtype)


def _check(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: Tensor,
    offset: Tensor,
    dtype: torch.dtype,
) -> None:
    if not 0 <= noise <= _MOST_NOISE:
        raise ValueError(f"latents: noise={noise}; 0 to {_MOST_NOISE} work")
    if not 1 <= len(codes) <= _MOST_CODES:
        raise ValueError(f"latents: codes has {len(codes)} of them; 1 to {_MOST_CODES} work")
    for i, code in enumerate(codes):
        if code.kind == "categorical":
            if not 2 <= code.categories <= _MOST_CATEGORIES:
                raise ValueError(
                    f"latents: codes[{i}] has {code.categories} categories; "
                    f"2 to {_MOST_CATEGORIES} work"
                )
        elif code.kind not in _KINDS:
            raise ValueError(
                f"latents: codes[{i}] is {code.kind!r}; categorical, {', '.join(_KINDS)} work"
            )
    if batch < 1:
        raise ValueError(f"latents: batch={batch}; 1 or more work")
    for name, tensor in (("seed", seed), ("offset", offset)):
        if tensor.dtype != torch.int64 or tensor.shape != (1,):
            raise ValueError(
                f"latents: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
                "it must be torch.int64 of shape (1,)"
            )
    if offset.device != seed.device:
        raise ValueError(f"latents: offset is on {offset.device}, and seed on {seed.device}")
    if dtype not in _DTYPES:
        raise ValueError(f"latents: dtype={dtype}; a float of 16, 32 or 64 bits works")
