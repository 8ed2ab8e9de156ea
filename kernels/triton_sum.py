"""Long sums made in parts, added up in the order of the parts: kernel, and its launcher."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two


@jit
def sum_parts_kernel(
    parts_ptr,  # (count, size) float32
    more_parts_ptr,  # (more_count, more_size) float32; or None
    sums_ptr,  # (size,)
    more_sums_ptr,  # (more_size,); or None
    count,
    size,
    more_count,
    more_size,
    BLOCK_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """The first programs make the first sums, those after them the others."""
    await_previous(EARLY)
    block = tl.program_id(0)
    blocks = tl.cdiv(size, BLOCK)
    if more_parts_ptr is not None:
        first = block < blocks
        # Not in the branch below: Triton takes a 1 for a constant, which none may change.
        size, count = tl.where(first, size, more_size), tl.where(first, count, more_count)
        if not first:
            block -= blocks
            parts_ptr = more_parts_ptr
            sums_ptr = more_sums_ptr
    n = block * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK_PARTS, BLOCK), tl.float32)
    for start in range(0, count, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < count)[:, None] & (n < size)[None, :]
        at = part.to(tl.int64)[:, None] * size + n[None, :]
        sums += tl.load(parts_ptr + at, mask, other=0.0)
    total = tl.sum(sums, 0).to(sums_ptr.dtype.element_ty)
    tl.store(sums_ptr + n, total, n < size)


def blocks_of(count: int) -> dict[str, int]:
    """Tiles of 2,048 numbers, 16 in each of 128 threads, for ``count`` parts.

    Of many, too, all are on their way at once, a sector of memory of each.
    """
    block_parts = min(256, power_of_two(count))
    return {"BLOCK_PARTS": block_parts, "BLOCK": 2048 // block_parts, "num_warps": 4}


def sum_parts(
    parts: Tensor,
    sums: Tensor,
    more_parts: Tensor | None = None,
    more_sums: Tensor | None = None,
) -> None:
    """Write the sums of parts, and those of others in the same launch.

    Args:
        parts: (count, ...) float32, contiguous.
        sums: of a part's numbers, any float, in the order of their memory.
        more_parts, more_sums: likewise; None if there are none.
    """
    blocks = blocks_of(len(parts))
    more_size = 0 if more_sums is None else more_sums.numel()
    launch(
        sum_parts_kernel,
        (-(-sums.numel() // blocks["BLOCK"]) + -(-more_size // blocks["BLOCK"]),),
        parts,
        more_parts,
        sums,
        more_sums,
        len(parts),
        sums.numel(),
        0 if more_parts is None else len(more_parts),
        more_size,
        **blocks,
    )
