"""Long sums of linear_bn_act on a GPU, in parts: the layer's own, and those of its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import multiplies
from fastinfogan.kernels.linear_bn_act.layout import MOST_ROWS
from fastinfogan.kernels.linear_bn_act.triton_forward import linear_bn_act_parts_kernel
from fastinfogan.kernels.triton_module import launch
from fastinfogan.kernels.triton_sum import sum_parts

# Of a sum that one program makes. Longer ones are those of layers on maps, which have few outputs:
# programs would be few, too. They are cut into parts, and who adds these up normalises.
MOST_INPUTS = 1024
_MOST_PARTS = 8
PROGRAMS = 64  # which are enough


def parts_blocks_of(rows: int, inputs: int, outputs: int, half: bool) -> tuple[int, dict[str, int]]:
    """Inputs of a part, in whole blocks, and constants; float32 takes twice the shared memory."""
    wide = 64 if half and outputs >= 8 * PROGRAMS else 16
    blocks = -(-rows // MOST_ROWS) * -(-outputs // wide)
    parts = min(_MOST_PARTS, max(1, 2 * PROGRAMS // blocks))
    return -(-inputs // (parts * 64)) * 64, {
        "BLOCK_ROWS": MOST_ROWS,
        "BLOCK_OUTPUTS": wide,
        "BLOCK_INPUTS": 64 if half else 32,
        "num_warps": 8,
        "num_stages": 4 if wide == 64 else 3,
        "maxnreg": 168,  # left alone, ptxas aims at 64 on Blackwell: hardly enough
    }


def parts_of(x: Tensor, weight: Tensor, back: bool = False) -> Tensor:
    """The product in parts of its sum: (parts, rows of all groups, outputs), float32.

    Going back x is its gradient, and the outputs are the layer's inputs.
    """
    rows, (outputs, inputs) = x.shape[0], weight.shape[::-1] if back else weight.shape
    each, blocks = parts_blocks_of(rows, inputs, outputs, x.element_size() == 2)
    parts = x.new_empty((-(-inputs // each), rows, outputs), dtype=torch.float32)
    launch(
        linear_bn_act_parts_kernel,
        (
            -(-rows // blocks["BLOCK_ROWS"]),
            -(-outputs // blocks["BLOCK_OUTPUTS"]),
            len(parts),
        ),
        x,
        weight,
        parts,
        rows,
        inputs,
        outputs,
        each,
        BACK=back,
        **blocks,
    )
    return parts


def input_of(dz: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a layer's input: of many outputs, in parts, and in their order their sum."""
    outputs, inputs = weight.shape
    if outputs <= MOST_INPUTS or len(dz) > MOST_ROWS or not multiplies(dz.device):
        return torch.mm(dz, weight)
    parts, dx = parts_of(dz, weight, back=True), dz.new_empty((len(dz), inputs))
    sum_parts(parts, dx)
    return dx
