"""What TensorBoard reads of a run: numbers and pictures, and no more pictures than are of use."""

from __future__ import annotations

import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from training_runs import small

from fastinfogan.training.board import MOST_PIXELS, Board
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.trainer import train


def board(folder):
    """TensorBoard's own view of a run directory, with every picture."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={IMAGES: 0})
    return events.Reload()


def pixels(encoded):
    return np.asarray(Image.open(BytesIO(encoded)).convert("L"))


@pytest.fixture
def opened(tmp_path):
    with Board(tmp_path, 0, pytest.fail) as opened:
        yield opened


def test_a_run_shows_its_numbers_and_each_picture_as_it_came_to_be(finished):
    events = board(finished.folder)
    rows = read_metrics(finished.folder / "metrics.jsonl")
    assert [point.step for point in events.Scalars("mi")] == [row["iteration"] for row in rows]
    names = ["samples", "traversal_c1_cat10", "traversal_c2_uni", "traversal_c3_uni"]
    assert sorted(events.Tags()["images"]) == names
    for name in names:
        first, last = events.Images(name)
        assert (first.step, last.step) == (6, 12)
        for shown, file in ((first, f"pictures/{name}_00000006.png"), (last, f"{name}.png")):
            expected = pixels((finished.folder / file).read_bytes())
            np.testing.assert_array_equal(pixels(shown.encoded_image_string), expected)


def test_pictures_come_at_growing_distances_and_the_last_in_any_case(opened, tmp_path):
    image = {"samples": np.zeros((4, 6, 1), np.uint8)}
    for iteration in range(100, 100_001, 100):
        opened.draw(image, iteration)
    opened.draw(image, 100_001, last=True)
    opened.__exit__()
    steps = [shown.step for shown in board(tmp_path).Images("samples")]
    assert steps[:6] == [100, 200, 300, 500, 800, 1200] and steps[-1] == 100_001
    assert len(steps) == 17  # of 1,001


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_picture_is_made_smaller(opened, tmp_path, channels):
    large = np.random.default_rng(0).integers(256, size=(2000, 3000, channels), dtype=np.uint8)
    opened.draw({"large": large}, 1)
    opened.__exit__()
    (shown,) = board(tmp_path).Images("large")
    assert (shown.width, shown.height) == (1000, 667)
    assert shown.width * shown.height <= MOST_PIXELS
    assert len(shown.encoded_image_string) < 3.1 * MOST_PIXELS


def test_a_board_that_breaks_over_a_picture_ends_nothing(tmp_path, monkeypatch):
    said = []
    with Board(tmp_path, 0, said.append) as opened:

        def broken(*args, **kwargs):
            raise OSError("no space left")

        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_image", broken)
        for iteration in (1, 10):
            opened.draw({"samples": np.zeros((4, 6, 1), np.uint8)}, iteration)
    assert said == ["TensorBoard is installed but doesn't work: no space left; going on without"]


def test_without_tensorboard_pictures_are_files_only(tmp_path, monkeypatch, brief):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(small(tmp_path / "run", 4, sample_every=2))
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "pictures" / "samples_00000002.png").exists()
