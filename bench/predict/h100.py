"""The GPU of the predictions, an H100 SXM5 80 GB: numbers of its data sheet, measured and assumed.

From NVIDIA's "H100 Tensor Core GPU Architecture" (2022) and the data sheet, unless it says
"measured": on an H200, which has the same SMs and faster memory, in profiles (those of commit
5ae69df are in the history of bench/results/profile-nvidia-h200.json). "Assumed" is a rule of thumb
that they don't contradict.
"""

SMS = 132
CLOCK = 1.755e9  # Hz, assumed: between the base clock under load and the boost of 1.98
BYTES_PER_S = 3.0e12  # assumed: nine tenths of the data sheet's 3.35 TB/s
H200_BYTES_PER_S = 4.3e12  # measured, of a copy; the data sheet has 4.8
ISSUED = 4  # instructions of a warp that an SM issues in a cycle: one for each of four schedulers

# FLOP of an SM in a cycle: tensor cores with bfloat16 or float16, dense; float32 without TF32.
HALF_FLOP, FLOAT_FLOP = 4096, 256

# What programs (thread blocks) share on an SM; registers are given out in 8 a thread.
REGISTERS, WARPS, PROGRAMS, SHARED_BYTES = 65_536, 64, 32, 233_472
SHARED_RESERVED = 1024  # bytes of each program, for the system

LATENCY = 500  # cycles of a load, assumed: the cache's are about 270, memory's about 700
# From the end of a graph's kernel to the start of the next one: measured, the median, whether it
# waits for the one before it or not.
NODE_S = 0.45e-6
START_S = 0.9e-6  # of a kernel that does nothing, start to end: the shortest measured
# The same around a node that fills memory without a kernel: 1.4 us before it and 3.5 after it, of
# which the node after it counts its own NODE_S. Measured, medians; often it is 10 after it.
MEMSET_NODE_S = 1.4e-6 + 3.5e-6 - NODE_S
# Cycles of an instruction in a warp that has a scheduler for itself: measured, in kernels of a few
# programs. They wait for each other; several warps fill the gaps.
DEPENDENT = 2
# Cycles of a ticket: a fence for the whole GPU, an atomic addition, its answer. Measured so.
FENCE = 1500


def cycles(count: float) -> float:
    """Seconds of so many cycles."""
    return count / CLOCK
