"""Ingest's cache: found again, readable by anyone, and made again when it is damaged."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, write
from ingesting import load, request_for
from PIL import Image
from user_errors import error_of

from fastinfogan.data.ingest import decode, make
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.sources.folder import files_source


def test_the_second_time_nothing_is_decoded_and_it_takes_no_second(
    tmp_path, own_cache, monkeypatch
):
    write(tmp_path / "images", 40)
    first = load(tmp_path / "images")
    assert first.seconds is not None and first.folder.parent == own_cache

    def refuse(*args):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "decode_blocks", refuse)
    monkeypatch.setattr(make, "decode_blocks", refuse)
    began = time.perf_counter()
    second = load(tmp_path / "images")
    assert time.perf_counter() - began < 1
    assert second.seconds is None and second.data.fingerprint == first.data.fingerprint
    assert "found" in make.describe(second)


def test_anyone_can_read_the_files(tmp_path, own_cache):
    """Plain .npy files and JSON."""
    write(tmp_path / "images" / "a", 3)
    write(tmp_path / "images" / "b", 2)
    found = load(tmp_path / "images")
    images = np.load(found.folder / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(images, found.data.images)
    np.testing.assert_array_equal(np.load(found.folder / "labels.npy"), [0, 0, 0, 1, 1])
    manifest = json.loads((found.folder / "manifest.json").read_text())
    assert manifest["shape"] == [5, 16, 16, 3] and manifest["label_names"] == ["a", "b"]
    assert manifest["preprocessing"] == {"size": 16, "channels": 3, "crop": None}
    assert sorted(os.listdir(found.folder)) == ["images.npy", "labels.npy", "manifest.json"]


def test_another_preprocessing_or_source_has_another_cache(tmp_path, own_cache):
    images = tmp_path / "images"
    write(images, 3)
    folders = [load(images).folder, load(images, size=32).folder]
    (images / "00002.jpg").unlink()
    folders.append(load(images).folder)
    (images / "00001.jpg").write_bytes(encode(Image.new("RGB", (9, 9))))
    folders.append(load(images).folder)
    os.utime(images / "00000.jpg", ns=(0, 12345))
    folders.append(load(images).folder)
    cropped = files_source("folder", images, Preprocess(16, 3, crop=8))
    folders.append(make.ingest(cropped, request_for(images)).folder)
    assert len(set(folders)) == 6 and all(folder.is_dir() for folder in folders)


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def bump_version(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))


DAMAGES = {
    "a byte of an image": (
        lambda folder: flip(folder / "images.npy", 9_000), "other bytes in block 0 of images.npy",
    ),
    "the last byte": (lambda folder: flip(folder / "images.npy", 128 + 40 * 768 - 1), "block 0"),
    "a label": (lambda folder: flip(folder / "labels.npy", 130), "other bytes in labels.npy"),
    "the manifest": (
        lambda folder: flip(folder / "manifest.json", 200), "a damaged manifest",
    ),
    "a manifest cut short": (
        lambda folder: os.truncate(folder / "manifest.json", 90), "a damaged manifest",
    ),
    "images cut short": (lambda folder: os.truncate(folder / "images.npy", 9_000), "9000 bytes in"),
    "images gone": (lambda folder: (folder / "images.npy").unlink(), "no readable images.npy"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
    "another version": (bump_version, "format version 99"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_named_and_made_again(tmp_path, own_cache, capsys, damage):
    write(tmp_path / "images" / "a", 20)
    write(tmp_path / "images" / "b", 20, start=20)
    first = load(tmp_path / "images")
    wanted = first.data.images.copy()
    act, says = DAMAGES[damage]
    act(first.folder)
    again = load(tmp_path / "images")
    err = capsys.readouterr().err
    assert says in err and str(first.folder) in err and err.count("\n") == 1
    assert again.seconds is not None
    np.testing.assert_array_equal(again.data.images, wanted)
    assert again.data.fingerprint == first.data.fingerprint


def test_a_cache_folder_that_is_a_file_is_named(tmp_path, monkeypatch):
    write(tmp_path / "images", 2)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "file"))
    assert error_of(load, tmp_path / "images").startswith("FASTINFOGAN_CACHE: the cache folder")


def test_memory_maps_can_be_written_without_touching_the_file(tmp_path, own_cache):
    write(tmp_path / "images", 2)
    found = load(tmp_path / "images")
    found.data.images[:] = 1
    assert load(tmp_path / "images").data.images.max() <= 6  # grey levels 0 and 5
