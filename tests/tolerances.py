"""Every numerical tolerance of the test suite, each with the rounding error that it comes from."""

from __future__ import annotations

import torch

EPS = {
    dtype: torch.finfo(dtype).eps
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}

# Two orders of summation of up to n terms differ by at most n eps relative to the sum of their
# magnitudes, and typically by sqrt(n) eps. The longest sums here have 6,272 terms.
SUMMATION_64 = 6_272 * EPS[torch.float64]

# A trajectory: Adam divides a gradient by at least its eps (1e-8), so an absolute gradient error e
# moves a weight by up to lr * e / 1e-8 a step. With e = SUMMATION_64 (gradients here are of order
# 1 or below), lr = 1e-3 and 20 steps:
TRAJECTORY_64 = 20 * 1e-3 * SUMMATION_64 / 1e-8

# In float32 the same holds at another scale, and the only honest yardstick is the reference's own
# float32 error: the same number of roundings in another order gives an error of the same size.
# Two such errors, each of random sign, differ by up to twice the larger one.
SAME_DTYPE_FACTOR = 2.0

# The numpy generator repeats some 10 layers of float32 sums of up to 16,384 terms on outputs in
# [-1, 1]; sqrt(16384) * 10 * eps32 = 1.5e-4 is the typical bound, the promise of the format 1e-4.
GENERATOR_FILE = 1e-4

# The engines add up the same numbers in different orders, and after 5 iterations the typical weight
# is off by some 1e-5 of the way that training went. But Adam turns the rounding error of a gradient
# near 0 into a step of up to lr: one of eight seeds was off by 2e-2. Without Adam's first moments
# it would be 4e-1.
ENGINE_CHANGE = 0.05

# A kernel's error is held against that of the reference in the same dtype by SAME_DTYPE_FACTOR.
# Where the reference happens to be exact or nearly so, a kernel is allowed the roundings of one
# number on its way through the formula (centre, scale, scale, shift, activation, and as many again
# for the statistics) relative to the largest result, and the rounding of the result to its dtype.
KERNEL_ROUNDINGS = 10

# The benchmarks' parity, relative to the norm of a result: sums of up to 262,144 terms in float32;
# one rounding of the result in bfloat16.
BENCH_KERNEL = {torch.float32: 1e-5, torch.bfloat16: torch.finfo(torch.bfloat16).eps}
# Far above the rounding of a normalised value in float32: this near to an activation's kink,
# rounding decides between two slopes, and a benchmark sends no gradient there.
BENCH_KINK = 1e-3
# The typical error of the longest sum in float32, for where the reference is exact by luck.
BENCH_LONG_SUM = 6_272**0.5 * EPS[torch.float32]

# Adam's first steps move a number by lr times 1, whatever the gradient: two corrections of bias, a
# root, two divisions and two products, each off by up to 2 eps, and twice that where the kernel
# computes a correction from its series.
ADAM_UNIT_STEP = 16 * EPS[torch.float32]
# One step in float64, in another order: some ten roundings of numbers of order 1.
ADAM_64 = 10 * EPS[torch.float64]
# A float32 number of 1e-39, below the smallest normal one, has 20 bits.
ADAM_DENORMAL = 4 * 2.0**-20
# The benchmark's parity: the roundings of a step at parameters of order 1, and of the copy.
BENCH_ADAM = 2 * EPS[torch.float32]
BENCH_ADAM_COPY = EPS[torch.bfloat16]
# A normal draw takes some 8 roundings: the logarithm's last sum, times -2, a root that a GPU only
# approximates, sine or cosine with their polynomials, the product.
DRAW_ROUNDINGS = 8
# A pixel of a moved image: some KERNEL_ROUNDINGS of its coordinate, times its side.
BENCH_WARP = KERNEL_ROUNDINGS * EPS[torch.float32]
# The benchmarks' parity: the reference besides rounds the angle, of up to 2 pi.
BENCH_DRAW = 2 * 2 * 3.1416 * DRAW_ROUNDINGS * EPS[torch.float32]

# A byte's way to a float: the factor, its product, the sum.
SCALE_ROUNDINGS = 3
# Losses are means of up to 1,024 terms in float32, and their gradients a few roundings, relative to
# their norms; a gradient is rounded to bfloat16 once.
BENCH_LOSS = {torch.float32: 1e-5, torch.bfloat16: EPS[torch.bfloat16]}
# A convolution's longest sum, dW over a batch's pixels, has 262,144 float32 terms of random sign:
# sqrt(n) eps would be 6e-5, but any product sums in many lanes and blocks, which divides n.
BENCH_CONV = 1e-5
