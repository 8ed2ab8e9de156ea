"""Which files of a folder count, which are left out and why, and what the labels are."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, flat, save, write
from tolerances import JPEG_LEVELS
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import dataset_status, load_images
from fastinfogan.data.ingest import pillow
from fastinfogan.data.ingest.preprocess import Preprocess


def test_folder_finds_every_format_at_any_depth_sorted_by_path(tmp_path):
    names = ["B.PNG", "a/z.jpg", "a.JpEg", "a/b/c.webp", "z.bmp", "q.tif", "q.tiff"]
    level = {name: 30 * (1 + rank) for rank, name in enumerate(sorted(names))}
    for name in names:
        save(tmp_path / name, flat([level[name]] * 3))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._a.jpg").write_bytes(b"a file manager's own")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "x.png").write_bytes(b"a file manager's own")
    data = load_images("folder", tmp_path)
    assert data.images.shape == (7, 32, 32, 3) and data.image_shape == (3, 32, 32)
    assert data.images.dtype == np.uint8 and data.skipped == ()
    np.testing.assert_allclose(data.images[:, 16, 16, 0], sorted(level.values()), atol=JPEG_LEVELS)
    assert load_images("folder", tmp_path, "test").fingerprint == data.fingerprint
    assert dataset_status("folder", tmp_path) == (True, f"7 image files in {str(tmp_path)!r}")


def test_folder_needs_a_data_dir():
    assert error_of(load_images, "folder").startswith("--dataset folder needs --data-dir")
    ready, line = dataset_status("folder")
    assert not ready and "--data-dir" in line


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("file", "make", "reason"),
    [
        ("cut.jpg", lambda good: good[: len(good) // 2], "truncated"),
        ("text.png", lambda good: b"no picture", "not an image in JPEG, PNG"),
        ("empty.webp", lambda good: b"", "not an image in JPEG, PNG"),
        # A whole EPS, which Pillow would hand to an interpreter of programs.
        ("program.jpg", lambda good: EPS, "not an image in JPEG, PNG"),
    ],
)
def test_folder_says_why_a_file_is_unusable(tmp_path, file, make, reason):
    save(tmp_path / "good.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    good = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "good.jpg").unlink()
    (tmp_path / file).write_bytes(make(good))
    message = error_of(load_images, "folder", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r}: none of its 1 image files is usable:")
    assert f"{file!r} (" in message and reason in message


def test_a_broken_link_is_unusable(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "'gone.png' (No such file or directory)" in error_of(load_images, "folder", tmp_path)


@pytest.mark.parametrize("side", [12, 20])  # 1.4 and 4 times the limit: Pillow warns, raises
def test_folder_refuses_huge_images_before_decoding(tmp_path, monkeypatch, side):
    from PIL import Image

    save(tmp_path / "huge.png", flat(1, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert f"({side * side} pixels) exceeds limit of" in error_of(load_images, "folder", tmp_path)


def test_huge_images_are_refused_whatever_another_thread_does_to_warnings(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Image.DecompressionBombError, match="144 pixels. exceeds limit of 100"):
            pillow.decode(encode(Image.new("L", (12, 12)), "PNG"), Preprocess(16, 1))


def write_some_bad(folder: Path, good: int, bad: int) -> None:
    """Good images 000.png on, black but for the last; unusable ones among them."""
    save(folder / "first.png", flat(0))
    content = (folder / "first.png").read_bytes()
    (folder / "first.png").unlink()
    for number in range(good - 1):
        (folder / f"{number:03}.png").write_bytes(content)
    save(folder / "zz.png", flat(200))
    for number in range(bad):
        (folder / f"{number:03}x.png").write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("good", "bad"),
    [(4, 1), (2, 1), (19, 1), (28, 3), (79, 5), (300, 5), (700, 7)],
)
def test_a_few_unusable_files_are_left_out_and_listed(tmp_path, good, bad):
    write_some_bad(tmp_path, good, bad)
    data = load_images("folder", tmp_path, image_size=16)
    assert len(data) == good and data.images.flags.c_contiguous
    assert [path for path, _ in data.skipped] == [f"{number:03}x.png" for number in range(bad)]
    assert "not an image" in data.skipped[0][1]
    # The row is gone, not left blank: the last image is still the last.
    assert data.images[:-1].max() == 0 and data.images[-1].min() == 200


@pytest.mark.parametrize(
    ("good", "bad", "limit"),
    [
        (1, 1, "half of them or more"),
        (3, 3, "half of them or more"),
        (7, 2, "more than 1% and more than 1;"),
        (17, 3, "more than 1% and more than 2;"),
        (300, 6, "more than 1% and more than 5;"),
        (700, 8, "more than 1% and more than 5;"),
    ],
)
def test_more_unusable_files_are_an_error_that_names_the_limit(tmp_path, good, bad, limit):
    write_some_bad(tmp_path, good, bad)
    message = error_of(load_images, "folder", tmp_path)
    assert message.startswith(
        f"--data-dir {str(tmp_path)!r}: {bad} of its {good + bad} image files are unusable, {limit}"
    )
    assert "'000x.png' (" in message and "--allow-bad" in message
    assert len(load_images("folder", tmp_path, allow_bad=True)) == good
    assert error_of(load_images, "folder", tmp_path).split(";")[0] == message.split(";")[0]


def test_only_the_first_unusable_files_are_named(tmp_path):
    save(tmp_path / "a.png", flat(0))
    for number in range(9):
        (tmp_path / f"b{number}.png").write_bytes(b"damaged")
    message = error_of(load_images, "folder", tmp_path)
    assert "9 of its 10" in message and "'b2.png'" in message and message.endswith(", ...")
    assert "'b3.png'" not in message


def test_a_directory_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    message = error_of(load_images, "folder", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r} holds no image files (jpg, ")
    assert dataset_status("folder", tmp_path) == (False, f"0 image files in {str(tmp_path)!r}")


def test_links_are_followed_but_loops_are_not(tmp_path):
    root = tmp_path / "root"
    save(root / "a" / "x.png", flat(10))
    save(tmp_path / "elsewhere" / "y.png", flat(20))
    (root / "a" / "loop").symlink_to(root)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root / "a")
    data = load_images("folder", root, image_size=16)
    assert data.images[:, 0, 0, 0].tolist() == [10, 20]
    assert data.label_names == ("a", "b")


def test_labels_are_the_first_level_subfolders(tmp_path):
    for name, level in (("cat/1", 1), ("dog/deep/2", 2), ("ant/3", 3), ("cat/4", 4)):
        save(tmp_path / f"{name}.png", flat(level))
    data = load_images("folder", tmp_path, image_size=16, channels=1)
    assert data.label_names == ("ant", "cat", "dog")
    assert data.images[:, 0, 0, 0].tolist() == [3, 1, 4, 2]
    assert data.labels.tolist() == [0, 1, 1, 2] and data.labels.dtype == np.int64


def test_no_labels_with_one_subfolder_or_an_image_outside_them(tmp_path):
    save(tmp_path / "cat" / "1.png", flat(1))
    only_one = load_images("folder", tmp_path)
    save(tmp_path / "dog" / "2.png", flat(2))
    assert load_images("folder", tmp_path).label_names == ("cat", "dog")
    save(tmp_path / "3.png", flat(3))
    outside = load_images("folder", tmp_path)
    for data in (only_one, outside):
        assert data.labels is None and data.label_names is None


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the super-user may read everything"
)
def test_unreadable_folders_are_refused_or_listed(tmp_path):
    save(tmp_path / "a.png", flat(1))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    try:
        assert "cannot be read (Permission denied)" in error_of(load_images, "folder", locked)
        data = load_images("folder", tmp_path)
        assert data.skipped == ((str(locked), "folder cannot be read: Permission denied"),)
    finally:
        locked.chmod(0o700)


def test_names_that_a_terminal_would_obey_are_told_as_they_are_written(tmp_path, capsys):
    for folder in ("a\nb", "c\x1b[31m"):
        write(tmp_path / folder, 2)
    assert main(["ingest", "--dataset", "folder", "--data-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert r"2 labels: a\nb, c\x1b[31m" in printed and "\x1b" not in printed
