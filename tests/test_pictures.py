"""Pictures: which latents a grid shows and where, and what is written over it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastinfogan.errors import UserError
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results.grid import GAP, GAP_GREY, label_grid, save_png, tile
from fastinfogan.results.pictures import (
    column_order,
    generate,
    label_traversal,
    pin_codes,
    to_uint8,
    traversal,
)

SPEC = make_spec(2, "cat3,uni,bern,cat4,gauss")  # G's input: 2 noise, 3, 1, 1, 4, 1 numbers
RANGE = (-1.0, 1.0)


class Recorder(nn.Module):
    """A generator that keeps its inputs, and paints image n of each batch in grey n."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = []

    def forward(self, latents):
        self.batches.append(latents)
        grey = torch.arange(len(latents)) / 127.5 - 1.0
        return grey.view(-1, 1, 1, 1).expand(-1, 1, 4, 6)

    @property
    def latents(self):
        return torch.cat(self.batches)


def drawn(code, **options):
    """The picture of a traversal, and its inputs as (rows, columns, width)."""
    generator = Recorder().eval()
    grid = traversal(generator, SPEC, code, output_range=RANGE, **options)
    columns = (grid.shape[1] - GAP) // (6 + GAP)
    return grid, generator.latents.view(-1, columns, SPEC.input_width)


# -- Images and grids ------------------------------------------------------------------------


def test_uint8_maps_the_range_rounds_and_clips():
    images = torch.tensor([-1.0, 1.0, 0.0, 0.1 / 127.5 - 1.0, 0.9 / 127.5 - 1.0, -3.0, 7.0])
    expected = [0, 255, 128, 0, 1, 0, 255]  # 127.5 rounds to the even 128
    np.testing.assert_array_equal(to_uint8(images.view(1, 1, 1, 7), RANGE).ravel(), expected)
    colour = to_uint8(torch.rand(2, 3, 4, 5), (0.0, 1.0))
    assert (colour.shape, colour.dtype) == ((2, 4, 5, 3), np.uint8)


def test_every_uint8_survives_the_way_to_the_networks_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) * ((high - low) / 255.0) + low
        np.testing.assert_array_equal(to_uint8(floats, (low, high)), pixels)


def test_cells_lie_row_by_row_with_gaps_between():
    grid, _ = drawn(1, rows=3, columns=5)
    assert grid.shape == (3 * (4 + GAP) + GAP, 5 * (6 + GAP) + GAP, 1)
    for row in range(3):
        for column in range(5):
            top, left = GAP + row * (4 + GAP), GAP + column * (6 + GAP)
            assert (grid[top : top + 4, left : left + 6] == row * 5 + column).all()
    assert (grid[0] == GAP_GREY).all()
    assert (grid[:, 6 + GAP] == GAP_GREY).all()


def test_colour_stays_colour():
    class Red(nn.Module):
        def forward(self, latents):
            return torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(len(latents), 3, 2, 2)

    grid = traversal(Red().eval(), SPEC, 2, output_range=RANGE, rows=1)
    assert grid[GAP, GAP].tolist() == [255, 0, 0]


def test_a_last_row_may_be_short():
    grid = tile(np.zeros((3, 4, 6, 1), np.uint8), columns=2)
    assert (grid[GAP + 4 + GAP :, GAP : GAP + 6] == 0)[:4].all()
    assert (grid[GAP + 4 + GAP :, GAP + 6 + GAP :] == GAP_GREY).all()


def test_images_come_in_batches_and_in_order():
    generator = Recorder().eval()
    latents = SPEC.sample(300, 5, 0)
    images = generate(generator, SPEC, latents, RANGE)
    assert [len(batch) for batch in generator.batches] == [256, 44]
    assert torch.equal(generator.latents, SPEC.assemble(*latents))
    assert images[:, 0, 0, 0].tolist() == [*range(256), *range(44)]


# -- Traversals ------------------------------------------------------------------------------


@pytest.mark.parametrize("code, at", [(1, slice(5, 6)), (4, slice(11, 12))])
def test_continuous_code_runs_from_low_to_high(code, at):
    _, latents = drawn(code, rows=4, columns=5, low=-2.0, high=2.0, seed=7)
    expected = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    torch.testing.assert_close(latents[..., at][..., 0], expected.expand(4, 5))
    rest = torch.ones(SPEC.input_width, dtype=torch.bool)
    rest[at] = False
    assert torch.equal(latents[:, :1, rest].expand(-1, 5, -1), latents[..., rest])


def test_rows_of_a_continuous_code_show_the_categories_of_the_first_categorical_one():
    noise, values = SPEC.sample(4, 7, 0)
    for order, categories in ((None, [0, 1, 2, 0]), ([2, 0, 1], [2, 0, 1, 2])):
        _, latents = drawn(1, rows=4, columns=2, seed=7, order=order)
        assert latents[:, 0, 2:5].argmax(dim=1).tolist() == categories
        values[:, 0] = torch.tensor(categories)
        values[:, 1] = -2.0
        assert torch.equal(latents[:, 0], SPEC.assemble(noise, values))


def test_categorical_code_runs_through_its_categories_in_order():
    noise, values = SPEC.sample(3, 0, 0)
    _, latents = drawn(3, rows=3, order=[1, 3, 0, 2])
    assert latents.shape[1] == 4
    for column, category in enumerate([1, 3, 0, 2]):
        values[:, 3] = category  # and c1 is the sample's own
        assert torch.equal(latents[:, column], SPEC.assemble(noise, values))


def test_bernoulli_code_has_two_columns():
    _, latents = drawn(2, rows=3)
    assert latents[:, :, 6].tolist() == [[0.0, 1.0]] * 3
    assert latents[:, 0, 2:5].argmax(dim=1).tolist() == [0, 1, 2]


def test_fixed_codes_hold_for_every_row():
    _, latents = drawn(1, rows=4, columns=3, fixed={0: 2, 4: -0.25})
    assert (latents[..., 2:5] == torch.tensor([0.0, 0.0, 1.0])).all()
    assert (latents[..., 11] == -0.25).all()


@pytest.mark.parametrize(
    "fixed, says",
    [
        ({0: 3}, "--set c1_cat3=3: whole numbers from 0 to 2 work"),
        ({0: -1}, "0 to 2"),
        ({0: 0.5}, r"c1_cat3=0\.5: whole numbers"),
        ({0: math.nan}, "0 to 2"),
        ({2: 2}, "--set c3_bern=2: whole numbers from 0 to 1 work"),
        ({1: math.nan}, "--set c2_uni=nan: finite"),
    ],
)
def test_impossible_values_are_refused(fixed, says):
    with pytest.raises(UserError, match=says):
        pin_codes(SPEC, SPEC.sample(1, 0, 0).values, fixed)


def test_the_varied_code_cannot_be_fixed():
    with pytest.raises(UserError, match=r"--set c2_uni=0\.5: this is the code that varies"):
        drawn(1, fixed={1: 0.5})


def test_order_must_be_a_permutation():
    with pytest.raises(ValueError, match="not a permutation of 4 categories"):
        drawn(3, order=[0, 1, 2])


def test_categories_are_ordered_by_label():
    assert column_order([None, "10", "9", None, "2"]) == [4, 2, 1, 0, 3]
    assert column_order(["south", "east", "north"]) == [1, 2, 0]


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="eval mode"):
        traversal(Recorder(), SPEC, 0, output_range=RANGE)


# -- Captions --------------------------------------------------------------------------------


def test_the_grid_stands_doubled_under_its_caption():
    grid, _ = drawn(1, rows=3, columns=5)
    picture = label_grid(grid, "c")
    doubled = grid.repeat(2, axis=0).repeat(2, axis=1)
    height, width, _ = doubled.shape
    np.testing.assert_array_equal(picture[-height:, :width], doubled)
    header = picture[:-height]
    assert header.max() == 255
    assert header.min() < 64  # something is written


def test_a_wide_grid_keeps_its_size_and_a_narrow_one_makes_room_for_its_caption():
    wide, narrow = (np.zeros((3, width, 3), np.uint8) for width in (501, 20))
    assert label_grid(wide, "x").shape[1:] == (501, 3)
    picture = label_grid(narrow, "a caption wider than its grid")
    assert picture.shape[1] > 100
    assert (picture[-6:, 40:] == 255).all()


@pytest.mark.parametrize("text", ["8", "a label far too long for the cell that it names"])
def test_labels_stay_over_their_column(text):
    grid = np.zeros((4, 4 * (20 + GAP) + GAP, 1), np.uint8)
    blank = label_grid(grid, "x", ["", "", "", ""])
    ink = (label_grid(grid, "x", ["", "", text, ""]) != blank).any(axis=(0, 2)).nonzero()[0]
    left = 2 * (GAP + 2 * (20 + GAP))
    assert left <= ink.min() <= ink.max() < left + 2 * 20


def test_traversal_labels_name_values_categories_and_matches(monkeypatch):
    written = []
    monkeypatch.setattr(
        "fastinfogan.results.pictures.label_grid", lambda grid, *texts: written.append(texts)
    )
    grid = np.zeros((1, 1, 1), np.uint8)
    label_traversal(grid, SPEC, 1, columns=3)
    label_traversal(grid, SPEC, 2, fixed={0: 1.0, 1: -0.5})
    label_traversal(grid, SPEC, 0, order=[2, 0, 1])
    label_traversal(grid, SPEC, 0, order=[2, 0, 1], category_to_label=["cat", None, "dog"])
    assert written == [
        ("c2_uni, value", ["-2.00", "0.00", "2.00"]),
        ("c3_bern, value; c1_cat3 = 1, c2_uni = -0.5", ["0", "1"]),
        ("c1_cat3, category", ["2", "0", "1"]),
        (
            "c1_cat3, category (above) and the label it matches (below)",
            ["2\ndog", "0\ncat", "1\nnone"],
        ),
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
    image = np.random.default_rng(0).integers(256, size=(5, 7, channels), dtype=np.uint8)
    save_png(tmp_path / "x.png", image)
    with Image.open(tmp_path / "x.png") as file:
        np.testing.assert_array_equal(np.asarray(file).reshape(image.shape), image)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
