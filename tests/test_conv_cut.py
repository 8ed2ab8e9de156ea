"""conv on the CPU where its work is cut: for caches, and for threads, which changes no bit."""

from __future__ import annotations

import pytest
import torch
from conv_cases import HALF, assert_right, inputs, results

# Work that doesn't fit a cache at once, or is more than a tile: see native/conv_*.cpp.
CUT = {
    "bands of rows": ((15, 64, 33, 40), 9, 2, False),
    "bands of rows, up": ((15, 70, 20, 24), 65, 2, True),
    "tiles that share a weight": ((100, 40, 4, 4), 70, 2, False),
    "tiles that share a weight, up": ((100, 70, 2, 3), 40, 2, True),
    "more images than parts": ((70, 2, 6, 6), 37, 2, False),
    "more rows than stay in registers": ((3, 3, 40, 44), 20, 2, False),
}


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=HALF)])
@pytest.mark.parametrize("why", CUT)
def test_work_that_is_cut(why, dtype):
    tensors = inputs(CUT[why], dtype)
    assert_right(tensors, CUT[why], "native")
    threads, one = torch.get_num_threads(), results(tensors, CUT[why], "native")
    try:
        torch.set_num_threads(threads + 3)
        more = results(tensors, CUT[why], "native")
    finally:
        torch.set_num_threads(threads)
    for got, other in zip(one[:3], more[:3], strict=True):  # a bias's gradient may be torch's
        assert torch.equal(got, other)
