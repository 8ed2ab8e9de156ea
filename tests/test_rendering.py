"""Rendering: outlines, light and depth worked out by hand, and the same bytes in any company."""

import math

import numpy as np
import pytest
import torch

from fastinfogan.data.render import cast
from fastinfogan.data.render.cast import render
from fastinfogan.data.render.sight import outlines
from fastinfogan.data.render.solids import KINDS, Solid, lamps_by, orbit, scenes_of

DISTANCE, REACH, SIZE = 5.0, 0.25, 64
CPU = torch.device("cpu")


def solid(kind, halves, centre=(0, 0, 0), grey=0.5):
    return Solid(kind, np.array(centre, float), np.diag(np.float64(halves)), grey)


def picture(solids, azimuth=0, elevation=0, lamp=(0, 0), ambient=0.25, background=1.0):
    """Grey levels from 0 to 255, as seen by a camera with the lamp so far right of it and above."""
    cameras = orbit([azimuth], [elevation], DISTANCE, REACH)
    lamps = lamps_by(cameras, [lamp[0]], [lamp[1]])
    scenes = scenes_of([solids])
    return render(scenes, cameras, lamps, SIZE, background, ambient, CPU)[0].astype(int)


def covered(image):
    """Share of each pixel that isn't background: with black solids on white."""
    return 1 - image / 255


def pixels(length, depth):
    """How long something at that depth is in the picture."""
    return length / depth / REACH * SIZE / 2


BLACK = {"grey": 0.0}
# Rays are 1/3 pixel apart, so that an edge along them is off by half of that at most.
EDGE = 1 / 6


def test_a_box_from_the_front_is_the_rectangle_of_its_front():
    wide, high, deep = 0.4, 0.7, 0.5
    cover = covered(picture([solid("box", (wide, high, deep), **BLACK)]))
    columns, rows = cover.max(0), cover.max(1)
    assert abs(columns.sum() - 2 * pixels(wide, DISTANCE - deep)) <= 2 * EDGE
    assert abs(rows.sum() - 2 * pixels(high, DISTANCE - deep)) <= 2 * EDGE
    np.testing.assert_allclose(cover, np.outer(rows, columns), atol=1 / 255)  # no corner is missing
    np.testing.assert_array_equal(cover, cover[:, ::-1])


def test_a_box_turned_by_45_degrees_shows_two_sides():
    """Its corners are at sqrt(2) of half its side, at the depth of its centre."""
    cover = covered(picture([solid("box", (0.5, 0.3, 0.5), **BLACK)], azimuth=45))
    assert abs(cover[SIZE // 2].sum() - 2 * pixels(0.5 * math.sqrt(2), DISTANCE)) <= 2 * EDGE


def test_a_sphere_is_a_disc_from_everywhere():
    """The cone that touches it has its radius / distance as the sine of half its angle."""
    radius = pixels(math.tan(math.asin(0.8 / DISTANCE)), 1)
    for azimuth, elevation in ((0, 0), (77, 30), (200, -45)):
        cover = covered(picture([solid("ellipsoid", (0.8,) * 3, **BLACK)], azimuth, elevation))
        assert cover.sum() == pytest.approx(math.pi * radius**2, rel=0.005)
        assert abs(cover[SIZE // 2].sum() - 2 * radius) <= 2 * EDGE


def test_a_cylinder_is_a_disc_from_above_and_a_rectangle_from_the_side():
    shape = [solid("cylinder", (0.6, 0.4, 0.6), **BLACK)]
    radius = pixels(0.6, DISTANCE - 0.4)
    assert covered(picture(shape, elevation=90)).sum() == pytest.approx(
        math.pi * radius**2, rel=0.005
    )
    side = covered(picture(shape))
    half = pixels(math.tan(math.asin(0.6 / DISTANCE)), 1)
    assert abs(side.max(0).sum() - 2 * half) <= 2 * EDGE
    assert abs(side[:, SIZE // 2].sum() - 2 * pixels(0.4, DISTANCE - 0.6)) <= 2 * EDGE


def test_slanted_axes_shear_a_box():
    axes = np.array([[0.3, 0.3, 0], [0, 0.5, 0], [0, 0, 0.1]])  # up goes to the right as well
    cover = covered(picture([Solid("box", np.zeros(3), axes, 0.0)]))
    top, bottom = (np.nonzero(cover[row])[0].mean() for row in (22, 41))
    assert top - bottom == pytest.approx(19 * 0.6, abs=1)


def test_what_is_nearer_hides_what_is_behind():
    near = solid("box", (0.2, 0.2, 0.1), (0, 0, 1), grey=0.2)
    far = solid("ellipsoid", (0.6, 0.6, 0.1), grey=0.8)
    for order in ([near, far], [far, near]):
        front, behind = picture(order, ambient=1.0), picture(order, 180, ambient=1.0)
        assert front[32, 32] == round(0.2 * 255) and behind[32, 32] == round(0.8 * 255)


def test_light_falls_off_with_the_cosine_and_leaves_the_ambient_part():
    """A box's front is lit by ambient + (1 - ambient) cos: at 0, 60 and, from behind, 180."""
    box = [solid("box", (0.5, 0.5, 0.5), grey=0.8)]
    for angle, share in ((0, 1.0), (60, 0.25 + 0.75 / 2), (180, 0.25)):
        assert picture(box, lamp=(angle, 0))[32, 32] == round(0.8 * share * 255)
    # The top of a cylinder and of a ball, from above, likewise.
    for kind in ("cylinder", "ellipsoid"):
        top = picture([solid(kind, (0.5, 0.5, 0.5), grey=0.8)], elevation=90, lamp=(60, 0))
        assert top[31:33, 31:33].mean() == pytest.approx(0.8 * 0.625 * 255, abs=2)


@pytest.mark.parametrize("kind", ["cylinder", "ellipsoid"])
def test_a_round_side_is_brightest_where_it_faces_the_lamp(kind):
    """Of a long solid: at 45 degrees on it, which is at sin 45 of the radius, nearly."""
    shape = [solid(kind, (0.8, 9.0, 0.8), grey=0.8)]
    for angle, column in ((0, 0.0), (45, math.sin(math.pi / 4)), (-45, -math.sin(math.pi / 4))):
        row = picture(shape, lamp=(angle, 0), background=0.0)[SIZE // 2]
        brightest = np.nonzero(row == row.max())[0].mean() + 0.5 - SIZE / 2
        depth = DISTANCE - 0.8 * math.cos(math.radians(angle))
        assert brightest == pytest.approx(pixels(0.8 * column, depth), abs=1.5)


def test_a_stretched_ball_is_lit_by_the_normal_of_its_stretched_surface():
    """A flat disc of a ball, leaned by 45 degrees, faces a lamp straight above and in front."""
    turn = math.sqrt(0.5)
    axes = np.array([[1, 0, 0], [0, turn, turn], [0, -turn, turn]]) @ np.diag([0.7, 0.7, 0.01])
    image = picture([Solid("ellipsoid", np.zeros(3), axes, 0.8)], lamp=(0, 45), background=0.0)
    assert abs(image[32, 32] - 0.8 * 255) <= 1
    image = picture([Solid("ellipsoid", np.zeros(3), axes, 0.8)], lamp=(0, -45), background=0.0)
    assert abs(image[32, 32] - 0.8 * 0.25 * 255) <= 3


def test_once_around_is_the_same_view():
    shape = [solid("box", (0.3, 0.4, 0.2)), solid("cylinder", (0.1, 0.3, 0.2), (0.4, 0.1, 0.3))]
    np.testing.assert_array_equal(picture(shape, 0, 20), picture(shape, 360, 20))
    np.testing.assert_array_equal(picture(shape, -77, 20), picture(shape, 283, 20))
    assert (picture(shape, 0, 20) != picture(shape, 180, 20)).any()


def random_scenes(count, seed=0):
    random = np.random.default_rng(seed)

    def one():
        kind = KINDS[random.integers(3)]
        return Solid(kind, random.uniform(-0.6, 0.6, 3), random.normal(0, 0.25, (3, 3)), 0.5)

    scenes = scenes_of([[one() for _ in range(random.integers(1, 9))] for _ in range(count)])
    cameras = orbit(random.uniform(0, 360, count), random.uniform(-60, 60, count), DISTANCE, REACH)
    return scenes, cameras, lamps_by(cameras, random.uniform(-80, 80, count), np.full(count, 20.0))


def drawn(scenes, cameras, lamps, device=CPU):
    return render(scenes, cameras, lamps, SIZE, 1.0, 0.3, device)


def test_an_image_is_the_same_in_any_company_and_with_any_threads(monkeypatch):
    scenes, cameras, lamps = random_scenes(6)
    all_at_once = drawn(scenes, cameras, lamps)
    for size in (1, 4):
        parts = [slice(first, first + size) for first in range(0, 6, size)]
        alone = np.concatenate([drawn(scenes[s], cameras[s], lamps[s]) for s in parts])
        np.testing.assert_array_equal(alone, all_at_once)
    monkeypatch.setattr(cast, "TILES_AT_ONCE", 7)
    np.testing.assert_array_equal(drawn(scenes, cameras, lamps), all_at_once)
    monkeypatch.setattr(cast, "TILES_AT_ONCE", 10**6)
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(drawn(scenes, cameras, lamps), all_at_once)
    finally:
        torch.set_num_threads(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_renders_the_same_bytes():
    scenes, cameras, lamps = random_scenes(100)
    on_gpu = drawn(scenes, cameras, lamps, torch.device("cuda"))
    np.testing.assert_array_equal(on_gpu, drawn(scenes, cameras, lamps))


def test_roots_are_rounded_as_numpy_does():
    """Which takes the processor's own; torch's float32 root is off by a bit for one in six."""
    numbers = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).abs()
    assert np.array_equal(cast._root(numbers).numpy(), np.sqrt(numbers.numpy()))


def test_tiles_leave_nothing_out(monkeypatch):
    """Every solid in every tile is what the outlines spare."""
    scenes, cameras, lamps = random_scenes(12, seed=1)
    spared = drawn(scenes, cameras, lamps)
    monkeypatch.setattr(cast, "outlines", lambda s, c: np.tile([-1.0, 1.0], (*s.kinds.shape, 2, 1)))
    np.testing.assert_array_equal(drawn(scenes, cameras, lamps), spared)


def test_an_outline_is_the_bounds_of_what_is_drawn():
    scenes, cameras, lamps = random_scenes(30, seed=2)
    first = scenes[:]
    first.kinds[:, 1:] = -1
    images = drawn(first, cameras, lamps)
    edges = (outlines(first, cameras)[:, 0] + 1) / 2 * SIZE
    for image, ((left, right), (top, bottom)) in zip(images, edges, strict=True):
        rows, columns = np.nonzero(image != 255)
        assert len(rows) == 0 or (
            left - 1 < columns.min() and columns.max() < right
            and top - 1 < rows.min() and rows.max() < bottom
        )  # fmt: skip
