"""A cost model of an iteration on an H100, made with no GPU: predicted, not measured.

``python -m bench.predict`` makes bench/results/predicted-h100.json and the tables of
docs/performance.md again.

One iteration of a preset runs on tensors without data; what it launches is counted. A launch costs
the way from one node of a graph to the next, the least that any kernel takes, the longest of

    bytes / bandwidth of memory
    FLOP / a share of the peak                          (torch's and the libraries' launches)
    instructions / what the SMs issue                   (our Triton kernels)
    instructions and loads that wait for each other     (our Triton kernels)

and what comes before or after all that: a product's first tiles, the program that finishes last.
An iteration costs the sum: nothing overlaps. Instructions are those of the machine code that Triton
compiles for an H100. A kernel's *ideal* has nothing but bytes and the least in it.

What the model doesn't know: the second-level cache (all bytes count as memory's), launches that run
beside each other (G's second pass, on its own stream), the fusing of torch.compile, clocks that
sink under load, barriers, and which of their kernels cuDNN and cuBLAS take.

    h100        the GPU in numbers
    work        one launch: its time and its ideal
    library     what torch's operations launch, by rules of thumb
    sass        instructions of compiled kernels, loop by loop
    ours        what our Triton kernels move, and how often their loops run
    iteration   one iteration on tensors without data
    report      the results file and the tables
    measured    the same beside a profile, class by class
"""
