"""Functions of numbers that several Triton kernels share."""

from __future__ import annotations

from fastinfogan.kernels.triton_module import constexpr, jit, tl
from fastinfogan.kernels.triton_needs import INTERPRETED

_INTERPRETED = constexpr(INTERPRETED)


@jit
def multiply(a, b, total):
    """The matrix product a b + total in float32, float32 factors unshortened."""
    if _INTERPRETED:  # the interpreter takes the bits of bfloat16 for integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@jit
def softplus(x):
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
def philox(
    seed,  # scalar int64: the key
    c0,  # c0, c1, c2: integers of broadcastable shapes, whose low 32 bits count
    c1,
    c2,
    STREAM: tl.constexpr,  # c3
):
    """Philox4x32-10 (``philox.py``): four uint32 words per counter."""
    return tl.philox(seed, c0.to(tl.uint32), c1.to(tl.uint32), c2.to(tl.uint32), STREAM)
