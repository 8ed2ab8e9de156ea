"""``rendered-faces`` and ``rendered-chairs``: their factors, and that each of them shows."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from user_errors import error_of

from fastinfogan.data import dataset_status, find_dataset, load_images, make_request
from fastinfogan.data.factors import Factor
from fastinfogan.data.ingest.make import ingest
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.render import cast
from fastinfogan.data.render.chair import ARMS, BACKS, LEGS, STYLES, WIDTHS, chair, design
from fastinfogan.data.render.sight import outlines
from fastinfogan.data.render.solids import orbit, scenes_of
from fastinfogan.data.render.source import rendered_source
from fastinfogan.data.sources import rendered_chairs as chairs
from fastinfogan.data.sources import rendered_faces as faces

NAMES = ("rendered-faces", "rendered-chairs")


def few(name: str) -> Source:
    """The dataset's source, with one identity or model."""
    make, draw, side, rows = {
        "rendered-faces": (faces.all_faces, faces.draw_faces, 32, faces.FACTORS),
        "rendered-chairs": (chairs.all_chairs, chairs.draw_chairs, 64, chairs.FACTORS),
    }[name]
    request = make_request(find_dataset(name))
    return rendered_source(request, name, 1, side, rows, lambda: make(1), draw)


# -- Factors -------------------------------------------------------------------------------------


def test_chairs_are_500_models_from_62_sides():
    values = chairs.all_chairs()
    assert values.shape == (31_000, 8) and values.dtype == np.int64
    factor = {row.name: values[:, i] for i, row in enumerate(chairs.FACTORS)}
    assert len(np.unique(values[:, :3], axis=0)) == 31_000
    assert len(np.unique(factor["model"])) == 500
    # As the published renders' names have them.
    assert np.unique(factor["azimuth"])[:8].tolist() == [0, 11, 23, 34, 46, 58, 69, 81]
    assert len(np.unique(factor["azimuth"])) == 31
    assert np.unique(factor["elevation"]).tolist() == [20, 30]
    for name, kinds in (("style", STYLES), ("legs", LEGS), ("back", BACKS), ("arms", ARMS)):
        shares = np.bincount(factor[name], minlength=len(kinds)) / 31_000
        assert len(shares) == len(kinds) and shares.min() > 0.6 / len(kinds)
    assert np.unique(factor["width"]).tolist() == list(WIDTHS)
    for column in range(3, 8):  # all sides of a model are of one chair
        assert (np.ptp(values[:, column].reshape(500, 62), axis=1) == 0).all()


def test_faces_are_500_identities_in_80_random_views():
    values = faces.all_faces()
    assert values.shape == (40_000, 5) and values.dtype == np.int64
    assert (np.bincount(values[:, 0]) == faces.VIEWS).all() and values[:, 0].max() == 499
    for column, choices in enumerate(faces.VALUES, 1):
        found, counts = np.unique(values[:, column], return_counts=True)
        assert found.tolist() == list(choices)
        expected = 40_000 / len(choices)
        assert abs(counts - expected).max() < 5 * math.sqrt(expected)
    correlations = np.corrcoef(values[:, 1:].T) - np.eye(4)
    assert abs(correlations).max() < 5 / math.sqrt(40_000)
    np.testing.assert_array_equal(faces.all_faces(3), values[:240])  # the first stay the first


def test_the_factors_say_what_they_are():
    kinds = {row.name: row.kind for row in (*chairs.FACTORS, *faces.FACTORS)}
    assert [kinds[name] for name in ("model", "identity", "style", "legs")] == ["categorical"] * 4
    assert [kinds[name] for name in ("elevation", "lighting", "width")] == ["ordered"] * 3
    assert Factor("azimuth", "cyclic", 360) in chairs.FACTORS
    assert Factor("azimuth", "ordered") in faces.FACTORS  # they never turn their backs


# -- Chairs --------------------------------------------------------------------------------------


def chairs_seen(model, azimuths, elevation=20):
    rows = chairs.all_chairs(model + 1)[[62 * model] * len(azimuths)]
    rows[:, 1], rows[:, 2] = azimuths, elevation
    return chairs.draw_chairs(rows).astype(int)


def test_a_mirrored_azimuth_is_the_mirrored_chair():
    """All chairs are symmetric; single rays on an edge may fall on its other side."""
    for model in range(8):
        right, left = chairs_seen(model, [40, -40])
        assert abs(right - left[:, ::-1]).mean() < 0.2
        assert abs(right - left).mean() > 2


def test_a_chair_comes_round_after_360_degrees_and_not_before():
    for model in range(4):
        views = chairs_seen(model, [0, 360, *range(23, 350, 23)])
        np.testing.assert_array_equal(views[0], views[1])
        assert (abs(views[2:] - views[0]).mean((1, 2)) > 1).all()


def test_the_back_of_a_chair_turns_with_the_azimuth():
    """From +x (90 degrees) the front is on the left: the back, which is what is high, is right."""
    for model in range(8):
        right, left = chairs_seen(model, [90, 270])
        for view, sign in ((right, 1), (left, -1)):
            dark = 255 - view[:20]
            across = (dark.sum(0) * (np.arange(64) - 31.5)).sum() / dark.sum()
            assert sign * across > 3


def test_a_back_leans_backwards_by_its_slope():
    for back in range(len(BACKS)):
        solids = chair(design(3)._replace(style=0, back=back, arms=0, tilt=0.25))
        high = max(solids, key=lambda solid: solid.centre[1])
        up = abs(high.axes[1]).argmax()  # the unit solid's axis that goes up
        assert high.axes[2, up] / high.axes[1, up] == pytest.approx(-0.25)
        assert high.centre[2] < 0


def test_chairs_fill_their_pictures_and_stay_inside():
    models = 80
    views = chairs.all_chairs(models)
    scenes = scenes_of([chair(design(model)) for model in range(models)])[views[:, 0]]
    cameras = orbit(views[:, 1], views[:, 2], chairs.DISTANCE, chairs.REACH)
    bounds = outlines(scenes, cameras)
    bounds[scenes.kinds < 0] = 0
    bounds = abs(bounds).max((1, 2, 3))
    assert bounds.max() < 1 - 2 / 64  # none reaches the outermost pixels
    assert bounds.min() > 0.6 and bounds.mean() > 0.8


def test_a_wider_chair_looks_wider():
    narrow, wide = (chair(design(7)._replace(width=width)) for width in (70, 130))
    reach = [max(abs(s.centre[0]) + abs(s.axes[0]).sum() for s in solids) for solids in
             (narrow, wide)]  # fmt: skip
    deep = [max(abs(s.centre[2]) + abs(s.axes[2]).sum() for s in solids) for solids in
            (narrow, wide)]  # fmt: skip
    assert reach[1] / deep[1] > 1.5 * reach[0] / deep[0]


def test_each_part_of_a_design_is_seen():
    base = design(0)._replace(style=0, legs=0, back=0, arms=0)
    for part, kinds in (("style", STYLES), ("legs", LEGS), ("back", BACKS), ("arms", ARMS)):
        made = [chair(base._replace(**{part: which})) for which in range(len(kinds))]
        scenes = scenes_of(made)
        cameras = orbit([30] * len(made), [20] * len(made), chairs.DISTANCE, chairs.REACH)
        images = cast.render(scenes, cameras, -cameras.forwards, 64, 1.0, 0.35).astype(int)
        for one in range(len(made)):
            for other in range(one):
                assert abs(images[one] - images[other]).mean() > 1


# -- Faces ---------------------------------------------------------------------------------------


def face(identity=0, azimuth=0, elevation=0, lighting=0, width=100):
    return faces.draw_faces(np.array([[identity, azimuth, elevation, lighting, width]]))[0].astype(
        int
    )


def test_light_from_the_left_brightens_the_left():
    for identity in range(4):
        left, right = face(identity, lighting=-80), face(identity, lighting=80)
        assert left[:, :16].mean() > 1.3 * left[:, 16:].mean()
        assert abs(left - right[:, ::-1]).mean() < 0.5
        halves = [face(identity, lighting=angle)[:, 16:].sum() for angle in (-80, -40, 0)]
        assert halves == sorted(halves)


def test_a_turned_face_is_mirrored_by_turning_it_the_other_way():
    for identity in range(4):
        one, other = face(identity, azimuth=48), face(identity, azimuth=-48)
        assert abs(one - other[:, ::-1]).mean() < 0.5 and abs(one - other).mean() > 5


def test_width_stretches_a_face():
    def wide(image):
        return (image.max(0) > 10).sum()

    for identity in range(4):
        narrow, usual, broad = (wide(face(identity, width=width)) for width in (80, 100, 120))
        assert usual / narrow == pytest.approx(1.25, abs=0.12)
        assert broad / usual == pytest.approx(1.2, abs=0.12)


def test_the_higher_the_camera_the_more_of_the_skull():
    """Where the brows are from below is nothing but skin from above."""
    for identity in range(6):
        views = [face(identity, elevation=angle)[6:12, 10:22] for angle in range(-24, 41, 16)]
        spreads = [view.std() for view in views]
        assert spreads == sorted(spreads, reverse=True) and spreads[0] > 2 * spreads[-1]


def test_identities_differ():
    images = np.stack([face(number) for number in range(12)])
    assert min(abs(images[a] - images[b]).mean() for a in range(12) for b in range(a)) > 2


# -- As datasets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_ingested_is_what_is_drawn(own_cache, name):
    """From any image on, so that an ingest that was cut off goes on with the same images."""
    source, request = few(name), make_request(find_dataset(name))
    data = ingest(source, request).data
    values, draw = {
        "rendered-faces": (faces.all_faces(1), faces.draw_faces),
        "rendered-chairs": (chairs.all_chairs(1), chairs.draw_chairs),
    }[name]
    np.testing.assert_array_equal(data.factors, values)
    assert data.factor_rows == tuple(source.factors) and data.both_splits
    np.testing.assert_array_equal(data.images[..., 0], draw(values))
    torch.set_num_threads(3)
    try:
        rest = np.concatenate([block.rows for block in source.open().blocks(37, None)])
        assert torch.get_num_threads() == 3  # as many as before, for whoever trains
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(rest, data.images[37:])
    changed = replace(source, identity="another version")
    assert ingest(changed, request).seconds is not None  # not the cache of the first


def test_the_images_are_those_of_their_version():
    """If this fails, the images have changed: raise VERSION, or caches keep the old ones."""
    # The last two of each have a pixel that goes by the last bit of a root.
    some_chairs = chairs.draw_chairs(chairs.all_chairs(90)[[*range(0, 744, 31), 312, 5539]])
    some_faces = faces.draw_faces(faces.all_faces(15)[[*range(0, 1200, 50), 428, 1159]])
    found = [hashlib.sha256(images.tobytes()).hexdigest()[:16] for images in
             (some_chairs, some_faces)]  # fmt: skip
    assert (chairs.VERSION, faces.VERSION, found) == (
        2,
        4,
        ["b740caa5a2b38b5d", "0db25471f515c2cd"],
    )


@pytest.mark.parametrize(("name", "size"), [("rendered-faces", 32), ("rendered-chairs", 64)])
def test_what_does_not_go_with_rendered_images_is_refused(name, size):
    assert error_of(load_images, name, Path("x")) == (
        f"--data-dir 'x' does not go with --dataset {name}, whose images are rendered here; drop it"
    )
    other = 96 - size
    said = error_of(load_images, name, image_size=other)
    assert said.startswith(f"--image-size {other} does not go with --dataset {name}, whose images")
    assert f"are {size}x{size} with 1 channel;" in said
    assert error_of(load_images, name, channels=3).startswith("--channels 3 does not go with")
    assert error_of(load_images, name, stretch=12).startswith("--stretch 12 does not go with")
    assert dataset_status(name) == (True, "rendered when they are first asked for, and kept")


def test_most_solids_are_never_met(monkeypatch):
    """The cost, in rays times solids, is a fraction of that of every ray with every solid."""
    met = []
    candidates = cast._candidates

    def counted(*arguments):
        for kind, pairs in candidates(*arguments):
            met.append(pairs.shape[1])
            yield kind, pairs

    monkeypatch.setattr(cast, "_candidates", counted)
    values = chairs.all_chairs(20)[::31]
    chairs.draw_chairs(values)
    solids = np.mean([len(chair(design(number))) for number in range(20)])
    assert sum(met) / len(values) < 0.2 * solids * 64  # tiles
    met.clear()
    values = faces.all_faces(20)[::40]
    faces.draw_faces(values)
    assert sum(met) / len(values) < 0.35 * 21 * 16
