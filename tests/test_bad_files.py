"""Ingest: a bad file is named and costs no good one."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, photo, write
from ingesting import load
from PIL import Image
from tolerances import JPEG_LEVELS
from user_errors import error_of

from fastinfogan.data.ingest import encoded
from fastinfogan.data.ingest.make import describe


def png_with_wrong_checksum() -> bytes:
    data = bytearray(encode(photo(1, 20, 20), "PNG"))
    data[data.index(b"IEND") - 8] ^= 1  # that of the chunk before; the pixels are fine
    return bytes(data)


def huge_png(side: int = 40_000) -> bytes:
    """Declares side x side pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )  # fmt: skip


def corrupt_jpeg() -> bytes:
    """Headers and end are right; the first scan asks for a table that isn't there."""
    data = bytearray(encode(photo(1, 90, 100)))
    scan = data.index(b"\xff\xda")
    data[scan + 6] = 0x33
    return bytes(data)


BAD = {
    "a_truncated.jpg": lambda: encode(photo(1))[:3000],
    "b_empty.jpg": lambda: b"",
    "c_text.jpg": lambda: b"not a photograph at all\n" * 50,
    "d_checksum.png": png_with_wrong_checksum,
    "e_huge.png": huge_png,
    "f_corrupt.jpg": corrupt_jpeg,
    "g_short_png.png": lambda: encode(photo(1), "PNG")[:5000],
}
REASONS = {
    "a_truncated.jpg": "truncated",
    "b_empty.jpg": "not an image",
    "c_text.jpg": "not an image",
    "d_checksum.png": "checksum",
    "e_huge.png": "exceeds limit",
    "f_corrupt.jpg": "broken",
    "g_short_png.png": "truncated",
    "h_loop.jpg": "symbolic link",
    "i_gone.jpg": "No such file",
    "j_pipe.jpg": "not a regular file",
}


def test_every_kind_of_bad_file_is_named_and_no_good_one_is_lost(
    tmp_path, decoder, own_cache, capsys
):
    images = tmp_path / "images"
    write(images, 300)
    for name, make in BAD.items():
        (images / name).write_bytes(make())
    (images / "h_loop.jpg").symlink_to("h_loop.jpg")
    (images / "i_gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(images / "j_pipe.jpg")
    (images / "sub").mkdir()
    (images / "sub" / "up").symlink_to(images)  # a loop of folders
    odd = os.fsdecode(b"z\xff\xe9 \n\xc3\xa9.jpg")  # not UTF-8, and with a line break
    (images / odd).write_bytes((images / "00007.jpg").read_bytes())
    names = ["00100.jpg", "日本.jpg"]
    (images / names[1]).write_bytes((images / "00008.jpg").read_bytes())

    message = error_of(load, images)
    assert "10 of its 312 image files are unusable, more than 1%" in message
    assert "--allow-bad" in message and "'a_truncated.jpg'" in message
    journal = Path(message.split("--allow-bad; ")[1].split(" lists them all")[0])
    assert all(name in journal.read_text() for name in REASONS)

    found = load(images, allow_bad=True)
    levels = found.data.images.reshape(302, -1).mean(1)
    wanted = [*(number * 5 % 256 for number in range(300)), 7 * 5, 8 * 5]
    np.testing.assert_allclose(np.sort(levels), np.sort(wanted), atol=JPEG_LEVELS)
    reasons = dict(found.manifest["skipped"])
    assert reasons.keys() == REASONS.keys()
    assert all(REASONS[name] in reason for name, reason in reasons.items()), reasons
    assert found.data.skipped == tuple(map(tuple, found.manifest["skipped"]))
    assert "10 of its 312 image files are unusable" in error_of(load, images)  # still
    told = describe(found)
    assert "302 images" in told and all(name in told for name in REASONS)
    if decoder != "pillow":  # the one that looks right: DALI loses a batch, Pillow reads it
        assert capsys.readouterr().err.count("DALI gave up on") == 1


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_files_of_which_one_percent_are_bad(tmp_path, decoder, own_cache, count):
    content = encode(Image.new("RGB", (8, 8), (80, 80, 80)))
    for number in range(count):
        bad = number % 100 == 50
        (tmp_path / f"{number:05}.jpg").write_bytes(
            content[: len(content) // 2] if bad else content
        )
    found = load(tmp_path)
    assert len(found.data) == count - count // 100 and found.data.images.min() >= 78
    assert [name for name, _ in found.data.skipped] == [
        f"{n:05}.jpg" for n in range(50, count, 100)
    ]
    (tmp_path / "00000.jpg").write_bytes(b"")
    assert f"{count // 100 + 1} of its {count}" in error_of(load, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may read everything")
def test_unreadable_files_are_listed_and_read_again_once_allowed(tmp_path, own_cache):
    write(tmp_path / "images", 2)
    locked = tmp_path / "images" / "00001.jpg"
    locked.chmod(0)
    assert "Permission denied" in error_of(load, tmp_path / "images")
    locked.chmod(0o600)
    assert len(load(tmp_path / "images").data) == 2


def test_what_was_mended_without_leaving_a_trace_is_read_again(tmp_path, own_cache, monkeypatch):
    """As permissions are: the listing is the same, and the earlier failure is in the journal."""
    write(tmp_path / "images", 2)
    read = encoded.FolderFiles.read

    def refuse(self, index):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(encoded.FolderFiles, "read", refuse)
    assert "none of its 2 image files is usable" in error_of(load, tmp_path / "images")
    monkeypatch.setattr(encoded.FolderFiles, "read", read)
    assert len(load(tmp_path / "images").data) == 2


def test_a_file_of_absurd_size_is_not_read(tmp_path, own_cache):
    write(tmp_path / "images", 1)
    with open(tmp_path / "images" / "large.jpg", "wb") as file:
        file.truncate(encoded.MAX_FILE_BYTES + (1 << 20))
    found = load(tmp_path / "images", allow_bad=True)
    assert dict(found.data.skipped) == {"large.jpg": "it takes 257 MiB; at most 256 are read"}
