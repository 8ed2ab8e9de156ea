"""bn_act's Triton kernels that apply what ``triton_sums.py`` gathered."""

from __future__ import annotations

from fastinfogan.kernels.triton_module import jit, tl


@jit
def bn_act_forward_kernel(
    x_ptr,  # (groups, rows, channels), any float
    y_ptr,  # like x
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    running_mean_ptr,  # (channels,) float32, or None
    running_var_ptr,  # (channels,) float32, or None
    merged_ptr,  # (3, groups, channels) float32: count, mean, M2; None in eval mode
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma; written in eval mode, else read
    rows,
    channels,
    groups,
    slope,
    momentum,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = block * BLOCK_ROWS
    row = tl.arange(0, BLOCK_ROWS)
    mask = (row < rows - first)[:, None] & inside[None, :]
    tile = (group.to(tl.int64) * rows + first) * channels
    at = row[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + tile + at, mask=mask, other=0.0).to(tl.float32)
    if merged_ptr is not None:
        mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
        rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    else:
        mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        rstd = 1.0 / tl.sqrt(tl.load(running_var_ptr + columns, mask=inside, other=1.0) + eps)
        if block == 0:
            tl.store(stats_ptr + group * channels + columns, mean, mask=inside)
            tl.store(stats_ptr + (groups + group) * channels + columns, rstd, mask=inside)
    if (merged_ptr is not None) and (running_mean_ptr is not None):
        if (block == 0) & (group == 0):  # one program, so that the groups come in order
            plane = groups * channels
            r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
            r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
            for g in range(groups):
                of_group = merged_ptr + g * channels + columns
                n = tl.load(of_group, mask=inside, other=2.0)
                m2 = tl.load(of_group + 2 * plane, mask=inside, other=0.0)
                r_mean += momentum * (tl.load(of_group + plane, mask=inside, other=0.0) - r_mean)
                r_var += momentum * (m2 / (n - 1.0) - r_var)
            tl.store(running_mean_ptr + columns, r_mean, mask=inside)
            tl.store(running_var_ptr + columns, r_var, mask=inside)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    u = (x - mean[None, :]) * rstd[None, :] * weight[None, :] + bias[None, :]
    y = tl.where(u > 0.0, u, u * slope)
    tl.store(y_ptr + tile + at, y.to(y_ptr.dtype.element_ty), mask=mask)


@jit
def bn_act_backward_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    dx_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    own_ptr,  # (3, groups, channels) float32: this rank's count, sum of g, sum of g x_hat
    merged_ptr,  # like own, of all ranks
    dweight_ptr,  # (channels,) float32
    dbias_ptr,  # (channels,) float32
    rows,
    channels,
    groups,
    slope,
    TRAINING: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = block * BLOCK_ROWS
    row = tl.arange(0, BLOCK_ROWS)
    mask = (row < rows - first)[:, None] & inside[None, :]
    tile = (group.to(tl.int64) * rows + first) * channels
    at = row[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + tile + at, mask=mask, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + tile + at, mask=mask, other=0.0).to(tl.float32)
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    x_hat = (x - mean[None, :]) * rstd[None, :]
    g_x = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
    plane = groups * channels
    if (block == 0) & (group == 0):
        dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        for g in range(groups):
            of_group = own_ptr + g * channels + columns
            dbias += tl.load(of_group + plane, mask=inside, other=0.0)
            dweight += tl.load(of_group + 2 * plane, mask=inside, other=0.0)
        tl.store(dbias_ptr + columns, dbias, mask=inside)
        tl.store(dweight_ptr + columns, dweight, mask=inside)
    if TRAINING:
        sums = merged_ptr + group * channels + columns
        n = tl.load(sums, mask=inside, other=1.0)
        total = tl.load(sums + plane, mask=inside, other=0.0)
        product = tl.load(sums + 2 * plane, mask=inside, other=0.0)
        g_x -= (total / n)[None, :] + x_hat * (product / n)[None, :]
    dx = g_x * (weight * rstd)[None, :]
    tl.store(dx_ptr + tile + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
