"""The compile gate: every Triton kernel fits every GPU it may meet, compiled with none present."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import asked, compile_gate, launches
from bench.compile_gate import SHARED_LIMIT, Usage
from fastinfogan.kernels import triton_module, triton_needs
from fastinfogan.model.latent_spec import parse_codes

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not triton_needs.INSTALLED, reason="Triton is not installed")


@pytest.fixture
def run():
    """Runs Python in another process: this one's kernels are interpreted, and can't be compiled."""

    def run(*command, interpret="0"):
        environment = os.environ | {"TRITON_INTERPRET": interpret}
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("gpus", ["in turn", pytest.param("all", marks=pytest.mark.slow)])
def test_one_launch_of_each_kernel_compiles_and_waits(run, gpus):
    """Of an early launch nothing is read or written before the launch before it is through.

    (griddepcontrol.wait is ACQBULK in machine code, .launch_dependents PREEXIT.) Kernels take turns
    with the GPUs, but each meets one that waits; and every fourth has its machine code read.
    """
    code = """if True:
        import re, sys
        from bench import compile_gate as gate, launches

        def check(lines, wait, let, memory, waits):
            found = [
                [i for i, line in enumerate(lines) if re.search(what, line)]
                for what in (wait, let, memory)
            ]
            assert found[2], name
            assert len(found[0]) == len(found[1]) == waits, (name, found)
            assert not waits or found[0][0] < min(found[1][0], found[2][0]), name

        every = sys.argv[1] == "all"
        first = {}
        for launch in launches.all_launches():
            first.setdefault(launch[0].__name__, launch)
        compile_launch, usages, codes = gate.compile_launch, [], {}

        def kept(launch, capability):
            compiled = compile_launch(launch, capability)
            codes[capability] = compiled.asm
            return compiled

        gate.compile_launch = kept
        for turn, (name, launch) in enumerate(first.items()):
            multiplies = gate.name_of(launch) in gate.PRODUCTS
            others = [
                gpu for gpu in gate.SHARED_LIMIT
                if gpu != 90 and (gpu >= gate.LEAST_FOR_PRODUCTS or not multiplies)
            ]
            gpus = [90, *(others if every else [others[turn % len(others)]])]
            found = list(gate.measure([launch], gpus))
            assert [usage.capability for usage in found] == gpus, name
            usages += found
            for gpu in gpus:
                lines = codes[gpu]["ptx"].splitlines()
                memory = r"^\\s*(@\\S+ )?(ld|st|atom|red|cp[.]async)[.](?!param|shared)"
                check(lines, r"griddepcontrol[.]wait", "[.]launch_dependents", memory, gpu >= 90)
            if every or turn % 4 == 0:
                text = gate.dump(codes[90]["cubin"], "-sass")
                lines = re.findall(r"/[*][0-9a-f]{4}[*]/(.*)", text)
                memory = r"\\b(LDG?|LDGSTS|LDL|STG?|STL|ATOMG?|REDG?|UTMALDG|UBLKCP)\\b"
                check(lines, "ACQBULK", "PREEXIT", memory, True)
        assert {usage.capability for usage in usages} == set(gate.SHARED_LIMIT)
        assert not any(usage.fault for usage in usages), gate.table(usages)
        assert all(0 < usage.registers <= 255 for usage in usages)
        print(len(first))
    """
    done = run("-c", code, gpus)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 31


def test_a_kernel_that_cannot_wait_is_refused():
    kernel = SimpleNamespace(__name__="_double_kernel", arg_names=["x_ptr", "BLOCK"])
    launch = triton_module.Launch(kernel, (1,), (), {}, {})
    with pytest.raises(ValueError, match=r"^double: it has no EARLY"):
        compile_gate.compile_launch(launch, 90)


def test_every_kernel_begins_by_waiting():
    kernels = [
        function
        for path in sorted((ROOT / "kernels").rglob("triton*.py"))
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.endswith("_kernel")
    ]
    for kernel in kernels:
        assert kernel.args.args[-1].arg == "EARLY", kernel.name
        first = kernel.body[1 if ast.get_docstring(kernel) else 0]
        assert ast.unparse(first) == "await_previous(EARLY)", kernel.name
    assert len(kernels) >= 31


def test_one_part_beside_several_is_added_up(run):
    """Triton takes a 1 for a constant: few images have so few pixels."""
    code = """if True:
        import torch
        from bench import compile_gate as gate
        from fastinfogan.kernels import triton_module, triton_sum
        parts, sums = (torch.empty(n, 64, device="meta") for n in (1, 1))
        more_parts, more_sums = (torch.empty(n, 16, device="meta") for n in (4, 1))
        triton_sum.sum_parts(parts, sums, more_parts, more_sums)
        (usage,) = [gate.compile_launch(launch, 90) for launch in triton_module.recorded]
    """
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_passes_and_prints_a_row_per_kernel_and_gpu(run):
    done = run("-m", "bench.compile_gate")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| `")]
    assert {int(row[2]) for row in rows} == set(SHARED_LIMIT)
    assert {row[1] for row in rows} == {"float32", "bfloat16", "float16", "int64"}


def test_the_command_refuses_where_kernels_are_interpreted(run):
    done = run("-m", "bench.compile_gate", interpret="1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: compile_gate: TRITON_INTERPRET=1")


@pytest.mark.parametrize(
    ("spilled", "shared", "fault"),
    [
        (0, 65_536, ""),
        (8, 0, "spills 8 bytes"),
        (0, 65_537, "wants 65537 bytes of 65536"),
    ],
)
def test_what_fails_the_gate(spilled, shared, fault):
    assert Usage("k", "float32", "", 75, 32, spilled, shared).fault == fault


def test_every_normalised_layer_at_batch_128():
    """Of every preset, and of folders of any size: (rows x pixels of one group, channels)."""
    assert asked.bn_act_shapes() == [
        (128, 64), (128, 128), (128, 1024), (128, 1792), (128, 2048), (128, 4096),
        (128, 6272), (128, 8192), (128, 16384), (2048, 64), (2048, 128),
        (2048, 256), (2048, 512), (6272, 128), (8192, 64), (8192, 128),
        (8192, 256), (8192, 512), (25088, 64), (32768, 32), (32768, 64),
        (32768, 128), (32768, 256), (131072, 16), (131072, 32), (131072, 64), (131072, 128),
        (524288, 64),
    ]  # fmt: skip


def test_adam_s_sizes_are_those_of_the_network_with_the_most_parameters():
    """D and Q of the chairs: convolutions with batchnorm, a fully connected layer, the heads."""
    assert asked.adam_sizes() == (
        1024, 64, 131_072, 128, 128, 524_288, 256, 256, 1_048_576, 256, 256, 1_048_576, 256, 256,
        16_777_216, 1024, 1024, 1024, 1, 63_488, 62,
    )  # fmt: skip


def test_heads_are_those_of_the_presets():
    """(outputs, inputs): D's, on its features, and Q's last layer; more of the smallest networks.

    (64, 6), (64, 64), (128, 8), (128, 22) and (128, 128) are in generators.
    """
    assert asked.linear_shapes() == [
        (1, 128), (1, 256), (1, 1024), (1, 4096), (5, 1024), (6, 256), (8, 128), (10, 128),
        (10, 1024), (12, 128), (14, 128), (48, 128), (62, 1024), (64, 6), (64, 64), (100, 128),
        (128, 8), (128, 22), (128, 128),
    ]  # fmt: skip


def test_first_layers_are_those_of_generators_with_unaligned_inputs():
    """(outputs, inputs)."""
    assert asked.first_layers() == [
        (64, 6), (128, 22), (256, 26), (1024, 9), (1024, 74), (1024, 133), (1024, 189),
        (1792, 228), (4096, 142),
    ]  # fmt: skip


def test_normalised_layers_are_those_of_the_presets():
    """(outputs, inputs), and the stack: Q's hidden one, G's, and D's on maps."""
    assert asked.normalised_layers() == [
        (64, 6, "generator"), (128, 8, "generator"), (128, 22, "generator"),
        (128, 1024, "q_head"), (128, 4096, "q_head"), (1024, 9, "generator"),
        (1024, 74, "generator"), (1024, 128, "generator"), (1024, 133, "generator"),
        (1024, 189, "generator"), (1024, 6272, "trunk"), (1024, 8192, "trunk"),
        (1024, 16384, "trunk"), (1792, 168, "generator"), (1792, 228, "generator"),
        (4096, 142, "generator"), (6272, 1024, "generator"), (8192, 1024, "generator"),
        (16384, 1024, "generator"),
    ]  # fmt: skip


def test_layers_of_maps_are_the_trunks():
    """Outputs, and (C, H, W) of the convolution before each; the first compares, in infogan-cr."""
    assert asked.layers_of_maps() == [
        (128, (64, 4, 4)), (1024, (128, 7, 7)), (1024, (128, 8, 8)), (1024, (256, 8, 8)),
    ]  # fmt: skip


def test_the_codes_are_those_of_the_presets_and_the_most_there_can_be():
    presets = ("cat10,2xuni", "4xcat10,4xuni:learned", "10xcat10", "5xuni:learned",
               "3xcat20,uni:learned", "cat10", "cat10,4xuni", "cat3,5xuni", "5xuni",
               "6xuni")  # fmt: skip
    expected = {parse_codes(text) for text in (*presets, "64xcat1024")}
    assert set(asked.loss_codes()) == expected
    assert len(asked.loss_codes()) == len(expected)


def test_latents_are_drawn_for_every_preset():
    """Noise and codes of each; what is compiled depends on no more than these."""
    drawn = {(spec.noise, str(spec)) for spec in asked.latent_specs()}
    assert drawn == {
        (16, "cat10"), (62, "cat10,2xuni"), (124, "4xcat10,4xuni:learned"), (128, "10xcat10"),
        (128, "5xuni:learned"), (128, "cat10,4xuni"), (128, "3xcat20,uni:learned"),
        (0, "6xuni"), (16, "6xuni"), (4, "5xuni"), (0, "cat3,5xuni"),
        (0, "cat3,5xuni,cat5"),  # cat5: which code a pair shares
    }  # fmt: skip


def test_images_are_those_of_the_datasets_and_of_folders_of_any_size():
    """In numbers that are, and are not, a multiple of 16: Triton compiles these apart."""
    assert asked.image_shapes() == [
        (16, 16, 1), (16, 16, 3), (28, 28, 1), (32, 32, 1), (32, 32, 3), (64, 64, 1), (64, 64, 3),
        (128, 128, 1), (128, 128, 3),
    ]  # fmt: skip
    assert sorted(count % 16 == 0 for count in asked.IMAGE_COUNTS) == [False, True]


def test_launches_are_recorded_once_per_thing_to_compile():
    seen = launches.all_launches()
    assert triton_module.recorded == []
    kernels = {launch.kernel.__name__ for launch in seen}
    assert kernels == {
        "bn_act_partials_kernel",
        "bn_act_merge_kernel",
        "bn_act_forward_kernel",
        "bn_act_backward_partials_kernel",
        "bn_act_backward_kernel",
        "bn_act_whole_forward_kernel",
        "bn_act_whole_backward_kernel",
        "conv_down_kernel",
        "conv_up_kernel",
        "conv_up_image_kernel",
        "conv_weight_kernel",
        "sum_parts_kernel",
        "_adam_kernel",
        "_latents_kernel",
        "_gather_kernel",
        "_draw_kernel",
        "_order_kernel",
        "_mi_loss_kernel",
        "_linear_forward_kernel",
        "_linear_backward_kernel",
        "_linear_weight_kernel",
        "linear_bn_act_forward_kernel",
        "linear_bn_act_parts_kernel",
        "linear_bn_act_sum_kernel",
        "linear_bn_act_backward_kernel",
        "linear_bn_act_weight_kernel",
        "linear_bn_act_back_kernel",
        "_consistency_kernel",
        "_draw_maps_kernel",
        "_warp_forward_kernel",
        "_warp_backward_kernel",
    }
    dtypes = {launch.args[0].dtype for launch in seen} - {torch.int64}  # order's
    assert dtypes == {torch.float32, torch.bfloat16, torch.float16}
