"""Batch normalisation followed by a (leaky) ReLU.

For each channel, over the N values that the channel has in one group of the batch:

    mu    = sum(x) / N                 var = sum((x - mu)^2) / N
    x_hat = (x - mu) / sqrt(var + eps) y   = act(weight * x_hat + bias)
    act(u) = u if u > 0 else slope * u

Running statistics follow torch: r <- (1 - momentum) r + momentum s, with the unbiased variance
(N - 1 in the denominator). With ``groups=2`` the first and the second half of the batch are
normalised apart, as two calls would (the real and the fake images of D's update), and the running
statistics are updated by the first half, then by the second.

Backward, with g = dy act'(u), u = weight x_hat + bias, and sums over the same N values:

    dbias = sum(g)                     dweight = sum(g x_hat)
    dx    = weight / sqrt(var + eps) (g - dbias / N - x_hat dweight / N)

Either way one pass over memory gathers sums and a second applies them. Only x and two numbers per
channel are kept in between: u, and so the activation's derivative, is computed again.

(Ioffe and Szegedy 2015, algorithm 1; the order norm -> activation is that of the published InfoGAN
code.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

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


def bn_act_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
) -> Tensor:
    """Batchnorm and (leaky) ReLU in plain torch.

    Args:
        x: (B, C) or (B, C, H, W), any float dtype and memory format.
        weight, bias: (C,) scale and shift.
        running_mean, running_var: (C,) float32, updated in place when ``training``; None leaves
            no trace of the call (training only).
        slope: factor below zero; 0 is ReLU, 1 no activation at all.
        groups: 1 or 2 equal parts of the batch with statistics of their own.

    Returns:
        A tensor like ``x``.

    Raises:
        ValueError: ``groups`` doesn't divide the batch, or a channel has a single value.
    """
    if x.shape[0] % groups:
        raise ValueError(f"groups={groups} doesn't divide a batch of {x.shape[0]}")
    if not training:  # running statistics know no groups
        y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        return F.leaky_relu(y, slope)
    parts = [
        F.batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
        for part in x.chunk(groups)
    ]
    return F.leaky_relu(parts[0] if groups == 1 else torch.cat(parts), slope)


# -- Triton --------------------------------------------------------------------------------------
# Partials are sums over a part of the rows, as (count, mean, M2) going forward and as
# (count, sum of g, sum of g x_hat) going back, with g = dy act'(u). They are what ranks exchange.


@jit
def _combine(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    parts,
    group,
    groups,
    columns,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """Count, mean and M2 of a group, by the rule of Chan, Golub and LeVeque (1979)."""
    plane = groups * channels
    inside = columns < channels
    zero = columns.to(tl.float32) * 0.0
    count, mean, m2 = zero, zero, zero
    for start in range(0, parts, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < parts)[:, None] & inside[None, :]
        at = partials_ptr + part[:, None] * (3 * plane) + group * channels + columns[None, :]
        n = tl.load(at, mask=mask, other=0.0)
        means = tl.load(at + plane, mask=mask, other=0.0)
        n_here = tl.sum(n, 0)
        mean_here = tl.sum(n * means, 0) / tl.maximum(n_here, 1.0)
        d = tl.where(n > 0.0, means - mean_here[None, :], 0.0)
        m2_here = tl.sum(tl.load(at + 2 * plane, mask=mask, other=0.0) + n * d * d, 0)
        total = tl.maximum(count + n_here, 1.0)
        d = mean_here - mean
        mean += d * (n_here / total)
        m2 += m2_here + d * d * (count * n_here / total)
        count += n_here
    return count, mean, m2


@jit
def _sum(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    parts,
    group,
    groups,
    columns,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """The three sums of a group."""
    plane = groups * channels
    inside = columns < channels
    zero = columns.to(tl.float32) * 0.0
    count, total, product = zero, zero, zero
    for start in range(0, parts, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < parts)[:, None] & inside[None, :]
        at = partials_ptr + part[:, None] * (3 * plane) + group * channels + columns[None, :]
        count += tl.sum(tl.load(at, mask=mask, other=0.0), 0)
        total += tl.sum(tl.load(at + plane, mask=mask, other=0.0), 0)
        product += tl.sum(tl.load(at + 2 * plane, mask=mask, other=0.0), 0)
    return count, total, product


@jit
def _bn_act_partials_kernel(
    x_ptr,  # (groups, rows, channels), any float
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    rows,
    rows_per_part,
    channels,
    groups,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Welford's recurrence in every element of a tile; the tile's rows are merged at the end."""
    part, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, rows)
    x_ptr += group.to(tl.int64) * rows * channels
    mean = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    m2 = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    count = tl.zeros((BLOCK_ROWS,), tl.float32)
    for start in range(first, last, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < last)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        count += (row < last).to(tl.float32)
        d = tl.where(mask, x - mean, 0.0)
        mean += d * (1.0 / tl.maximum(count, 1.0))[:, None]
        m2 += d * (x - mean)
    n = tl.sum(count, 0)
    mean_all = tl.sum(count[:, None] * mean, 0) / tl.maximum(n, 1.0)
    d = mean - mean_all[None, :]
    m2_all = tl.sum(m2 + count[:, None] * d * d, 0)
    plane = groups * channels
    at = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(at, mean_all * 0.0 + n, mask=inside)
    tl.store(at + plane, mean_all, mask=inside)
    tl.store(at + 2 * plane, m2_all, mask=inside)


@jit
def _bn_act_forward_kernel(
    x_ptr,  # (groups, rows, channels), any float
    y_ptr,  # like x
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2; None in eval mode
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    running_mean_ptr,  # (channels,) float32, or None
    running_var_ptr,  # (channels,) float32, or None
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    parts,
    rows,
    channels,
    groups,
    slope,
    momentum,
    eps,
    TRAINING: tl.constexpr,
    UPDATE: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    if TRAINING:
        n, mean, m2 = _combine(partials_ptr, parts, group, groups, columns, channels, BLOCK_PARTS)
        rstd = 1.0 / tl.sqrt(m2 / tl.maximum(n, 1.0) + eps)  # n is 0 past the last channel
    else:
        mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        rstd = 1.0 / tl.sqrt(tl.load(running_var_ptr + columns, mask=inside, other=1.0) + eps)
    if block == 0:
        tl.store(stats_ptr + group * channels + columns, mean, mask=inside)
        tl.store(stats_ptr + (groups + group) * channels + columns, rstd, mask=inside)
        if UPDATE:
            if group == 0:  # one program, so that the groups come in order
                r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
                r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
                for g in range(groups):
                    n_g, mean_g, m2_g = _combine(
                        partials_ptr, parts, g, groups, columns, channels, BLOCK_PARTS
                    )
                    r_mean += momentum * (mean_g - r_mean)
                    r_var += momentum * (m2_g / tl.where(inside, n_g - 1.0, 1.0) - r_var)
                tl.store(running_mean_ptr + columns, r_mean, mask=inside)
                tl.store(running_var_ptr + columns, r_var, mask=inside)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    u = (x - mean[None, :]) * rstd[None, :] * weight[None, :] + bias[None, :]
    y = tl.where(u > 0.0, u, u * slope)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)


@jit
def _bn_act_backward_partials_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    rows,
    rows_per_part,
    channels,
    groups,
    slope,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    part, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, rows)
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    product = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    for start in range(first, last, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < last)[:, None] & inside[None, :]
        at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        x_hat = (x - mean[None, :]) * rstd[None, :]
        g = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
        total += g
        product += tl.where(mask, g * x_hat, 0.0)
    plane = groups * channels
    at = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(at, mean * 0.0 + tl.maximum(last - first, 0), mask=inside)
    tl.store(at + plane, tl.sum(total, 0), mask=inside)
    tl.store(at + 2 * plane, tl.sum(product, 0), mask=inside)


@jit
def _bn_act_backward_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    dx_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    own_ptr,  # (own_parts, 3, groups, channels) float32: this rank's partials
    partials_ptr,  # (parts, 3, groups, channels) float32: all ranks' partials
    dweight_ptr,  # (channels,) float32
    dbias_ptr,  # (channels,) float32
    own_parts,
    parts,
    rows,
    channels,
    groups,
    slope,
    TRAINING: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    if (block == 0) & (group == 0):
        dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        for g in range(groups):
            _, total, product = _sum(own_ptr, own_parts, g, groups, columns, channels, BLOCK_PARTS)
            dbias += total
            dweight += product
        tl.store(dbias_ptr + columns, dbias, mask=inside)
        tl.store(dweight_ptr + columns, dweight, mask=inside)
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
    x_hat = (x - mean[None, :]) * rstd[None, :]
    g_x = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
    if TRAINING:
        n, total, product = _sum(partials_ptr, parts, group, groups, columns, channels, BLOCK_PARTS)
        n = tl.maximum(n, 1.0)  # 0 past the last channel
        g_x -= (total / n)[None, :] + x_hat * (product / n)[None, :]
    dx = g_x * (weight * rstd)[None, :]
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)


# -- Launchers -----------------------------------------------------------------------------------


def _layout(x: Tensor, groups: int) -> tuple[int, int]:
    """Rows per group and channels of a tensor whose channels are adjacent in memory."""
    channels = x.shape[1]
    return x.numel() // channels // groups, channels


def _parts(impl: Impl, rows: int, channels: int) -> int:
    """Parts that the rows of a group are cut into.

    A function of the group's shape alone: results don't depend on the number of threads, nor on
    what else is in the batch.
    """
    if impl == "native":  # an even number, of at least a tile of rows and 16 K numbers each
        return max(1, min(64, 2 * (rows // 128), 2 * (rows * channels // 32768)))
    block_rows, block_channels = _tile(channels)
    across = -(-channels // block_channels)
    return max(1, min(64, 512 // across, -(-rows // block_rows)))


_BLOCK_PARTS = 8  # read at once; more of the 64 that a rank has at most make kernels spill


def _tile(channels: int) -> tuple[int, int]:
    """BLOCK_ROWS, BLOCK_CHANNELS: 1,024 numbers, 8 in each of 128 threads.

    (With 16 some kernels spill: the addresses alone are 64 bits each.)
    """
    block_channels = max(16, min(64, power_of_two(channels)))
    return 1024 // block_channels, block_channels


def _grid(by: int, channels: int, groups: int) -> tuple[int, int, int]:
    return -(-channels // _tile(channels)[1]), by, groups


def _tile_constants(channels: int) -> dict[str, int]:
    block_rows, block_channels = _tile(channels)
    # Left alone, ptxas aims at 72 registers and spills; with leave to take 128 it stays below.
    compiled = {"num_warps": 4, "maxnreg": 128}
    return {"BLOCK_ROWS": block_rows, "BLOCK_CHANNELS": block_channels, **compiled}


def _triton_partials(x: Tensor, groups: int) -> Tensor:
    rows, channels = _layout(x, groups)
    parts = _parts("triton", rows, channels)
    partials = x.new_empty((parts, 3, groups, channels), dtype=torch.float32)
    launch(
        _bn_act_partials_kernel,
        _grid(parts, channels, groups),
        *(x, partials, rows, -(-rows // parts), channels, groups),
        **_tile_constants(channels),
    )
    return partials


def _triton_forward(
    x: Tensor,
    partials: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    training: bool,
) -> tuple[Tensor, Tensor]:
    if training and partials is None:
        partials = _triton_partials(x, groups)
    rows, channels = _layout(x, groups)
    y = torch.empty_like(x)
    stats = x.new_empty((2, groups, channels), dtype=torch.float32)
    parts = 0 if partials is None else partials.shape[0]
    launch(
        _bn_act_forward_kernel,
        _grid(-(-rows // _tile(channels)[0]), channels, groups),
        *(x, y, partials, weight, bias, running_mean, running_var, stats),
        *(parts, rows, channels, groups, slope, momentum, eps),
        TRAINING=training,
        UPDATE=training and running_mean is not None,
        BLOCK_PARTS=_BLOCK_PARTS,
        **_tile_constants(channels),
    )
    return y, stats


def _triton_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    rows, channels = _layout(x, groups)
    parts = _parts("triton", rows, channels)
    partials = x.new_empty((parts, 3, groups, channels), dtype=torch.float32)
    launch(
        _bn_act_backward_partials_kernel,
        _grid(parts, channels, groups),
        *(dy, x, weight, bias, stats, partials, rows, -(-rows // parts), channels, groups, slope),
        **_tile_constants(channels),
    )
    return partials


def _triton_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stats: Tensor,
    own: Tensor | None,
    partials: Tensor | None,
    slope: float,
    groups: int,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if own is None:
        own = _triton_backward_partials(dy, x, weight, bias, stats, slope, groups)
    if partials is None:
        partials = own
    rows, channels = _layout(x, groups)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    own_parts, parts = own.shape[0], partials.shape[0]
    launch(
        _bn_act_backward_kernel,
        _grid(-(-rows // _tile(channels)[0]), channels, groups),
        *(dy, x, dx, weight, bias, stats, own, partials, dweight, dbias),
        *(own_parts, parts, rows, channels, groups, slope),
        TRAINING=training,
        BLOCK_PARTS=_BLOCK_PARTS,
        **_tile_constants(channels),
    )
    return dx, dweight, dbias


_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_DTYPES = {*NATIVE_DTYPES, *_TRITON_DTYPES}


def _native_partials(x: Tensor, groups: int) -> Tensor:
    rows, channels = _layout(x, groups)
    parts = _parts("native", rows, channels)
    partials = x.new_empty((parts, 3, groups, channels), dtype=accumulator(x.dtype))
    NATIVE.bn_act_partials(
        *(NATIVE_DTYPES[x.dtype], rows, channels, groups),
        *(x.data_ptr(), partials.data_ptr(), parts),
    )
    return partials


def _native_forward(
    x: Tensor,
    partials: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    training: bool,
) -> tuple[Tensor, Tensor]:
    rows, channels = _layout(x, groups)
    y = torch.empty_like(x)
    stats = weight.new_empty((2, groups, channels))
    NATIVE.bn_act_forward(
        *(NATIVE_DTYPES[x.dtype], rows, channels, groups),
        *(x.data_ptr(), _parts("native", rows, channels), *_array(partials)),
        *(weight.data_ptr(), bias.data_ptr(), _address(running_mean), _address(running_var)),
        *(y.data_ptr(), stats.data_ptr(), slope, momentum, eps, training),
    )
    return y, stats


def _native_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    rows, channels = _layout(x, groups)
    parts = _parts("native", rows, channels)
    partials = x.new_empty((parts, 3, groups, channels), dtype=accumulator(x.dtype))
    NATIVE.bn_act_backward_partials(
        *(NATIVE_DTYPES[x.dtype], rows, channels, groups),
        *(dy.data_ptr(), x.data_ptr(), weight.data_ptr(), bias.data_ptr(), stats.data_ptr()),
        *(partials.data_ptr(), parts, slope),
    )
    return partials


def _native_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stats: Tensor,
    own: Tensor | None,
    partials: Tensor | None,
    slope: float,
    groups: int,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, channels = _layout(x, groups)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    NATIVE.bn_act_backward(
        *(NATIVE_DTYPES[x.dtype], rows, channels, groups),
        *(dy.data_ptr(), x.data_ptr(), weight.data_ptr(), bias.data_ptr(), stats.data_ptr()),
        *(_parts("native", rows, channels), _address(own), *_array(partials)),
        *(dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(), slope, training),
    )
    return dx, dweight, dbias


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _array(partials: Tensor | None) -> tuple[int, int]:
    """Address and number of parts."""
    return (0, 0) if partials is None else (partials.data_ptr(), partials.shape[0])


# -- Registration --------------------------------------------------------------------------------


def _fake_partials(impl: Impl) -> Callable[..., Tensor]:
    def fake(x, groups):
        rows, channels = _layout(x, groups)
        shape = (_parts(impl, rows, channels), 3, groups, channels)
        return x.new_empty(shape, dtype=accumulator(x.dtype))

    return fake


def _fake_forward(impl: Impl) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(x, partials, weight, bias, running_mean, running_var, slope, groups, *_):
        stats = x.new_empty((2, groups, x.shape[1]), dtype=accumulator(x.dtype))
        return torch.empty_like(x), stats

    return fake


def _fake_backward_partials(impl: Impl) -> Callable[..., Tensor]:
    fake = _fake_partials(impl)
    return lambda dy, x, weight, bias, stats, slope, groups: fake(x, groups)


def _fake_backward(impl: Impl) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def fake(dy, x, weight, bias, stats, own, partials, slope, groups, training):
        return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)

    return fake


register(
    "bn_act_partials(Tensor x, int groups) -> Tensor",
    native=_native_partials,
    triton=_triton_partials,
    fake=_fake_partials,
)
register(
    "bn_act_forward(Tensor x, Tensor? partials, Tensor weight, Tensor bias, "
    "Tensor(a!)? running_mean, Tensor(b!)? running_var, float slope, int groups, float momentum, "
    "float eps, bool training) -> (Tensor, Tensor)",
    native=_native_forward,
    triton=_triton_forward,
    fake=_fake_forward,
)
register(
    "bn_act_backward_partials(Tensor dy, Tensor x, Tensor weight, Tensor bias, Tensor stats, "
    "float slope, int groups) -> Tensor",
    native=_native_backward_partials,
    triton=_triton_backward_partials,
    fake=_fake_backward_partials,
)
register(
    "bn_act_backward(Tensor dy, Tensor x, Tensor weight, Tensor bias, Tensor stats, Tensor? own, "
    "Tensor? partials, float slope, int groups, bool training) -> (Tensor, Tensor, Tensor)",
    native=_native_backward,
    triton=_triton_backward,
    fake=_fake_backward,
)


# -- The op --------------------------------------------------------------------------------------

Exchange = Callable[[Tensor], Tensor]


class BnActFunction(torch.autograd.Function):
    """Keeps x, the affine parameters and (mean, 1 / sigma) per channel; recomputes the rest."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        settings: tuple[float, int, float, float, bool, Exchange | None, Impl],
    ) -> Tensor:
        slope, groups, momentum, eps, training, exchange, impl = settings
        x = _channels_last(x)
        partials = None  # those of x, which the op finds by itself
        if training and exchange is not None:
            partials = exchange(op("bn_act_partials", impl, x)(x, groups))
        y, stats = op("bn_act_forward", impl, x)(
            *(x, partials, weight, bias, running_mean, running_var),
            *(slope, groups, momentum, eps, training),
        )
        ctx.save_for_backward(x, weight, bias, stats)
        ctx.settings = settings
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        # Forbidding a second derivative costs as much as a small layer's arithmetic, and is
        # needed only where the gradient is recorded.
        return (_backward_once if torch.is_grad_enabled() else _backward)(ctx, dy)


def _backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, stats = ctx.saved_tensors
    slope, groups, _, _, training, exchange, impl = ctx.settings
    dy = _channels_last(dy)  # .sum() hands down strides of 0
    own = partials = None
    if training and exchange is not None:
        own = op("bn_act_backward_partials", impl, x)(dy, x, weight, bias, stats, slope, groups)
        partials = exchange(own)
    dx, dweight, dbias = op("bn_act_backward", impl, x)(
        dy, x, weight, bias, stats, own, partials, slope, groups, training
    )
    return dx, dweight, dbias, None, None, None


_backward_once = once_differentiable(_backward)


def _channels_last(x: Tensor) -> Tensor:
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x.contiguous(memory_format=layout)


def bn_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
    exchange: Exchange | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Batchnorm and (leaky) ReLU; for the backward it keeps x and two numbers per channel.

    Args:
        x: (B, C) or (B, C, H, W), float32, bfloat16, float16 or float64. Any strides do;
            channels-last ones need no copy.
        weight, bias: (C,) scale and shift, float32 (float64 if x is).
        running_mean, running_var: (C,) of the same dtype, updated in place when ``training``; None
            leaves no trace of the call (training only).
        slope: factor below zero, 0 to 1; 0 is ReLU, 1 no activation at all.
        groups: 1 or 2 equal parts of the batch with statistics of their own.
        momentum: weight of the new value in the running statistics.
        eps: added to the variance.
        training: normalise with the statistics of the batch, else with the running ones.
        exchange: for ranks that synchronise their statistics: gets this rank's partial sums,
            (parts, 3, groups, C), and returns those of all ranks, concatenated along dimension 0.
            Called once in the forward and once in the backward pass. Gradients of weight and bias
            stay those of the rank, to be averaged as any others.
        impl: see ``dispatch.choose``.

    Returns:
        A tensor like ``x``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check(x, weight, bias, running_mean, running_var, slope, groups, training, exchange)
    impl = choose("bn_act", impl, x, native=NATIVE_DTYPES, triton=_TRITON_DTYPES)
    if not training:
        groups = 1
    if impl == "reference":
        if exchange is not None:
            raise RuntimeError("bn_act: impl='reference' can't run: it has no exchange")
        y = bn_act_reference(
            x, weight, bias, running_mean, running_var, slope, groups, momentum, eps, training
        )
        return _channels_last(y)
    return BnActFunction.apply(
        *(x, weight, bias, running_mean, running_var),
        (slope, groups, momentum, eps, training, exchange, impl),
    )


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    training: bool,
    exchange: Exchange | None,
) -> None:
    if x.dim() not in (2, 4) or x.numel() == 0:
        raise ValueError(f"bn_act: x is {tuple(x.shape)}; (B, C) or (B, C, H, W), not empty, work")
    if x.dtype not in _DTYPES:
        raise ValueError(f"bn_act: x is {x.dtype}; it must be a float of 16, 32 or 64 bits")
    if (running_mean is None) != (running_var is None):
        raise ValueError("bn_act: running_mean and running_var go together: both or neither")
    if running_mean is None and not training:
        raise ValueError("bn_act: running_mean=None needs training=True")
    shape, dtype, device = x.shape[1:2], accumulator(x.dtype), x.device
    vectors = (weight, bias, running_mean, running_var)
    for i, vector in enumerate(vectors if running_mean is not None else vectors[:2]):
        if (
            vector.shape != shape
            or vector.dtype != dtype
            or vector.device != device
            or not vector.is_contiguous()
        ):
            name = ("weight", "bias", "running_mean", "running_var")[i]
            raise ValueError(f"bn_act: {name} {_fault(vector, x)}")
    if not 0.0 <= slope <= 1.0:
        raise ValueError(f"bn_act: slope={slope}; 0 to 1 work")
    if groups not in (1, 2) or (training and x.shape[0] % groups):
        raise ValueError(
            f"bn_act: groups={groups} with a batch of {x.shape[0]}; 1, or 2 if the batch is even"
        )
    if training and exchange is None and x.numel() == x.shape[1] * groups:
        raise ValueError(
            f"bn_act: x is {tuple(x.shape)} with groups={groups}: one value per channel has no "
            "variance to train with"
        )


def _fault(vector: Tensor, x: Tensor) -> str:
    if vector.shape != x.shape[1:2]:
        return f"is {tuple(vector.shape)}, and x has {x.shape[1]} channels"
    if vector.dtype != (dtype := accumulator(x.dtype)):
        return f"is {vector.dtype}; with x of {x.dtype} it must be {dtype}"
    if vector.device != x.device:
        return f"is on {vector.device}, and x on {x.device}"
    return f"has stride {vector.stride(0)}; it must have 1"
