"""linear on a GPU: the Triton kernels of both directions and their launchers."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.triton_tiles import backward_sums, write_three
from fastinfogan.kernels.channels_last import pixel_matrix
from fastinfogan.kernels.linear.layout import (
    MOST_OUTPUTS,
    Gradients,
    block_of,
    empty_back,
    empty_gradients,
    empty_weight,
)
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two


@jit
def _linear_forward_kernel(
    y_ptr,  # (rows, outputs), any float
    x_ptr,  # (rows, inputs), like y
    weight_ptr,  # (outputs, inputs), like y
    bias_ptr,  # (outputs,), like y, or None
    rows,
    outputs,
    inputs,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program per block of rows and block of outputs."""
    await_previous(EARLY)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    output = tl.program_id(1) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    here, there = (row < rows)[:, None], (output < outputs)[None, :]
    x_ptrs = x_ptr + row.to(tl.int64)[:, None] * inputs
    weight_ptrs = weight_ptr + output[None, :] * inputs
    y = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
    for start in range(0, inputs, BLOCK_INPUTS):
        column = start + tl.arange(0, BLOCK_INPUTS)
        inside = column < inputs
        x = tl.load(x_ptrs + column[None, :], mask=here & inside[None, :], other=0.0)
        weight = tl.load(weight_ptrs + column[:, None], mask=inside[:, None] & there, other=0.0)
        if BLOCK_OUTPUTS == 1:
            y += tl.sum(x.to(tl.float32) * tl.trans(weight).to(tl.float32), 1)[:, None]
        else:
            y = multiply(x, weight, y)
    if bias_ptr is not None:
        y += tl.load(bias_ptr + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    y_ptrs = y_ptr + row.to(tl.int64)[:, None] * outputs + output[None, :]
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=here & there)


@jit
def _linear_backward_kernel(
    dx_ptr,  # (rows, inputs), any float
    dweight_ptr,  # (outputs, inputs), like dx, or None
    dbias_ptr,  # (outputs,), like dx, or None
    dy_ptr,  # (rows, outputs), like dx
    x_ptr,  # (rows, inputs), like dx, or None
    weight_ptr,  # (outputs, inputs), like dx
    dtail_ptr,  # (rows - before, inputs), like dx: added to the last rows of dx; or None
    maps_ptr,  # (rows, inputs), like dx: see backward_sums, whose x it is; or None
    scale_ptr,
    shift_ptr,
    stats_ptr,
    partials_ptr,  # (pixels * blocks of a group's rows, 3, groups, CHANNELS) float32
    rows,
    outputs,
    inputs,
    before,
    rows_per_program,
    rows_per_group,
    slope,
    CHANNELS: tl.constexpr,  # of the maps: inputs are pixels of so many each
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Programs (i, j): strip i of the inputs, and of the rows part j.

    With gradients of the parameters there is one part: a program has all rows of its strip.
    """
    await_previous(EARLY)
    column = tl.program_id(0) * BLOCK_INPUTS + tl.arange(0, BLOCK_INPUTS)
    output = tl.arange(0, BLOCK_OUTPUTS)
    inside, there = (column < inputs)[None, :], output < outputs
    strip = output[:, None] * inputs + column[None, :]
    strip_mask = there[:, None] & inside
    weight = tl.load(weight_ptr + strip, mask=strip_mask, other=0.0)
    dtype: tl.constexpr = dx_ptr.dtype.element_ty
    dweight = tl.zeros((BLOCK_OUTPUTS, BLOCK_INPUTS), tl.float32)
    dbias = tl.zeros((BLOCK_OUTPUTS,), tl.float32)
    first = tl.program_id(1) * rows_per_program
    for start in range(first, tl.minimum(first + rows_per_program, rows), BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        here = (row < rows)[:, None]
        far = row.to(tl.int64)[:, None]
        dy = tl.load(
            dy_ptr + far * outputs + output[None, :], mask=here & there[None, :], other=0.0
        )
        at = far * inputs + column[None, :]
        if BLOCK_OUTPUTS == 1:
            dx = dy.to(tl.float32) * weight.to(tl.float32)
        else:
            dx = multiply(dy, weight, tl.zeros((BLOCK_ROWS, BLOCK_INPUTS), tl.float32))
        if dtail_ptr is not None:
            behind = here & inside & (row >= before)[:, None]
            tail_ptrs = dtail_ptr + (far - before) * inputs + column[None, :]
            dx += tl.load(tail_ptrs, mask=behind, other=0.0).to(tl.float32)
        dx = dx.to(dtype)
        tl.store(dx_ptr + at, dx, mask=here & inside)
        if maps_ptr is not None:  # then a block is within a group, and a strip within a pixel
            maps = tl.load(maps_ptr + at, mask=here & inside, other=0.0)
            blocks = rows_per_group // BLOCK_ROWS
            group, block = start // rows_per_group, start % rows_per_group // BLOCK_ROWS
            groups = rows // rows_per_group
            pixel = tl.program_id(0) * BLOCK_INPUTS // CHANNELS
            channel = column - pixel * CHANNELS
            first_sum, second_sum = backward_sums(
                dx, maps, scale_ptr, shift_ptr, stats_ptr, group, groups, channel,
                column < inputs, CHANNELS, slope,
            )  # fmt: skip
            write_three(
                partials_ptr, pixel * blocks + block, group, groups, channel, column < inputs,
                CHANNELS, BLOCK_ROWS, first_sum, second_sum,
            )  # fmt: skip
        if dweight_ptr is not None:
            x = tl.load(x_ptr + at, mask=here & inside, other=0.0)
            if BLOCK_OUTPUTS == 1:
                dweight += tl.sum(dy.to(tl.float32) * x.to(tl.float32), 0)[None, :]
            else:
                dweight = multiply(tl.trans(dy), x, dweight)
            dbias += tl.sum(dy.to(tl.float32), 0)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + strip, dweight.to(dtype), mask=strip_mask)
        if tl.program_id(0) == 0:
            tl.store(dbias_ptr + output, dbias.to(dtype), mask=there)


@jit
def _linear_weight_kernel(
    dweight_ptr,  # (outputs, inputs), any float
    dbias_ptr,  # (outputs,), like dweight
    dy_ptr,  # (rows, outputs), like dweight
    x_ptr,  # (rows, inputs), like dweight
    rows,
    outputs,
    inputs,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program per strip of inputs and block of outputs, for all rows."""
    await_previous(EARLY)
    column = tl.program_id(0) * BLOCK_INPUTS + tl.arange(0, BLOCK_INPUTS)
    output = tl.program_id(1) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    inside, there = (column < inputs)[None, :], output < outputs
    dweight = tl.zeros((BLOCK_OUTPUTS, BLOCK_INPUTS), tl.float32)
    dbias = tl.zeros((BLOCK_OUTPUTS,), tl.float32)
    for start in range(0, rows, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        here, far = row < rows, row.to(tl.int64)
        # (outputs, rows), so that nothing has to be transposed
        dy_ptrs = dy_ptr + far[None, :] * outputs + output[:, None]
        dy = tl.load(dy_ptrs, mask=here[None, :] & there[:, None], other=0.0)
        x_ptrs = x_ptr + far[:, None] * inputs + column[None, :]
        x = tl.load(x_ptrs, mask=here[:, None] & inside, other=0.0)
        dweight = multiply(dy, x, dweight)
        dbias += tl.sum(dy.to(tl.float32), 1)
    dtype: tl.constexpr = dweight_ptr.dtype.element_ty
    strip = output[:, None] * inputs + column[None, :]
    tl.store(dweight_ptr + strip, dweight.to(dtype), mask=there[:, None] & inside)
    if tl.program_id(0) == 0:
        tl.store(dbias_ptr + output, dbias.to(dtype), mask=there)


def block_outputs_of(outputs: int) -> int:
    """1 needs no matrix product; otherwise a product's smallest side, or more."""
    return 1 if outputs == 1 else max(16, power_of_two(outputs))


def forward_blocks_of(outputs: int, inputs: int) -> dict[str, int]:
    """With one output a row or two, all at once; else 16 rows or more, and few inputs at a time."""
    block_outputs = block_outputs_of(outputs)
    if outputs == 1:
        # Not more rows: loads of a loop without a product of tiles wait for each other.
        columns = min(4096, power_of_two(inputs))
        rows = max(1, 2048 // columns)
    elif outputs <= MOST_OUTPUTS:
        rows, columns = 16, 64 if block_outputs <= 32 else 32
        if inputs < columns:
            columns = 16  # as few as tl.dot takes; a block with columns to spare spills registers
    else:
        rows, block_outputs, columns = 32, 64, 32
    return {
        "BLOCK_ROWS": rows,
        "BLOCK_OUTPUTS": block_outputs,
        "BLOCK_INPUTS": columns,
        "num_warps": 4,
    }


def backward_blocks_of(outputs: int, inputs: int, learning: bool, half: bool) -> dict[str, int]:
    """Narrow strips, since programs are few: 8 for 128 inputs, 32 for 1,024.

    With one output, or gradients of a few outputs' parameters, a program has a batch's rows in
    flight at once. (Where a strip is wider, outputs are more or in float32, that spills registers.)
    """
    block_outputs, columns = block_outputs_of(outputs), 32 if inputs >= 1024 else 16
    if outputs == 1:
        rows, warps = (256, 8) if learning else (64, 4)
    elif learning and half and block_outputs <= 16 and columns == 16:
        rows, warps = 128, 8
    elif not half and block_outputs > 64:
        rows, warps = 32, 16  # eight warps spill, too
    else:
        rows = 64 if block_outputs <= 32 else 32
        warps = 4 if block_outputs <= 32 and columns == 16 else 8
    return {
        "BLOCK_ROWS": rows,
        "BLOCK_OUTPUTS": block_outputs,
        "BLOCK_INPUTS": columns,
        "num_warps": warps,
    }


# 48 programs for 1,024 outputs and 74 inputs.
WEIGHT_BLOCKS = {"BLOCK_ROWS": 32, "BLOCK_OUTPUTS": 64, "BLOCK_INPUTS": 32, "num_warps": 4}


def linear_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer as a registered op, on a GPU or interpreted."""
    (rows, inputs), outputs = x.shape, weight.shape[0]
    y = x.new_empty((rows, outputs))
    blocks = forward_blocks_of(outputs, inputs)
    launch(
        _linear_forward_kernel,
        (-(-rows // blocks["BLOCK_ROWS"]), -(-outputs // blocks["BLOCK_OUTPUTS"])),
        y,
        x,
        weight,
        bias,
        rows,
        outputs,
        inputs,
        **blocks,
    )
    return y


def linear_backward(
    dy: Tensor, x: Tensor | None, weight: Tensor, dtail: Tensor | None
) -> Gradients:
    """Its gradients as a registered op; without x that of x alone."""
    gradients = empty_gradients(dy, x, weight, dtail)
    blocks = backward_blocks_of(*weight.shape, x is not None, dy.element_size() == 2)
    _backward(gradients, dy, x, weight, dtail, (None,) * 5, 1, 1.0, 1, blocks)
    return gradients


def linear_back(
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    dtail: Tensor | None,
    maps: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same, x being what a batchnorm and a slope made of the maps; and sums that go back."""
    dx, dweight, dbias, sums = empty_back(dy, x, weight, dtail, maps, groups)
    blocks = backward_blocks_of(*weight.shape, x is not None, dy.element_size() == 2)
    blocks["BLOCK_ROWS"] = block_of(len(dy) // groups, x is not None)
    normalised = pixel_matrix(maps), scale, shift, stats, sums
    gradients = pixel_matrix(dx), dweight, dbias
    _backward(gradients, dy, x, weight, dtail, normalised, groups, slope, maps.shape[1], blocks)
    return dx, dweight, dbias, sums


def _backward(
    gradients: Gradients,
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    dtail: Tensor | None,
    normalised: tuple[Tensor | None, ...],
    groups: int,
    slope: float,
    channels: int,
    blocks: dict[str, int],
) -> None:
    (outputs, inputs), rows = weight.shape, dy.shape[0]
    dx, dweight, dbias = gradients
    rows_per_program = blocks["BLOCK_ROWS"] if x is None else rows
    launch(
        _linear_backward_kernel,
        (-(-inputs // blocks["BLOCK_INPUTS"]), -(-rows // rows_per_program)),
        dx,
        None if x is None else dweight,
        None if x is None else dbias,
        dy,
        x,
        weight,
        dtail,
        *normalised,
        rows,
        outputs,
        inputs,
        rows if dtail is None else rows - dtail.shape[0],
        rows_per_program,
        rows // groups,
        slope,
        CHANNELS=channels,
        **blocks,
    )


def linear_weight(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias as a registered op, for any number of outputs."""
    (rows, outputs), inputs = dy.shape, x.shape[1]
    dweight, dbias = empty_weight(dy, x)
    launch(
        _linear_weight_kernel,
        (
            -(-inputs // WEIGHT_BLOCKS["BLOCK_INPUTS"]),
            -(-outputs // WEIGHT_BLOCKS["BLOCK_OUTPUTS"]),
        ),
        dweight,
        dbias,
        dy,
        x,
        rows,
        outputs,
        inputs,
        **WEIGHT_BLOCKS,
    )
    return dweight, dbias
