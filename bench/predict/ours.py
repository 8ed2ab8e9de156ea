"""What a launch of our Triton kernels costs: bytes, instructions, and loads that wait."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.compile_gate import compile_launch, dump, name_of, resources
from bench.launches import key_of
from bench.predict import h100, sass
from bench.predict.h100 import HALF_FLOP, SMS
from bench.predict.library import FILL_S, TILES
from bench.predict.work import Work
from fastinfogan.kernels.conv.layout import TAPS
from fastinfogan.kernels.triton_module import Launch

# Of the whole GPU; others are a block's own, which tensor cores wait for.
_FENCE = re.compile(r"\bMEMBAR\.\S*(GPU|SYS)\b")

Arguments = dict[str, Any]  # of a launch by name, without _ptr; constants too


@dataclass(frozen=True)
class Kernel:
    """What can't be read off a kernel's code.

    Attributes:
        read, written: names of the tensors that a launch moves at least, each once.
        trips: from the arguments and the number of loops in the machine code to the trips of each,
            in a program as most are.
        flop: of its matrix products, 2 for each product of two numbers.
        product: rows, columns and depth of what one program multiplies, for its time.
    """

    read: str
    written: str
    trips: Callable[[Arguments, int], list[float]] = lambda a, loops: [1] * loops
    flop: Callable[[Arguments], int] = lambda a: 0
    product: Callable[[Arguments], tuple[int, int, int]] | None = None


def _part(a: Arguments, loops: int) -> list[float]:
    """A loop over a part's rows."""
    return [math.ceil(a["rows_per_part"] / a["BLOCK_ROWS"])] * loops


def _block(a: Arguments, loops: int) -> list[float]:
    """A loop over a block's rows; one over groups is that of the program that has no rows."""
    return [math.ceil(a["rows_per_block"] / a["BLOCK_ROWS"]), *[0] * (loops - 1)]


def _groups(a: Arguments, loops: int) -> list[float]:
    """A loop over the groups if there are several."""
    return [a["groups"]] * loops


def _conv_flop(a: Arguments) -> int:
    """A convolution's, without what its tiles add to it."""
    return 2 * TAPS**2 * a["CHANNELS"] * a["small"].numel()


def _down(a: Arguments) -> tuple[int, int, int]:
    return a["BLOCK_PIXELS"], a["BLOCK_FEATURES"], TAPS**2 * a["CHANNELS"]


def _up(a: Arguments) -> tuple[int, int, int]:
    """A stride cuts the large map into phases, which see a part of the taps each."""
    return a["BLOCK_PIXELS"], a["BLOCK_CHANNELS"], (TAPS // a["STRIDE"]) ** 2 * a["FEATURES"]


def _up_image(a: Arguments) -> tuple[int, int, int]:
    """All numbers of 2x2 pixels, of the 3x3 that they see."""
    return a["BLOCK_PIXELS"], 16, 9 * a["FEATURES"]


def _weight(a: Arguments) -> tuple[int, int, int]:
    """With the row of ones that a bias takes: sixteen rows of a product."""
    rows = a["BLOCK_FEATURES"] + 16 * (a["biases"] is not None)
    return rows, a["BLOCK_N"], a["per_part"]


def _conv(
    read: str,
    written: str,
    product: Callable[[Arguments], tuple[int, int, int]],
    step: str = "BLOCK_K",
) -> Kernel:
    """A loop over the depth of a product; one over a bias's pixels counts as if it were as long."""

    def trips(a: Arguments, loops: int) -> list[float]:
        return [math.ceil(product(a)[2] / a[step])] * loops

    return Kernel(read, written, trips, flop=_conv_flop, product=product)


def _linear_forward(a: Arguments, loops: int) -> list[float]:
    """A loop over blocks of inputs; a compiler may take some at a time."""
    return [math.ceil(a["inputs"] / a["BLOCK_INPUTS"])] * loops


def _linear_backward(a: Arguments, loops: int) -> list[float]:
    """A loop over the program's rows."""
    return [math.ceil(a["rows_per_program"] / a["BLOCK_ROWS"])] * loops


def _all_rows(a: Arguments, loops: int) -> list[float]:
    return [math.ceil(a["rows"] / a["BLOCK_ROWS"])] * loops


def _product_flop(a: Arguments) -> int:
    return 2 * a["rows"] * a["outputs"] * a["inputs"]


def _gradients_flop(a: Arguments) -> int:
    """That of x, and of the weight unless it is frozen."""
    return _product_flop(a) * (1 if a["dweight"] is None else 2)


def _normalised_flop(a: Arguments) -> int:
    """One product of all rows."""
    return 2 * a["x"].numel() * a["outputs"]


def _normalised(a: Arguments) -> tuple[int, int, int]:
    return a["GROUPS"] * a["BLOCK_ROWS"], a["BLOCK_OUTPUTS"], a["inputs"]


def _of_part(a: Arguments, loops: int) -> list[float]:
    """A loop over a part of the inputs."""
    return [a["inputs_per_part"] // a["BLOCK_INPUTS"]] * loops


def _normalised_part(a: Arguments) -> tuple[int, int, int]:
    return a["BLOCK_ROWS"], a["BLOCK_OUTPUTS"], a["inputs_per_part"]


def _normalised_backward(a: Arguments) -> tuple[int, int, int]:
    """The weight's gradient counts as so many outputs more."""
    products = 1 if a["dweight"] is None else 2
    return a["BLOCK_ROWS"], a["BLOCK_INPUTS"], products * a["outputs"]


def _normalised_weight(a: Arguments) -> tuple[int, int, int]:
    """Its tiles come one after the other."""
    tiles = a["inputs_per_program"] // a["BLOCK_INPUTS"]
    return a["BLOCK_OUTPUTS"], a["BLOCK_INPUTS"], tiles * a["GROUPS"] * a["BLOCK_ROWS"]


# Where a loop's length depends on numbers on the device, it is a typical one.
KERNELS = {
    "adam": Kernel("params grads exp_avg exp_avg_sq", "params exp_avg exp_avg_sq copy"),
    "bn_act_partials": Kernel("x", "partials", _part),
    "bn_act_merge": Kernel("partials", "merged"),
    "bn_act_forward": Kernel(
        "x weight bias running_mean running_var partials",
        "y stats running_mean running_var",
        _block,
    ),
    "bn_act_backward_partials": Kernel("dy x weight bias stats", "partials", _part),
    "bn_act_backward": Kernel("dy x weight bias stats partials", "dx dweight dbias", _block),
    "bn_act_whole_forward": Kernel(
        "x weight bias running_mean running_var", "y stats running_mean running_var", _groups
    ),
    "bn_act_whole_backward": Kernel("dy x weight bias stats", "dx dweight dbias", _groups),
    "conv_down": _conv("large weight bias before", "small partials", _down),
    "conv_up": _conv("small weight bias before", "large partials", _up),
    "conv_up_image": _conv("small weight bias", "large", _up_image),
    "conv_weight": _conv("large small y", "weights biases", _weight, "BLOCK_PIXELS"),
    "consistency": Kernel("q_copy q_image table", "grads loss"),
    "draw": Kernel("images", "result"),
    "draw_maps": Kernel("seed offset", "maps"),
    "gather": Kernel("images indices", "result"),
    "latents": Kernel("seed offset table", "inputs values"),
    "linear_forward": Kernel("x weight bias", "y", _linear_forward, flop=_product_flop),
    "linear_backward": Kernel(
        "dy x weight dtail maps",
        "dx dweight dbias partials",
        _linear_backward,
        flop=_gradients_flop,
    ),
    "linear_bn_act_forward": Kernel(
        "x weight scale shift running_mean running_var",
        "y z stats running_mean running_var",
        _linear_forward,
        _normalised_flop,
        _normalised,
    ),
    "linear_bn_act_backward": Kernel(
        "dy x weight z scale shift stats",
        "dx dweight dscale dshift",
        lambda a, loops: [math.ceil(a["outputs"] / a["BLOCK_OUTPUTS"])] * loops,
        _gradients_flop,
        _normalised_backward,
    ),
    "linear_bn_act_back": Kernel(
        "dz weight x scale shift stats",
        "dx partials",
        lambda a, loops: [math.ceil(a["outputs"] / a["BLOCK_OUTPUTS"])] * loops,
        lambda a: 2 * a["dz"].numel() * a["inputs"],
        lambda a: (a["BLOCK_ROWS"], a["BLOCK_INPUTS"], a["outputs"]),
    ),
    "linear_bn_act_parts": Kernel(
        "x weight", "parts", _of_part, _normalised_flop, _normalised_part
    ),
    "linear_bn_act_sum": Kernel(
        "parts scale shift running_mean running_var", "y z stats running_mean running_var"
    ),
    "linear_bn_act_weight": Kernel(
        "dy x z scale shift stats",
        "dweight dz dscale dshift",
        lambda a, loops: [a["inputs_per_program"] // a["BLOCK_INPUTS"]] * loops,
        _normalised_flop,
        _normalised_weight,
    ),
    "linear_weight": Kernel("dy x", "dweight dbias", _all_rows, flop=_product_flop),
    "mi_loss": Kernel("q_params logits values table weights", "grads means total"),
    "order": Kernel("positions seed", "indices"),
    "sum_parts": Kernel(
        "parts more_parts",
        "sums more_sums",
        lambda a, loops: [math.ceil(a["count"] / a["BLOCK_PARTS"])] * loops,
    ),
    "warp_forward": Kernel("x maps fill", "y"),
    # A pixel of an image looks at 4 x 4 pixels of the result, if the change is small.
    "warp_backward": Kernel("dy maps", "dx", lambda a, loops: [4] * loops),
}


def work_of(launch: Launch) -> Work:
    """What a launch costs.

    Raises:
        KeyError: the kernel has no entry in ``KERNELS``.
        ValueError: its machine code has other loops than its entry says.
    """
    name = name_of(launch)
    code, registers, shared = _compiled(_Keyed(key_of(launch), launch))
    arguments = arguments_of(launch)
    kernel, loops = KERNELS[name], len(code.loops)
    try:
        instructions, waits = code.executed(kernel.trips(arguments, loops))
    except ValueError as error:
        raise ValueError(f"{name}: {error}; see KERNELS in bench/predict/ours.py") from None
    warps, programs = launch.constants.get("num_warps", 4), math.prod(launch.grid)
    each = -(-programs // h100.SMS)  # programs of the SM that gets the most
    rounds = -(-each // _resident(warps, registers, shared))
    alone = instructions * h100.DEPENDENT + waits * h100.LATENCY
    draws_tickets = any(_FENCE.search(text) for _, text in code.instructions)
    return Work(
        kernel=name,
        shape="x".join(map(str, launch.grid)),
        moved=moved_by(name, arguments),
        flop=flop_of(launch),
        arithmetic_s=_product_s(kernel, arguments, each),
        least_arithmetic_s=h100.cycles(flop_of(launch) / (SMS * HALF_FLOP * TILES[0][2])),
        issue_s=h100.cycles(each * warps * instructions / h100.ISSUED),
        chain_s=h100.cycles(rounds * alone),
        last_s=h100.cycles(h100.FENCE * draws_tickets) + FILL_S * (kernel.product is not None),
        ours=True,
    )


def flop_of(launch: Launch) -> int:
    """What the matrix products of a launch compute."""
    return KERNELS[name_of(launch)].flop(arguments_of(launch))


def _product_s(kernel: Kernel, arguments: Arguments, programs: int) -> float:
    """Seconds in which an SM multiplies for so many programs."""
    if kernel.product is None:
        return 0.0
    rows, columns, depth = kernel.product(arguments)
    area = rows * columns
    share = max(share for r, c, share in TILES if r * c <= max(area, 64 * 64))
    rate = HALF_FLOP * share * min(1.0, area / (64 * 64))
    return h100.cycles(programs * 2 * rows * columns * depth / rate)


def arguments_of(launch: Launch) -> Arguments:
    """A launch's arguments and constants by name, without _ptr."""
    names = (name.removesuffix("_ptr") for name in launch.kernel.arg_names)
    return {**dict(zip(names, launch.args, strict=False)), **launch.constants}


def moved_by(name: str, arguments: Arguments) -> int:
    """Bytes that a launch moves at least; of all images those of the batch."""
    kernel, total = KERNELS[name], 0
    for wanted in (*kernel.read.split(), *kernel.written.split()):
        value = arguments[wanted]
        for tensor in value if isinstance(value, tuple) else (value,):
            if tensor is not None:
                like = arguments["result"] if wanted == "images" else tensor
                total += like.numel() * tensor.element_size()
    return total


def _resident(warps: int, registers: int, shared: int) -> int:
    """Programs that an SM runs at a time."""
    each = -(-registers // 8) * 8 * 32 * warps
    return max(
        1,
        min(
            h100.PROGRAMS,
            h100.WARPS // warps,
            h100.REGISTERS // each,
            h100.SHARED_BYTES // (shared + h100.SHARED_RESERVED),
        ),
    )


@dataclass(frozen=True)
class _Keyed:
    """A launch, equal to others for which Triton compiles the same."""

    key: tuple[Any, ...]
    launch: Launch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key[0])


@functools.cache
def _compiled(keyed: _Keyed) -> tuple[sass.Code, int, int]:
    """Code, registers of a thread, and bytes of shared memory."""
    compiled = compile_launch(keyed.launch, 90)
    cubin = compiled.asm["cubin"]
    return sass.parse(dump(cubin, "-sass")), resources(cubin)[0], compiled.metadata.shared
