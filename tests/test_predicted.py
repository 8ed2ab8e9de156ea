"""The cost model: its counts and its arithmetic, by hand; and the gate that it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.floor import work_of
from bench.launches import all_launches, key_of
from bench.predict import __main__ as command
from bench.predict import ours, report, sass
from bench.predict.iteration import count
from bench.predict.work import Work
from fastinfogan.config import preset_config
from fastinfogan.kernels import triton_module, triton_needs
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.conv import conv

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not triton_needs.INSTALLED, reason="Triton is not installed")


def empty(*shape, dtype=torch.bfloat16, **options):
    return torch.empty(shape, dtype=dtype, device="meta", **options)


def microseconds(works):
    return [round(1e6 * work.seconds, 2) for work in works]


# -- What an iteration launches ------------------------------------------------------------------


@pytest.mark.parametrize("preset", command.PRESETS)
def test_no_preset_launches_more_than_is_committed(preset):
    """The FLOP of its products are those that the floor counts from the preset's rows."""
    found = count(preset, torch.bfloat16, update="alternating")
    committed = command.committed()[preset]
    assert found.launches <= committed["launches"]
    assert len(found.ours) <= committed["launches_ours"]
    flop = sum(work.flop for work in found.library) + sum(map(ours.flop_of, found.ours))
    assert flop == work_of(preset_config(preset)).flop
    assert triton_module.recorded == []


@pytest.mark.parametrize("preset", command.PRESETS)
def test_kernels_are_compiled_a_few_times_each(preset):
    """For a preset in half precision: each time delays the first iteration.

    Three forms do for most. A convolution's sizes and tiles are compiled into it, so that it has
    one for a layer and for what else its launch does there (sums for a batchnorm, those of its
    backward pass, the derivative of a slope), its weight's parts are added up with its bias's or
    without, and a head's backward pass has one for a layer, frozen or not. A batchnorm has one for
    up to 32 parts of sums, for 64 and for 128, which come with a map's tiles.
    """
    kinds = Counter(key[0] for key in {key_of(launch) for launch in count(preset).ours})
    assert sum(kinds.values()) <= 66
    for kernel, forms in kinds.items():
        by_layer = kernel.startswith(("conv_", "sum_parts", "_linear_backward"))
        most = 10 if by_layer else 6 if kernel.startswith("bn_act") else 3
        assert forms <= most, kinds


def test_what_is_counted_differs_with_the_precision_and_the_update():
    half = count("mnist", torch.bfloat16)
    full = count("mnist", None)
    once = count("mnist", torch.bfloat16, update="simultaneous")
    assert half.ours[0].args[0].dtype == torch.bfloat16
    assert full.ours[0].args[0].dtype == torch.float32
    # In half precision bias and activation come out of a convolution's launch, and the bias's
    # gradient with the weight's; and a second pass of G and D is left out.
    assert half.launches < full.launches
    assert once.launches < half.launches


def test_gradients_are_not_copied_because_they_are_counted():
    """Autograd copies a gradient that somebody else holds, too."""
    assert "copy" not in {work.kernel for work in count("mnist").library}


def test_one_launch_moves_both_counters():
    """The latents' and the images', of what was drawn ahead."""
    assert [work.kernel for work in count("mnist").library].count("add") == 1


# -- Our kernels, by hand ------------------------------------------------------------------------


def recorded(run, kernel):
    """The launch of a kernel."""
    triton_module.recorded.clear()
    run()
    found = [x for x in triton_module.recorded if ours.name_of(x) == kernel]
    triton_module.recorded.clear()
    return found[0]


def run_bn_act():
    """A group of 25,088 rows and 64 channels: the first map of ``mnist``, 128 images of 14 x 14."""
    x = empty(128, 64, 14, 14).to(memory_format=torch.channels_last)
    numbers = [empty(64, dtype=torch.float32) for _ in range(4)]
    bn_act(x, *numbers, 0.1, impl="triton")


def code_of(monkeypatch, code, registers=64):
    monkeypatch.setattr(ours, "_compiled", lambda keyed: (code, registers, 1024))


LOAD, OTHER = "LDG.E R2, desc[UR4][R2.64]", "FADD R1, R1, R2"


def test_bn_act_s_partials_wait_for_one_load_after_another(monkeypatch):
    """128 programs of 784 rows, in two steps of 512.

    Each waits three times and runs seven instructions, one every other cycle: 1,514 cycles or
    0.86 µs; 3.2 MB and 25 KB of partials take 1.08. With the node's 0.45 and the kernel's 0.9 it is
    2.43.
    """
    texts = [OTHER, LOAD, OTHER, OTHER, "EXIT"]
    lines = tuple((16 * i, text) for i, text in enumerate(texts))
    code_of(monkeypatch, sass.Code(lines, ((16, 32),)))
    work = ours.work_of(recorded(run_bn_act, "bn_act_partials"))
    assert work.shape == "4x32x1"
    assert work.moved == 2 * 25_088 * 64 + 4 * 32 * 3 * 64
    assert work.issue_s == pytest.approx(8 * (3 + 2 * 2) / 4 / 1.755e9)
    assert work.chain_s == pytest.approx((7 * 2 + 3 * 500) / 1.755e9)
    assert work.bound == "bytes"
    assert microseconds([work]) == [2.43]


def test_applying_loads_its_rows_and_the_partials_together(monkeypatch):
    """394 programs of 128 rows and 32 channels, 3 on the fullest SM; two of them have no rows."""
    lines = tuple((16 * i, OTHER) for i in range(200))
    code_of(monkeypatch, sass.Code(lines, ((16, 160), (320, 480))))
    work = ours.work_of(recorded(run_bn_act, "bn_act_forward"))
    assert work.shape == "2x197x1"
    assert work.moved == 2 * 2 * 25_088 * 64 + 4 * (4 + 2 + 2 + 32 * 3) * 64
    assert work.issue_s == pytest.approx(3 * 4 * (200 - 11) / 4 / 1.755e9)
    assert work.chain_s == pytest.approx(((200 - 11) * 2 + 500) / 1.755e9)
    assert work.bound == "bytes"
    assert work.ratio == pytest.approx(1.0)


def test_few_rows_take_one_launch_whose_loop_runs_for_each_group(monkeypatch):
    """64 programs of 16 channels, with two groups of 128 rows: each waits for its loads."""

    def run():
        numbers = [empty(1024, dtype=torch.float32) for _ in range(4)]
        x = empty(256, 1024).requires_grad_()
        bn_act(x, *numbers, 0.1, 2, impl="triton").backward(empty(256, 1024))

    lines = tuple((16 * i, text) for i, text in enumerate([OTHER, LOAD, OTHER, "EXIT"]))
    code_of(monkeypatch, sass.Code(lines, ((16, 32),)))
    for kernel, passes in (("bn_act_whole_forward", 2), ("bn_act_whole_backward", 3)):
        work = ours.work_of(recorded(run, kernel))
        assert work.shape == "64"
        assert passes * 2 * 256 * 1024 < work.moved < (passes + 0.1) * 2 * 256 * 1024
        assert work.chain_s == pytest.approx(((2 + 2 * 2) * 2 + (1 + 2) * 500) / 1.755e9)


def test_adam_moves_thirty_bytes_a_parameter(monkeypatch):
    """A million and 24 parameters in segments of 1,024, gradients of 2 bytes: 28 bytes each."""
    sizes = (1024 * 1000, 24)
    total = offsets(sizes)[1]

    def run():
        flat = [empty(total, dtype=torch.float32) for _ in range(3)]
        number = empty(1, dtype=torch.int64)
        grads = [empty(size) for size in sizes]
        adam(
            flat[0], grads, *flat[1:], number, empty(1, dtype=torch.float32),
            beta1=0.5, beta2=0.999, eps=1e-8, copy=empty(total), impl="triton",
        )  # fmt: skip

    code_of(monkeypatch, sass.Code(((0, OTHER),), ()))
    work = ours.work_of(recorded(run, "adam"))
    assert total == 1024 * 1001
    assert work.moved == 26 * total + 2 * sum(sizes)
    assert microseconds([work]) == [round(0.45 + 0.9 + 1e6 * work.moved / 3e12, 2)]


def test_a_convolution_multiplies_in_tiles(monkeypatch):
    """128 x 7 x 7 from 64 x 14 x 14, 128 images: 98 x 2 tiles of 64 x 64, two on the fullest SM.

    Each has 2 x 64 x 64 x 1024 FLOP, at 40 % of 4,096 a cycle: 5,120 cycles. In the largest
    tiles the 1.64 GFLOP would take 4,344 on all SMs: 2.48 µs. With both come the node's 0.45 and
    the kernel's 0.9; and 2 µs until the first tiles are there.
    """

    def run():
        x = empty(128, 64, 14, 14).to(memory_format=torch.channels_last)
        weight = empty(128, 64, 4, 4).to(memory_format=torch.channels_last)
        conv(x, weight, None, 2, impl="triton")

    code_of(monkeypatch, sass.Code(((0, OTHER),), ()))
    work = ours.work_of(recorded(run, "conv_down"))
    assert work.shape == "2x98"
    assert work.moved == 2 * 128 * (64 * 196 + 1024 + 128 * 49)
    assert work.flop == 2 * 16 * 64 * 128 * 128 * 49
    assert work.arithmetic_s == pytest.approx(2 * 5120 / 1.755e9)
    assert microseconds([work]) == [round(3.35 + 1e6 * work.arithmetic_s, 2)]
    assert work.bound == "arithmetic"
    assert round(1e6 * work.ideal_s, 2) == round(1.35 + 1e6 * work.flop / 1.755e9 / 132 / 2867.2, 2)


def test_every_kernel_has_its_entry():
    assert {ours.name_of(launch) for launch in all_launches()} == set(ours.KERNELS)


def test_a_kernel_whose_loops_are_not_known_is_named(monkeypatch):
    code_of(monkeypatch, sass.Code(((0, OTHER), (16, OTHER)), ((0, 16),)))
    monkeypatch.setitem(ours.KERNELS, "bn_act_forward", ours.Kernel("x", "y", lambda a, n: []))
    with pytest.raises(ValueError, match="bn_act_forward: 0 numbers of trips for 1 loops; see KER"):
        ours.work_of(recorded(run_bn_act, "bn_act_forward"))


def test_programs_that_an_sm_runs_at_a_time():
    assert ours._resident(4, 32, 0) == 16  # 64 warps
    assert ours._resident(4, 57, 0) == 8  # 65,536 registers, 64 a thread
    assert ours._resident(4, 32, 57_000) == 4  # shared memory
    assert ours._resident(1, 16, 0) == 32


MACHINE_CODE = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;       /* 0x00000a00ff017b82 */
                                                                /* 0x000fe20000000800 */
        /*0010*/                   LDG.E R3, desc[UR4][R2.64] ; /* 0x0000000402037981 */
        /*0020*/                   FADD R4, R4, R3 ;            /* 0x0000000304047221 */
        /*0030*/               @P0 BRA 0x10 ;                   /* 0xfffffffc00240947 */
        /*0040*/               @P1 BRA 0x90 ;                   /* 0x0000000000240947 */
        /*0050*/                   FADD R4, R4, R3 ;            /* 0x0000000304047221 */
        /*0060*/                   LDG.E R3, desc[UR4][R2.64] ; /* 0x0000000402037981 */
        /*0070*/               @P0 BRA 0x60 ;                   /* 0xfffffffc00240947 */
        /*0080*/                   FADD R4, R4, R3 ;            /* 0x0000000304047221 */
        /*0090*/                   STG.E desc[UR4][R2.64], R4 ; /* 0x0000000402007986 */
        /*00a0*/                   EXIT ;                       /* 0x000000000000794d */
        /*00b0*/                   BRA 0xb0 ;                   /* 0xfffffffc00fc7947 */
        /*00c0*/                   NOP ;                        /* 0x0000000000007918 */
"""


def test_machine_code_is_read_loop_by_loop():
    code = sass.parse(MACHINE_CODE)
    assert len(code.instructions) == 12
    assert code.loops == ((0x10, 0x30), (0x60, 0x70))
    # 7 in no loop, 3 and 2 in the loops; waits: once, and in each trip.
    assert code.executed([5, 2]) == (7 + 15 + 4, 1 + 5 + 2)
    # The second loop is left out with the two around it.
    assert code.executed([5, 0]) == (5 + 15, 1 + 5)
    # An exit under a condition leaves out all that follows.
    early = sass.parse(MACHINE_CODE.replace("@P1 BRA 0x90", "@P1 EXIT"))
    assert early.executed([5, 2]) == (7 + 15 + 4, 1 + 5 + 2)
    assert early.executed([5, 0]) == (2 + 15, 1 + 5)


# -- The gate ------------------------------------------------------------------------------------


def work(us, ours=True):
    """A launch of a kernel whose ideal is 2 µs."""
    return Work("kernel", "1", 0, issue_s=1e-6 * (us - 2.0), node_s=1.1e-6, ours=ours)


def test_the_gate_takes_no_more_launches_and_no_slower_kernel():
    committed = report.summary([work(3.9), work(2.0)], 128)
    assert report.faults("p", committed, committed) == []
    assert report.faults("p", report.summary([work(3.0)], 128), committed) == []
    more = report.summary([work(2.0)] * 3, 128)
    assert report.faults("p", more, committed) == ["p: 3 launches, 2 before"]
    slower = report.summary([work(4.2), work(2.0)], 128)
    assert report.faults("p", slower, committed) == [
        "p: kernel takes 2.1 times its ideal; 2.0 is allowed"
    ]
    library = report.summary([work(9.0, ours=False), work(2.0)], 128)
    assert report.faults("p", library, committed) == []


def test_what_is_known_to_be_slow_may_not_become_slower():
    known = report.summary([work(8.0)], 128)
    assert known["over_twice_ideal"] == {"kernel": 4.0}
    assert report.faults("p", report.summary([work(8.6)], 128), known) == []
    assert report.faults("p", report.summary([work(9.0)], 128), known) == [
        "p: kernel takes 4.5 times its ideal; 4.4 is allowed"
    ]


def test_the_page_s_tables_are_those_of_the_results_file():
    page = command.DOCS.read_text()
    assert command.with_tables(page, command.committed()) == page


def run(*command):
    """In another process: this one's kernels are interpreted, and can't be compiled."""
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


LARGEST = (
    "adam bn_act_backward bn_act_backward_partials bn_act_forward bn_act_partials "
    "bn_act_whole_backward conv_down conv_up conv_up_image "
    "conv_weight draw latents linear_backward linear_bn_act_back linear_bn_act_backward "
    "linear_bn_act_forward linear_bn_act_parts linear_bn_act_sum linear_bn_act_weight "
    "linear_forward mi_loss sum_parts"
)
# A few, for the gate to be seen working; all are seen to compile in test_kernel_gate.py.
FEW = "bn_act_backward_partials bn_act_partials draw linear_bn_act_parts sum_parts"


@pytest.mark.parametrize("names", [FEW, pytest.param(LARGEST, marks=pytest.mark.slow, id="all")])
def test_the_largest_launches_of_mnist_are_within_what_is_committed(names):
    code = """if True:
        import math, sys, torch
        from bench.predict import __main__ as command, ours, report
        from bench.predict.iteration import count
        largest = {}
        for launch in sorted(count("mnist").ours, key=lambda launch: math.prod(launch.grid)):
            largest[ours.name_of(launch)] = launch
        chosen = [launch for name, launch in largest.items() if name in sys.argv[1:]]
        found = report.summary([ours.work_of(launch) for launch in chosen], 128)
        print(len(chosen), *sorted(largest))
        print(report.faults("mnist", found, command.committed()["mnist"]))
    """
    done = run("-c", code, *names.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{len(names.split())} {LARGEST}", "[]"]


@pytest.mark.slow
def test_the_command_finds_nothing_that_grew():
    done = run("-m", "bench.predict")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if ", 128 |" in line]) == 4


def test_the_command_refuses_where_kernels_are_interpreted(capsys, monkeypatch):
    monkeypatch.setattr(triton_needs, "INTERPRETED", True)
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("error: predict: TRITON_INTERPRET=1 is set")
