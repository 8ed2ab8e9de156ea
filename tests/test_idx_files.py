"""idx files in a --data-dir: found under all their names, and refused for what is wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from idx_files import NAMES, TEST_NAMES, digits_like, idx_bytes, write_four
from user_errors import error_of

from fastinfogan.data import dataset_status, load_images

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_load_from_a_directory_under_all_their_names(tmp_path, suffix, dotted):
    written = write_four(tmp_path, suffix=suffix)
    if dotted:
        for path in list(tmp_path.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    for split, (images_name, labels_name) in (("train", NAMES), ("test", TEST_NAMES)):
        data = load_images("mnist", tmp_path, split)
        np.testing.assert_array_equal(data.images[..., 0], written[images_name])
        np.testing.assert_array_equal(data.labels, written[labels_name])
        assert data.labels.dtype == np.int64 and data.label_names == tuple("0123456789")
        assert data.image_shape == (1, 28, 28) and data.images.flags.writeable
    assert load_images("fashion-mnist", tmp_path).label_names[9] == "Ankle boot"
    assert dataset_status("mnist", tmp_path) == (True, f"the four files are in {str(tmp_path)!r}")


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    write_four(tmp_path, suffix="")
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name + ".gz"))
    assert len(load_images("mnist", tmp_path)) == 12


def test_a_missing_idx_file_is_named_and_only_the_asked_split_is_needed(tmp_path):
    write_four(tmp_path)
    (tmp_path / f"{TEST_NAMES[1]}.gz").unlink()
    assert len(load_images("mnist", tmp_path)) == 12
    message = error_of(load_images, "mnist", tmp_path, "test")
    assert message.startswith(f"--data-dir {str(tmp_path)!r} lacks t10k-labels-idx1-ubyte[.gz];")
    assert "t10k-images-idx3-ubyte[.gz] and" in message
    assert dataset_status("mnist", tmp_path) == (False, message)


IMAGES, LABELS = digits_like(12)
BROKEN = {
    "values cut short": (0, idx_bytes(IMAGES)[:-5], "is cut short: 9403 bytes of values"),
    "header cut short": (0, idx_bytes(IMAGES)[:9], "is cut short: 9 bytes, less than its header"),
    "empty": (1, b"", "is cut short: 0 bytes"),
    "too long": (1, idx_bytes(LABELS) + b"x", "is too long: 13 bytes of values"),
    "labels in place of images": (0, idx_bytes(LABELS), "starts with 0x00000801"),
    "wrong type": (0, idx_bytes(IMAGES, b"\0\0\x0d\3"), "starts with 0x00000d03"),
    "not idx": (1, b"<html>not found</html>", "starts with 0x3c68746d"),
    "gzip cut short": (0, gzip.compress(idx_bytes(IMAGES))[:-20], "cut short or damaged"),
    "gzip damaged": (1, gzip.compress(idx_bytes(LABELS))[:-8] + b"\0" * 8, "CRC check failed"),
    "32 x 32": (0, idx_bytes(np.zeros((12, 32, 32), np.uint8)), "holds images of 32x32 pixels"),
    "no image": (0, idx_bytes(IMAGES[:0]), "holds no image"),
    "fewer labels": (1, idx_bytes(LABELS[:7]), "holds 7 labels for the 12 images"),
    "label 10": (1, idx_bytes(LABELS + 1), "holds the label 10"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_idx_files_are_named_with_what_is_wrong(tmp_path, case):
    which, content, problem = BROKEN[case]
    write_four(tmp_path)
    (tmp_path / f"{NAMES[which]}.gz").write_bytes(content)
    message = error_of(load_images, "mnist", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r}: {NAMES[which]}.gz ")
    assert problem in message


@pytest.mark.skipif(
    not DEBIAN_FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_mnist():
    for split, per_class in (("train", 6000), ("test", 1000)):
        data = load_images("fashion-mnist", DEBIAN_FASHION, split)
        np.testing.assert_array_equal(np.bincount(data.labels), [per_class] * 10)
        # The mean pixel that is commonly used to normalise it: 0.2860 of white.
        assert data.images.mean() / 255 == pytest.approx(0.2860, abs=1e-3)
