"""Every numerical tolerance of the test suite, each with the rounding error that it comes from."""

from __future__ import annotations

import math

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
# 1 or below), lr = 1e-3 and 20 steps, which no test exceeds:
TRAJECTORY_64 = 20 * 1e-3 * SUMMATION_64 / 1e-8

# In float32 the same holds at another scale, and the only honest yardstick is the reference's own
# float32 error: the same number of roundings in another order gives an error of the same size.
# Two such errors, each of random sign, differ by up to twice the larger one.
SAME_DTYPE_FACTOR = 2.0

# The ten roundings of a formula (a logarithm, an exponential, products and sums) at numbers of
# order 1, each off by half an eps, and twice that for functions that are not rounded correctly.
FORMULA_64 = 10 * EPS[torch.float64]
FORMULA_32 = 10 * EPS[torch.float32]

# The numpy generator repeats some 10 layers of float32 sums of up to n = 16,384 terms on outputs in
# [-1, 1]. Added one after the other, terms of random sign are off by eps sqrt(n / 24) of the sum:
# the k-th partial sum, sqrt(k) times a term, is rounded with a standard deviation of eps / sqrt(12)
# of itself. That is 3.1e-6 a layer, and 3.1e-5 if ten of them add up. The format promises 1e-4.
GENERATOR_FILE = 1e-4

# examples/golden: six layers of sums of at most 128 terms, by the same count 2.8e-7 a layer and
# 1.7e-6 in all, on images in [-1, 1] that were computed in float64. images.json promises 1e-5.
GOLDEN = 1e-5

# A kernel's error is held against that of the reference in the same dtype by SAME_DTYPE_FACTOR.
# Where the reference happens to be exact or nearly so, a kernel is allowed the roundings of one
# number on its way through the formula (centre, scale, scale, shift, activation, and as many again
# for the statistics) relative to the largest result, and the rounding of the result to its dtype.
KERNEL_ROUNDINGS = 10
# In half precision a network rounds a value once a layer; generator and D have up to 8 each, and a
# rounding is off by at most half an eps.
HALF_ROUNDINGS = 8

# bn_act in float64: x_hat is off by the rounding of a centred number, of up to 5, times 1 / sigma,
# and dx by 1 / sigma once more; sigma^2 is at least 1e-5, bn_act's eps.
BN_ACT_64 = KERNEL_ROUNDINGS * EPS[torch.float64] * 5 / 1e-5
# Nearer than this to an activation's kink, the rounding of a normalised value (of 8 million normal
# numbers the largest is below 6) decides between two slopes: a benchmark sends no gradient there.
BENCH_KINK = KERNEL_ROUNDINGS * EPS[torch.float32] * 6
# The typical error of the longest sum in float32, for where the reference is exact by luck.
BENCH_LONG_SUM = 6_272**0.5 * EPS[torch.float32]

# Above 20 torch's softplus is the identity, which leaves out log(1 + e^-20) of the value and e^-20
# of the gradient. The kernels leave out nothing.
SOFTPLUS_64 = math.exp(-20.0)
# exp(-60) is off by the rounding of its argument, of 60: half an eps, and as much for its function.
EXP_OF_60 = 60 * EPS[torch.float32]

# Adam's first steps move a number by lr times 1, whatever the gradient: two corrections of bias, a
# root, two divisions and two products, each off by up to 2 eps, and twice that where the kernel
# computes a correction from its series.
ADAM_UNIT_STEP = 16 * EPS[torch.float32]
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
# The mean of n independent normal numbers has a standard deviation of 1 / sqrt(n), and is beyond
# five of them once in two million times.
BENCH_DEVIATIONS = 5

# A byte's way to a float: the factor, its product, the sum.
SCALE_ROUNDINGS = 3

# NMI divides sums of information by an entropy; among up to 226 images it is, if not 0, at least
# half of that of one image apart from the others, 0.014 nats.
CLUSTERING_64 = SUMMATION_64 / 0.014
# Grey levels by which a flat area is off that was a JPEG: a mean is kept in steps of 1 (8 / 8 at
# Pillow's quality), brightness and colour differences are rounded, and so is what comes back.
JPEG_LEVELS = 2
# Grey levels by which resizing is off: it rounds by half after each of its two passes.
RESIZE_LEVELS = 1
