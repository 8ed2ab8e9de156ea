"""Folders: which formats are read, and what is said of all that is not."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from image_files import flat, save, write
from ingesting import load, request_for
from PIL import Image, features
from tolerances import JPEG_LEVELS
from user_errors import error_of

from fastinfogan.data import dataset_status, load_images
from fastinfogan.data.ingest import cache, formats, make
from fastinfogan.data.ingest.make import describe
from fastinfogan.data.sources.folder import folder_source

READ = {
    "jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "gif": "GIF", "avif": "AVIF", "jp2": "JPEG2000",
    "j2k": "JPEG2000", "ppm": "PPM", "pgm": "PPM", "pnm": "PPM", "qoi": "QOI", "tga": "TGA",
    "pcx": "PCX", "dib": "DIB",
}  # fmt: skip


@pytest.fixture(autouse=True)
def by_pillow(monkeypatch):
    """DALI reads none of what is tested here, and takes its time to start."""
    monkeypatch.setattr(make, "pick_decoder", lambda tell: "pillow")


@pytest.fixture
def fresh_formats():
    """What this Pillow reads is asked again, before and after."""
    for asked in (formats.readable, formats._decoders):
        asked.cache_clear()
    yield
    for asked in (formats.readable, formats._decoders):
        asked.cache_clear()


def test_every_format_that_pillow_has_is_read(tmp_path, own_cache):
    wanted = {}
    for level, (suffix, form) in enumerate(READ.items(), 1):
        if formats.readable(suffix):
            colour = form != "PPM" or suffix != "pgm"
            pixels = flat([10 * level] * 3 if colour else 10 * level)
            save(tmp_path / "images" / f"x.{suffix.upper()}", pixels, format=form)
            wanted[f"x.{suffix.upper()}"] = 10 * level
    found = load(tmp_path / "images")
    assert found.data.skipped == () and len(wanted) >= 11
    levels = found.data.images.reshape(len(wanted), -1).mean(1)
    np.testing.assert_allclose(levels, [wanted[name] for name in sorted(wanted)], atol=JPEG_LEVELS)


def test_of_an_animation_the_first_frame_is_read(tmp_path, own_cache):
    frames = [Image.new("RGB", (9, 9), (level,) * 3) for level in (40, 90, 200)]
    (tmp_path / "images").mkdir()
    for suffix in ("gif", "apng", "webp"):
        frames[0].save(
            tmp_path / "images" / f"x.{suffix}", "png" if suffix == "apng" else suffix,
            save_all=True, append_images=frames[1:],
        )  # fmt: skip
    images = load(tmp_path / "images").data.images
    np.testing.assert_allclose(images, 40, atol=JPEG_LEVELS)


def test_the_content_counts_not_the_suffix(tmp_path, own_cache):
    """But for formats that begin with nothing of their own: garbage is no tga."""
    save(tmp_path / "images" / "a.png", flat([70] * 3), format="GIF")
    save(tmp_path / "images" / "b.tga", flat([70] * 3), format="PNG")
    save(tmp_path / "images" / "b.dib", flat([70] * 3), format="BMP")
    save(tmp_path / "images" / "c.jpg", flat([70] * 3), format="TGA")
    found = load(tmp_path / "images")
    assert (found.data.images == 70).all() and [name for name, _ in found.data.skipped] == ["c.jpg"]


def test_other_files_are_counted_by_suffix(tmp_path, own_cache):
    root = tmp_path / "images"
    write(root / "a", 3)
    write(root / "b", 3, start=3)
    for name in (
        "a/1.CR2", "a/2.cr2", "b/3.cr2", "b/4.svg", "labels.csv", "a/README", "a/.hidden.jpg",
        "b/._00003.jpg", "b/x.jpg@SynoResource", "odd.0123456789",
    ):  # fmt: skip
        (root / name).write_bytes(b"?")
    notes = load(root).notes
    assert notes == (
        "not read as images: 3 .cr2, 3 without a suffix, 1 .csv, 1 .svg, "
        "2 whose names begin with a dot",
        "2 labels: a, b",
    )
    found = load(root)
    assert found.seconds is None and found.notes == notes == found.data.notes
    told = describe(found)
    assert all(f"\n  {note}" in told for note in notes)
    (root / "more.heic").write_bytes(b"?")  # it makes no other images, but another summary
    found = load(root)
    assert found.seconds is None and "1 .heic (pip install -e '.[heic]'" in found.notes[0]
    ready, line = dataset_status("folder", root)
    assert ready and "6 image files" in line and "3 .cr2, 1 .heic" in line and "csv" not in line


def test_a_folder_of_formats_that_are_not_read_says_which(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.HEIC").write_bytes(b"?")
    (tmp_path / "x.svg").write_bytes(b"<svg/>")
    message = error_of(load_images, "folder", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r} holds no image files (jpg, ")
    assert "3 .heic (pip install -e '.[heic]' reads them), 1 .svg" in message
    ready, line = dataset_status("folder", tmp_path)
    assert not ready and "3 .heic" in line


def test_a_jpeg_that_is_called_heic_is_read_without_the_package(tmp_path, own_cache):
    for name, kind in (("a.heic", "JPEG"), ("b.HEIC", "PNG"), ("c.hif", "JPEG")):
        save(tmp_path / "images" / name, flat([70] * 3), format=kind)
    heic = b"\0\0\0\x18ftypheic" + bytes(100)
    (tmp_path / "images" / "real.heic").write_bytes(heic)
    found = load(tmp_path / "images")
    assert found.data.images.shape[0] == 3 and (abs(found.data.images - 70.0) < 3).all()
    assert "1 .heic (pip install -e '.[heic]' reads them)" in found.notes[0]
    (tmp_path / "images" / "called.jpg").write_bytes(heic)
    told = describe(load(tmp_path / "images"))
    assert "called.jpg" in told and "a HEIC image; pip install -e '.[heic]' reads them" in told


def test_heic_is_read_where_its_package_is(tmp_path, own_cache, monkeypatch, fresh_formats):
    """A stand-in for pillow-heif, which makes Pillow read a format that it doesn't know."""

    def register_heif_opener() -> None:
        def opened(file, name):
            return Image.open(file, formats=["PNG"])

        Image.register_open("HEIF", opened, lambda start: start.startswith(b"\x89PNG"))

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = register_heif_opener
    package.__spec__ = importlib.machinery.ModuleSpec("pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    save(tmp_path / "images" / "x.heic", flat([70] * 3), format="PNG")
    assert (load(tmp_path / "images").data.images == 70).all()
    assert "HEIF" in formats.decoders("x.png")


def test_heic_is_named_where_its_package_is(tmp_path):
    """The package is looked for when the program starts."""
    (tmp_path / "pillow_heif.py").touch()
    code = "from fastinfogan.data.ingest.formats import EXPECTED; print(EXPECTED)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ", avif, heic, ppm" in done.stdout
    assert (", heic" in formats.EXPECTED) == formats.readable("heic")


def test_without_a_decoder_a_format_is_counted(tmp_path, own_cache, monkeypatch, fresh_formats):
    """A Pillow that was built without libraries, and an older one that doesn't know the word."""
    write(tmp_path / "images", 3)
    for suffix in ("avif", "webp", "jp2"):
        (tmp_path / "images" / f"x.{suffix}").write_bytes(b"?")
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "webp" and check(name))
    monkeypatch.setattr(
        features, "modules", {k: v for k, v in features.modules.items() if k != "avif"}
    )
    monkeypatch.setattr(features, "codecs", {})
    assert load(tmp_path / "images").notes[0] == "not read as images: 1 .avif, 1 .jp2, 1 .webp"
    assert not {"AVIF", "WEBP", "JPEG2000"} & set(formats.decoders("x.jpg"))


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "a/@eaDir/0.jpg", "__MACOSX/a", "#recycle", "@Recycle", "$RECYCLE.BIN", "@__thumb",
     "lost+found", "_vti_cnf"],
)  # fmt: skip
def test_thumbnails_of_file_servers_are_no_images(tmp_path, own_cache, folder):
    root = tmp_path / "images"
    write(root / "a", 2)
    write(root / "b", 2, start=2)
    save(root / folder / "SYNOPHOTO_THUMB_M.jpg", flat([255] * 3))
    save(root / folder / "00001.jpg", flat([255] * 3))
    save(root / "b" / "SYNOPHOTO_THUMB_XL.jpg", flat([255] * 3))
    found = load(root)
    assert len(found.data) == 4 and found.data.images.max() < 30
    assert found.data.label_names == ("a", "b")
    name = next(part for part in Path(folder).parts if part not in ("a", "b"))
    assert found.notes[0] == (
        "not read as images: what systems and file servers keep for themselves "
        + ("(1 'SYNOPHOTO_*', 1 " if name > "SYNOPHOTO" else f"(1 {name!r}, 1 ")
        + (f"{name!r})" if name > "SYNOPHOTO" else "'SYNOPHOTO_*')")
    )


def test_a_folder_may_be_called_almost_like_them(tmp_path, own_cache):
    for name in ("@natgeo", "thumbnails", "recycle"):
        write(tmp_path / "images" / name, 1)
    assert load(tmp_path / "images").data.label_names == ("@natgeo", "recycle", "thumbnails")


def test_a_link_to_a_folder_that_is_read_anyway_is_said(tmp_path, own_cache):
    write(tmp_path / "images" / "a", 2)
    (tmp_path / "images" / "b").symlink_to(tmp_path / "images" / "a")
    found = load(tmp_path / "images")
    assert len(found.data) == 2
    assert found.notes == (
        "not read as images: 1 link to folders that are read anyway",
        "no labels: all images lie in one subfolder, 'a'",
    )


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["1", "2"], "no labels: the images lie in no subfolders"),
        (["a/1", "b/2", "3", "4"], "no labels: 2 of 4 images lie in no subfolder, such as '3.png'"),
        (["a/1"], "no labels: all images lie in one subfolder, 'a'"),
        (
            ["a/x/1", "a/y/2", "a/z/3"],
            "no labels: all images lie in one subfolder, 'a'; as --data-dir it would have 3",
        ),
        (["b/1", "a/2", "b/3"], "2 labels: a, b"),
        ([f"{k:02}/1" for k in range(14)], "14 labels: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 10, "
         "11, ..."),
    ],
)  # fmt: skip
def test_what_the_labels_are_or_why_there_are_none_is_said(tmp_path, own_cache, names, says):
    for name in names:
        save(tmp_path / "images" / f"{name}.png", flat(1))
    found = load(tmp_path / "images")
    assert found.notes == (says,) == load(tmp_path / "images").notes


def test_labels_are_told_of_the_good_images(tmp_path, own_cache):
    """A class whose only image is bad has no label, though its folder is there."""
    root = tmp_path / "images"
    write(root / "a", 20)
    (root / "b").mkdir()
    (root / "b" / "bad.jpg").write_bytes(b"?")
    assert load(root).notes == ("no labels: all images lie in one subfolder, 'a'",)


def test_older_caches_are_read(tmp_path, own_cache, monkeypatch):
    """They say neither why there are no labels, nor how many images there are, or aren't."""
    finish = cache.Writer.finish

    def as_before(self, manifest, labels, factors):
        new = ("no_labels", "items_of_all_splits", "source_notes")
        finish(self, {k: v for k, v in manifest.items() if k not in new}, labels, factors)

    write(tmp_path / "images", 3)
    with monkeypatch.context() as patch:
        patch.setattr(cache.Writer, "finish", as_before)
        first = load(tmp_path / "images")
    found = load(tmp_path / "images")
    assert found.seconds is None and found.folder == first.folder and found.notes == ()
    assert folder_source(request_for(tmp_path / "images")).split == "all"
