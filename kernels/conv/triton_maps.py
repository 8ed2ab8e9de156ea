"""conv's Triton kernels that make maps; the mathematics is in the package.

A program has a tile of the map in registers. For a batchnorm it finds, of the numbers as rounded,
what ``bn_act``'s own pass would gather of these rows: count, mean and M2 of each channel for one
behind the map; or, where the map is the gradient of what a batchnorm made, count and the two sums
of its backward pass. Every tile is a part.
"""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import backward_sums, forward_sums, write_three
from fastinfogan.kernels.conv.triton_patches import activate, patches, place
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, tl


@jit
def conv_down_kernel(
    large_ptr,
    weight_ptr,
    bias_ptr,  # or None
    small_ptr,
    before_ptr,  # like small, what a slope made, whose derivative is multiplied with; or None
    scale_ptr,  # see backward_sums, whose x is before; or None
    shift_ptr,
    stats_ptr,
    partials_ptr,  # (tiles, 3, groups, FEATURES) float32; None: nobody wants sums
    pixels,  # of the small maps of all images, or of a group of them
    plane,  # groups * FEATURES
    slope,
    before_slope,
    HEIGHT: tl.constexpr,  # of the large map
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,  # of the small map
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    STRIDE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_FEATURES: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Patches times the weight: a program has a tile of pixels and features."""
    await_previous(EARLY)
    tile, group = tl.program_id(1), 0
    if partials_ptr is not None:
        tiles = tl.cdiv(pixels, BLOCK_PIXELS)
        group = tile // tiles
        tile -= group * tiles
    begin = group * pixels + tile * BLOCK_PIXELS
    end = (group + 1) * pixels
    first_image = begin // (ROWS * COLUMNS)
    large_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
    p = begin + tl.arange(0, BLOCK_PIXELS)
    image, row, column, inside = place(p, end, ROWS, COLUMNS)
    image -= first_image
    n = tl.program_id(0) * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    there = n < FEATURES
    k = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_PIXELS, BLOCK_FEATURES), tl.float32)
    for step in range(0, tl.cdiv(16 * CHANNELS, BLOCK_K)):
        first = step * BLOCK_K
        a = patches(
            large_ptr, image, row, column, inside, first,
            HEIGHT, WIDTH, CHANNELS, STRIDE, BLOCK_K,
        )  # fmt: skip
        mask = there[:, None]
        if 16 * CHANNELS % BLOCK_K != 0:
            mask = mask & (first + k < 16 * CHANNELS)[None, :]
        at = n[:, None] * (16 * CHANNELS) + (first + k)[None, :]
        w = tl.load(weight_ptr + at, mask, other=0.0)
        total = multiply(a, tl.trans(w), total)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + n, there, other=0.0).to(tl.float32)[None, :]
    total = activate(total, slope, ACTIVATION)
    small_ptr += begin.to(tl.int64) * FEATURES
    at = tl.arange(0, BLOCK_PIXELS)[:, None] * FEATURES + n[None, :]
    mask = inside[:, None] & there[None, :]
    if before_ptr is not None:
        before_ptr += begin.to(tl.int64) * FEATURES
        before = tl.load(before_ptr + at, mask, other=0.0)
        if stats_ptr is None:
            total = tl.where(before > 0.0, total, total * before_slope)
    y = total.to(small_ptr.dtype.element_ty)
    tl.store(small_ptr + at, y, mask)
    if partials_ptr is not None:
        groups, count = plane // FEATURES, tl.minimum(BLOCK_PIXELS, end - begin)
        if stats_ptr is None:
            first, second = forward_sums(y, inside, count)
        else:
            first, second = backward_sums(
                y, before, scale_ptr, shift_ptr, stats_ptr, group, groups, n, there, FEATURES,
                before_slope,
            )  # fmt: skip
        write_three(partials_ptr, tile, group, groups, n, there, FEATURES, count, first, second)


@jit
def conv_up_kernel(
    small_ptr,
    weight_ptr,
    bias_ptr,  # or None
    large_ptr,
    before_ptr,  # like large, what a slope made, whose derivative is multiplied with; or None
    scale_ptr,  # see backward_sums, whose x is before; or None
    shift_ptr,
    stats_ptr,
    partials_ptr,  # (tiles, 3, groups, CHANNELS) float32; None: nobody wants sums
    places,  # pixels of one parity of all images, or of a group of them
    plane,  # groups * CHANNELS
    slope,
    before_slope,
    HEIGHT: tl.constexpr,  # of the large map
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,  # of the small map
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    STRIDE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A program has a tile of channels and pixels whose rows, and columns, are all even or all odd.

    With stride 2 such pixels are covered by the same 2x2 taps: that is a product, too.
    """
    await_previous(EARLY)
    REACH: tl.constexpr = 4 // STRIDE  # taps along an axis
    STEPS: tl.constexpr = (FEATURES + BLOCK_K - 1) // BLOCK_K  # of each tap
    HALF_HEIGHT: tl.constexpr = (HEIGHT + STRIDE - 1) // STRIDE
    HALF_WIDTH: tl.constexpr = (WIDTH + STRIDE - 1) // STRIDE
    parity = tl.program_id(0) % (STRIDE * STRIDE)
    py, px = parity // STRIDE, parity % STRIDE
    tile, group = tl.program_id(1), 0
    if before_ptr is not None and partials_ptr is None:
        # 0, but not known to be: what Triton else concludes of addresses spills on capability 8.0.
        group = tl.program_id(2)
    if partials_ptr is not None:
        tiles = tl.cdiv(places, BLOCK_PIXELS)
        group = tile // tiles
        tile -= group * tiles
    begin = group * places + tile * BLOCK_PIXELS
    end = (group + 1) * places
    first_image = begin // (HALF_HEIGHT * HALF_WIDTH)
    small_ptr += first_image.to(tl.int64) * (ROWS * COLUMNS * FEATURES)
    large_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
    p = begin + tl.arange(0, BLOCK_PIXELS)
    image, row, column, inside = place(p, end, HALF_HEIGHT, HALF_WIDTH)
    image -= first_image
    # y = STRIDE i + ky - 1: tap t along an axis is of the small map's pixel i - t.
    if STRIDE == 2:
        i, j, ky, kx = row + py, column + px, 1 - py, 1 - px
    else:
        i, j, ky, kx = row + 1, column + 1, 0, 0
    corner = ((image * ROWS + i) * COLUMNS + j) * FEATURES
    strip = tl.program_id(0) // (STRIDE * STRIDE)
    n = strip * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    there = n < CHANNELS
    total = tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), tl.float32)
    for step in range(0, REACH * REACH * STEPS):
        tap = step // STEPS
        ty, tx = tap // REACH, tap % REACH
        m = (step - tap * STEPS) * BLOCK_K + tl.arange(0, BLOCK_K)
        seen = inside & (i >= ty) & (i - ty < ROWS) & (j >= tx) & (j - tx < COLUMNS)
        of_a, of_w = seen[:, None], there[None, :]
        if FEATURES % BLOCK_K != 0:
            of_a, of_w = of_a & (m < FEATURES)[None, :], of_w & (m < FEATURES)[:, None]
        at = (corner - (ty * COLUMNS + tx) * FEATURES)[:, None] + m[None, :]
        a = tl.load(small_ptr + at, of_a, other=0.0)
        of_tap = ((ky + STRIDE * ty) * 4 + kx + STRIDE * tx) * CHANNELS
        at = m[:, None] * (16 * CHANNELS) + (of_tap + n)[None, :]
        total = multiply(a, tl.load(weight_ptr + at, of_w, other=0.0), total)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + n, there, other=0.0).to(tl.float32)[None, :]
    total = activate(total, slope, ACTIVATION)
    y, x = row * STRIDE + py, column * STRIDE + px
    inside &= (y < HEIGHT) & (x < WIDTH)
    at = (((image * HEIGHT + y) * WIDTH + x) * CHANNELS)[:, None] + n[None, :]
    mask = inside[:, None] & there[None, :]
    if before_ptr is not None:
        before_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
        before = tl.load(before_ptr + at, mask, other=0.0)
        if stats_ptr is None:
            total = tl.where(before > 0.0, total, total * before_slope)
    result = total.to(large_ptr.dtype.element_ty)
    tl.store(large_ptr + at, result, mask)
    if partials_ptr is not None:  # then every parity has as many pixels
        groups, count = plane // CHANNELS, tl.minimum(BLOCK_PIXELS, end - begin)
        if stats_ptr is None:
            first, second = forward_sums(result, inside, count)
        else:
            first, second = backward_sums(
                result, before, scale_ptr, shift_ptr, stats_ptr, group, groups, n, there, CHANNELS,
                before_slope,
            )  # fmt: skip
        tile = tile * (STRIDE * STRIDE) + parity
        write_three(partials_ptr, tile, group, groups, n, there, CHANNELS, count, first, second)


@jit
def conv_up_image_kernel(
    small_ptr,
    weight_ptr,
    bias_ptr,  # or None
    large_ptr,
    places,  # quadruples of pixels of all images
    slope,
    HEIGHT: tl.constexpr,  # of the large map
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,  # of the small map
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Stride 2 and up to 4 channels: a program has all numbers of 2x2 pixels, which are up to 16.

    Together they see 3x3 pixels of the small map, so each of these is loaded 9 times, not 16; a
    number whose taps don't reach that far has a 0 in the weight's place.
    """
    await_previous(EARLY)
    STEPS: tl.constexpr = (FEATURES + BLOCK_K - 1) // BLOCK_K  # of each pixel of the small map
    HALF_HEIGHT: tl.constexpr = (HEIGHT + 1) // 2
    HALF_WIDTH: tl.constexpr = (WIDTH + 1) // 2
    tile = tl.program_id(0)
    first_image = tile * BLOCK_PIXELS // (HALF_HEIGHT * HALF_WIDTH)
    small_ptr += first_image.to(tl.int64) * (ROWS * COLUMNS * FEATURES)
    large_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
    p = tile * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    image, row, column, inside = place(p, places, HALF_HEIGHT, HALF_WIDTH)
    image -= first_image
    corner = ((image * ROWS + row) * COLUMNS + column) * FEATURES
    n = tl.arange(0, 16)
    parity = n // CHANNELS
    channel = n - parity * CHANNELS
    py, px = parity // 2, parity % 2
    there = parity < 4
    total = tl.zeros((BLOCK_PIXELS, 16), tl.float32)
    for step in range(0, 9 * STEPS):
        seen_from = step // STEPS
        dy, dx = seen_from // 3 - 1, seen_from % 3 - 1
        m = (step - seen_from * STEPS) * BLOCK_K + tl.arange(0, BLOCK_K)
        i, j = row + dy, column + dx
        ky, kx = 1 + py - 2 * dy, 1 + px - 2 * dx
        of_a = (inside & (i >= 0) & (i < ROWS) & (j >= 0) & (j < COLUMNS))[:, None]
        of_w = (there & (ky >= 0) & (ky < 4) & (kx >= 0) & (kx < 4))[None, :]
        if FEATURES % BLOCK_K != 0:
            of_a, of_w = of_a & (m < FEATURES)[None, :], of_w & (m < FEATURES)[:, None]
        at = (corner + (dy * COLUMNS + dx) * FEATURES)[:, None] + m[None, :]
        a = tl.load(small_ptr + at, of_a, other=0.0)
        at = m[:, None] * (16 * CHANNELS) + ((ky * 4 + kx) * CHANNELS + channel)[None, :]
        total = multiply(a, tl.load(weight_ptr + at, of_w, other=0.0), total)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + channel, there, other=0.0).to(tl.float32)[None, :]
    total = activate(total, slope, ACTIVATION)
    y, x = (row * 2)[:, None] + py[None, :], (column * 2)[:, None] + px[None, :]
    mask = inside[:, None] & there[None, :] & (y < HEIGHT) & (x < WIDTH)
    at = ((image * HEIGHT)[:, None] + y) * WIDTH + x
    at = at * CHANNELS + channel[None, :]
    tl.store(large_ptr + at, total.to(large_ptr.dtype.element_ty), mask)
