"""Images that viewers open are read; what a user should know of others is said."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, flat, photo, save
from ingesting import load
from PIL import Image
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import load_images
from fastinfogan.data.ingest import dali
from fastinfogan.data.ingest.make import describe

PHOTO = photo(3, 40, 40)
PNG = encode(PHOTO, "PNG")
BOMB = zlib.compress(bytes(2 << 20))  # more than Pillow takes of a text


def chunk(kind: bytes, content: bytes, intact: bool = True) -> bytes:
    checksum = zlib.crc32(kind + content) ^ (not intact)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


MEGABYTE_TEXT = chunk(b"zTXt", b"T\0\0" + zlib.compress(bytes((1 << 20) - 9)))


def with_chunk(kind: bytes, content: bytes, intact: bool = True, before: bytes = b"IDAT") -> bytes:
    at = PNG.index(before) - 4
    return PNG[:at] + chunk(kind, content, intact) + PNG[at:]


OPENED = {
    "text with a wrong checksum": lambda: with_chunk(b"tEXt", b"Title\0x", intact=False),
    "text behind the pixels": lambda: with_chunk(b"tEXt", b"a\0b", intact=False, before=b"IEND"),
    "large text": lambda: with_chunk(b"zTXt", b"Title\0\0" + BOMB),
    "large text behind": lambda: with_chunk(b"iTXt", b"T\0\1\0\0\0" + BOMB, before=b"IEND"),
    "large plain text": lambda: with_chunk(b"tEXt", b"Title\0" + b"x" * (2 << 20)),
    "many texts": lambda: PNG[:33] + 140 * MEGABYTE_TEXT + PNG[33:],
    "damaged profile": lambda: with_chunk(b"iCCP", b"icc\0\0not deflated"),
    "large profile": lambda: with_chunk(b"iCCP", b"icc\0\0" + BOMB),
    "profile of another method": lambda: with_chunk(b"iCCP", b"icc\0\7x"),
    "unknown chunk": lambda: with_chunk(b"prVt", b"anything", intact=False),
    "damaged density": lambda: with_chunk(b"pHYs", b"\0", intact=True),
    "damaged gamma": lambda: with_chunk(b"gAMA", b"", intact=True),
    "transparency cut short": lambda: with_chunk(b"tRNS", b"\0\1"),
    "transparency with a wrong checksum": lambda: with_chunk(b"tRNS", b"\0\1" * 3, intact=False),
    "orientation that is none": lambda: with_chunk(b"eXIf", b"II*\0" + b"\xff" * 30),
    "suggested palette": lambda: with_chunk(b"PLTE", bytes(9), intact=False),
    "animation cut short": lambda: with_chunk(b"acTL", b"\0", intact=True),
    "wrong checksum of the end": lambda: PNG[:-1] + b"x",
    "no end": lambda: PNG[:-12],
    "cut within its end": lambda: PNG[:-3],
    "cut within a text": lambda: with_chunk(b"tEXt", b"a\0b" * 99, before=b"IEND")[:-150],
    "more behind the end": lambda: PNG + b"<html>",
}


@pytest.mark.parametrize("case", OPENED)
def test_pngs_that_viewers_open_are_read(tmp_path, decoder, own_cache, case):
    (tmp_path / "x.png").write_bytes(OPENED[case]())
    (tmp_path / "y.png").write_bytes(PNG)
    images = load(tmp_path).data.images
    assert np.abs(images[0].astype(int) - images[1]).mean() < 2
    assert images[1].std() > 10


DAMAGED = {
    "header": lambda: PNG.replace(b"IHDR\0", b"IHDR\1"),
    "pixels": lambda: PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:],
    "cut within the pixels": lambda: PNG[: len(PNG) // 2],
    "cut within the pixels, with a text": lambda: with_chunk(b"tEXt", b"a\0b", intact=False)[:-90],
    "palette": lambda: encode(PHOTO.convert("P"), "PNG").replace(b"PLTE", b"PLTE\1", 1),
    "name of the palette": lambda: encode(PHOTO.convert("P"), "PNG").replace(b"PLTE", b"pLTE", 1),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_pngs_with_damaged_pixels_are_not(tmp_path, decoder, own_cache, case):
    (tmp_path / "x.png").write_bytes(DAMAGED[case]())
    assert "x.png" in error_of(load, tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0" + b"\xfe" * 20, b"Exif\0\0MM", b"Exif\0\0junk"])
def test_damaged_exif_costs_no_image(tmp_path, decoder, own_cache, form, exif):
    options = {} if form == "TIFF" else {"exif": exif}
    name = f"x.{form.lower()}"
    (tmp_path / name).write_bytes(encode(PHOTO, form, **options))
    (tmp_path / f"y.{form.lower()}").write_bytes(encode(PHOTO, form))
    images = load(tmp_path).data.images
    assert np.abs(images[0].astype(int) - images[1]).mean() < 2


def test_orientation_still_turns_beside_a_damaged_text(tmp_path, own_cache):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(PHOTO, "PNG", exif=exif)
    at = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.png").write_bytes(data[:at] + chunk(b"tEXt", b"a\0b", False) + data[at:])
    images = load(tmp_path).data.images
    np.testing.assert_array_equal(images[0], images[1])
    upright = np.asarray(PHOTO.rotate(-90).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[0], upright)


def test_dali_is_left_alone_with_large_texts():
    assert dali.plain_size(with_chunk(b"tEXt", b"Title\0x")) == (40, 40)
    assert dali.plain_size(with_chunk(b"tEXt", b"Title\0" + b"x" * 70_000)) is None


# -- Fewer bits than a file has room for -----------------------------------------------------------


def scans(folder: Path, bits: int, count: int = 3, form: str = "png") -> None:
    """Grey ramps that use so many of 16 bits."""
    ramp = np.linspace(0, 2**bits - 1, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    for number in range(count):
        save(folder / f"{bits}-{number}.{form}", ramp)


def told_of(folder: Path, **options) -> tuple[np.ndarray, str]:
    """The images and what is said of them; not of the cache, which lies in the folder too."""
    data = load_images("folder", folder, channels=1, **options)
    told = [line for line in data.notes if not line.startswith(("not read as images", "no labels"))]
    return data.images, "\n".join(told)


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_scans_of_fewer_bits_are_named_and_stretched(tmp_path, own_cache, bits, form, decoder):
    scans(tmp_path, bits, form=form)
    dark, told = told_of(tmp_path)
    assert dark.max() == round((2**bits - 1) / 257)
    assert f"3 of 3 grey images of 16 bits use {bits} bits at most" in told
    assert f"--stretch {bits} makes {2**bits - 1:,} white" in told
    bright, told = told_of(tmp_path, stretch=bits)
    assert (bright.min(), bright.max()) == (0, 255) and told == ""
    assert "look almost black" in told_of(tmp_path)[1]  # found again
    scans(tmp_path / "whole", 16)
    assert "3 of 6 grey images of 16 bits use" in (told := told_of(tmp_path)[1])
    assert f"in a folder of their own, --stretch {bits}" in told


def test_a_value_beyond_the_bits_is_refused_not_cut_off(tmp_path, own_cache):
    scans(tmp_path, 12, count=1)
    assert "grey values of up to 4,095; --stretch 11 is for 2,047" in error_of(
        load_images, "folder", tmp_path, stretch=11
    )
    for stretch in (0, 17, -3):
        assert "1 to 16 bits work" in error_of(load_images, "folder", tmp_path, stretch=stretch)
    message = error_of(load_images, "celeba", tmp_path, stretch=12)
    assert message.startswith("--stretch 12 does not go with --dataset celeba")


def test_whole_blank_and_8_bit_images_are_not_named(tmp_path, own_cache):
    scans(tmp_path, 16)
    save(tmp_path / "blank.png", np.zeros((32, 32), np.uint16))
    save(tmp_path / "black.png", flat(0, 32))
    save(tmp_path / "dim.png", flat([9, 9, 9], 32))
    assert told_of(tmp_path)[1] == ""


def deep_png(values: np.ndarray, color_type: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow can't write."""
    height, width, channels = values.shape
    rows = values.astype(">u2").tobytes()
    stride = width * channels * 2
    scanlines = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return (
        PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("color_type, channels", [(2, 3), (6, 4), (4, 2)])
def test_colour_of_fewer_bits_is_named(tmp_path, own_cache, color_type, channels):
    values = np.full((32, 32, channels), 4095)
    values[..., -1] = 65535 if channels != 3 else 4095  # opaque
    (tmp_path / "x.png").write_bytes(deep_png(values, color_type))
    _, told = told_of(tmp_path)
    assert "1 of 1 colour images of 16 bits use 12 bits at most" in told
    assert "--stretch" not in told
    assert "--stretch 12 is for grey" in error_of(load_images, "folder", tmp_path, stretch=12)


def test_a_tiff_that_says_12_bits_needs_no_option(tmp_path, own_cache):
    """Two values in three bytes, as scanners and microscopes write them."""
    pixels = b"\xff\xf8\x00" * (32 * 16)  # 4095, 2048, ...
    tags = [
        (256, 4, 32), (257, 4, 32), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8),
        (277, 3, 1), (278, 4, 32), (279, 4, len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    data = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + bytes(4)
    (tmp_path / "x.tif").write_bytes(data)
    assert Image.open(io.BytesIO(data)).getextrema() == (2048, 4095)
    images, told = told_of(tmp_path)
    assert set(images.ravel()) == {255, 128} and told == ""


# -- Fewer pixels than were asked for --------------------------------------------------------------


def test_images_smaller_than_asked_are_counted(tmp_path, own_cache, decoder, capsys):
    for number, (width, height) in enumerate([(16, 16), (31, 90), (90, 31), (32, 32), (64, 40)]):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number, width, height), "PNG"))
        (tmp_path / f"{number}.jpg").write_bytes(encode(photo(number, width, height)))
    said = "6 images are smaller than 32x32 pixels and were enlarged"
    assert told_of(tmp_path, image_size=32)[1] == said
    assert said in describe(load(tmp_path, size=32))  # found again
    assert "are smaller" not in describe(load(tmp_path, size=16))
    assert main(["ingest", "--data-dir", str(tmp_path), "--image-size", "64"]) == 0
    assert "10 images are smaller than 64x64" in capsys.readouterr().out


def test_one_image_smaller_than_asked_is_one(tmp_path, own_cache):
    for number, size in enumerate((16, 32)):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number, size, size), "PNG"))
    said = "1 image is smaller than 32x32 pixels and was enlarged"
    assert told_of(tmp_path, image_size=32)[1] == said
