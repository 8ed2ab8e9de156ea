"""The GPU of the predictions, an H100 SXM5 80 GB: numbers of its data sheet, and what is assumed.

From NVIDIA's "H100 Tensor Core GPU Architecture" (2022) and the data sheet, unless it says
"assumed": then it is a rule of thumb, and the first to be checked on a GPU.
"""

SMS = 132
CLOCK = 1.755e9  # Hz, assumed: between the base clock under load and the boost of 1.98
BYTES_PER_S = 3.0e12  # assumed: nine tenths of the data sheet's 3.35 TB/s
ISSUED = 4  # instructions of a warp that an SM issues in a cycle: one for each of four schedulers

# FLOP of an SM in a cycle: tensor cores with bfloat16 or float16, dense; float32 without TF32.
HALF_FLOP, FLOAT_FLOP = 4096, 256

# What programs (thread blocks) share on an SM; registers are given out in 8 a thread.
REGISTERS, WARPS, PROGRAMS, SHARED_BYTES = 65_536, 64, 32, 233_472
SHARED_RESERVED = 1024  # bytes of each program, for the system

LATENCY = 500  # cycles of a load, assumed: the cache's are about 270, memory's about 700
NODE_S = 0.8e-6  # from the end of a graph's kernel to the start of the next one, assumed
LEAST_S = 1.2e-6  # of a kernel that hardly does a thing, start to end, assumed


def cycles(count: float) -> float:
    """Seconds of so many cycles."""
    return count / CLOCK
