"""Ingest: decoders that agree, bad files that cost nothing else, caches that can be trusted."""

import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tolerances import JPEG_LEVELS

from fastinfogan.cli import main
from fastinfogan.data import find_dataset
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.ingest import cache, dali, decode, encoded, ingest, pillow
from fastinfogan.data.ingest.pillow import Preprocess
from fastinfogan.data.sources.folder import files_source, folder_source
from fastinfogan.errors import UserError

DECODERS = [
    "pillow",
    pytest.param(
        "dali",
        marks=pytest.mark.skipif(
            not dali.available(), reason="DALI is not installed: pip install 'fastinfogan[dali]'"
        ),
    ),
    pytest.param("dali-gpu", marks=[pytest.mark.gpu]),
]


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch) -> str:
    """Every decoder in turn, as the one that ingest picks."""
    if request.param == "dali-gpu":
        import torch

        if not (torch.cuda.is_available() and dali.available()):
            pytest.skip("needs a CUDA device and DALI")
    monkeypatch.setattr(ingest, "pick_decoder", lambda say: request.param)
    return request.param


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of this test alone; returns where ingest keeps its own."""
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ingested"


def request_for(folder: Path, size: int = 16, allow_bad: bool = False) -> LoadRequest:
    return LoadRequest(folder, "train", size, 3, progress=False, allow_bad=allow_bad)


def load(folder: Path, size: int = 16, allow_bad: bool = False) -> ingest.Ingested:
    request = request_for(folder, size, allow_bad)
    return ingest.ingest(folder_source(request), request, load=True)


def error_of(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def photo(seed: int, width: int = 178, height: int = 218) -> Image.Image:
    """Waves and some noise: in frequencies and size something like a photograph of CelebA."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        128 + 50 * np.sin(x / a + b) + 50 * np.cos(y / c + b) + random.normal(0, 6, x.shape)
        for a, b, c in random.uniform(3, 30, (3, 3))
    ]
    return Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write(folder: Path, count: int, form: str = "JPEG", start: int = 0) -> list[bytes]:
    """``count`` files of 24 x 20; each has one level of grey, 5 times its number."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = []
    for number in range(start, start + count):
        image = Image.new("RGB", (24, 20), (number * 5 % 256,) * 3)
        contents.append(encode(image, form))
        (folder / f"{number:05}.{'jpg' if form == 'JPEG' else 'png'}").write_bytes(contents[-1])
    return contents


# -- DALI against Pillow -------------------------------------------------------------------------

KINDS = {
    "jpeg": lambda: encode(photo(1), quality=90),
    "jpeg, all chroma": lambda: encode(photo(2), quality=95, subsampling=0),
    "jpeg, progressive": lambda: encode(photo(3), progressive=True),
    "jpeg, grey": lambda: encode(photo(4).convert("L")),
    "jpeg, wide": lambda: encode(photo(5, 301, 97)),
    "jpeg, smaller than wanted": lambda: encode(photo(6, 19, 23)),
    "jpeg, far too large": lambda: encode(photo(7, 900, 700)),
    "png": lambda: encode(photo(8), "PNG"),
    "png, grey": lambda: encode(photo(9).convert("L"), "PNG"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", [None, 128])
def test_decoders_agree_within_two_grey_levels(tmp_path, decoder, channels, crop):
    preprocess = Preprocess(32, channels, crop)
    for number, make in enumerate(KINDS.values()):
        (tmp_path / f"{number}.img").write_bytes(make())
    files = encoded.FolderFiles(tmp_path, [f"{number}.img" for number in range(len(KINDS))])
    (block,) = decode.decode_blocks(files, preprocess, 0, decoder)
    assert block.items == len(KINDS) and block.bad == [] and block.note == ""
    for number, kind in enumerate(KINDS):
        data = files.read(number)
        assert dali.plain_size(data) == Image.open(io.BytesIO(data)).size, kind
        # Straight from the definition: whole image, central square, Pillow's filter.
        image = Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB")
        side = min(*image.size, crop or 10**6)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        wanted = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), int)
        difference = np.abs(block.rows[number] - wanted.reshape(32, 32, channels))
        assert difference.mean() < 2, kind


def test_a_jpeg_that_is_far_too_large_is_reduced_while_it_is_decoded(tmp_path, decoder):
    """By either decoder on a CPU: libjpeg does it, and DALI offers no way to ask for it."""
    if decoder == "dali-gpu":
        pytest.skip("a GPU decodes it whole")
    (tmp_path / "x.jpg").write_bytes(encode(photo(1, 2000, 1500)))
    files, preprocess = encoded.FolderFiles(tmp_path, ["x.jpg"]), Preprocess(32, 3)
    assert preprocess.reducible(2000, 1500) and not preprocess.reducible(2000, 255)
    (block,) = decode.decode_blocks(files, preprocess, 0, decoder)
    np.testing.assert_array_equal(block.rows[0], pillow.decode(files.read(0), preprocess))


def test_odd_kinds_of_image_are_left_to_pillow():
    """DALI treats transparency, palettes and depth in its own ways; what is cut short kills it."""
    red = Image.new("RGB", (20, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encode(red)
    odd = {
        "alpha": encode(red.convert("RGBA"), "PNG"),
        "palette": encode(red.convert("P"), "PNG"),
        "16 bits": encode(Image.new("I;16", (20, 20)), "PNG"),
        "transparent colour": encode(red, "PNG", transparency=(255, 0, 0)),
        "cmyk": encode(red.convert("CMYK")),
        "turned": encode(red, exif=exif),
        "webp": encode(red, "WEBP"),
        "cut short": good[:-40],
        "text": b"hello",
        "nothing": b"",
        "markers only": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    }
    assert dali.plain_size(good) == (20, 20)
    exif[0x0112] = 1
    assert dali.plain_size(encode(red, exif=exif)) == (20, 20)
    assert {kind: dali.plain_size(data) for kind, data in odd.items()} == dict.fromkeys(odd)


def test_the_decoder_is_dali_where_it_works(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = []
    monkeypatch.setattr(dali, "available", lambda: True)
    monkeypatch.setattr(dali, "broken", lambda: None)
    assert decode.pick_decoder(said.append) == "dali" and said == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert decode.pick_decoder(said.append) == "dali-gpu"
    monkeypatch.undo()
    monkeypatch.setattr(dali, "available", lambda: True)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # makes its import fail
    assert decode.pick_decoder(said.append) == "pillow"
    assert len(said) == 1 and "DALI is installed but does not import (" in said[0]
    monkeypatch.setattr(dali, "available", lambda: False)
    assert decode.pick_decoder(said.append) == "pillow" and len(said) == 1


# -- Bad files -----------------------------------------------------------------------------------


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
    told = ingest.describe(found)
    assert "302 images" in told and all(name in told for name in REASONS)
    if decoder != "pillow":  # the one that looks right: DALI loses a batch, Pillow reads it
        assert capsys.readouterr().err.count("DALI gave up on") == 1


def test_ten_thousand_files_of_which_one_percent_are_bad(tmp_path, decoder, own_cache):
    content = encode(Image.new("RGB", (8, 8), (80, 80, 80)))
    for number in range(10_000):
        bad = number % 100 == 50
        (tmp_path / f"{number:05}.jpg").write_bytes(
            content[: len(content) // 2] if bad else content
        )
    found = load(tmp_path)
    assert len(found.data) == 9_900 and found.data.images.min() >= 78
    assert [name for name, _ in found.data.skipped] == [
        f"{n:05}.jpg" for n in range(50, 10_000, 100)
    ]
    (tmp_path / "00000.jpg").write_bytes(b"")
    assert "101 of its 10000" in error_of(load, tmp_path)


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
    assert dict(found.data.skipped) == {"large.jpg": "257 MiB; at most 256 are read"}


# -- Archives ------------------------------------------------------------------------------------


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_read_in_place_and_write_nothing(tmp_path, kind, decoder):
    """Names that climb out of the folder, links and devices do nothing."""
    home = tmp_path / "data"
    home.mkdir()
    path = home / f"a.{kind}"
    photos = {name: encode(photo(i, 40, 40)) for i, name in enumerate(("b.jpg", "../../evil.jpg",
              "/tmp/evil.jpg"))}  # fmt: skip
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in photos.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in photos.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
            device = tarfile.TarInfo("device.jpg")
            device.type = tarfile.CHRTYPE
            archive.addfile(device)
    before = everything_below(tmp_path)
    files = encoded.open_archive(path, lambda name: name.endswith(".jpg"))
    assert sorted(files.names) == sorted(photos)
    assert {name: files.read(i) for i, name in enumerate(files.names)} == photos
    rows = np.concatenate(
        [block.rows for block in decode.decode_blocks(files, Preprocess(16, 3), 0, decoder)]
    )
    assert rows.shape == (3, 16, 16, 3)
    assert everything_below(tmp_path) == before and not Path("/tmp/evil.jpg").exists()


def test_damaged_archives_and_members_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK not really")
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    for name in ("a.zip", "a.tar"):
        message = error_of(encoded.open_archive, tmp_path / name, lambda name: True)
        assert message.startswith(f"--data-dir {str(tmp_path)!r}: {name} cannot be read (")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("1.jpg", encode(photo(1)))
        archive.writestr("2.jpg", encode(photo(2)))
    data = bytearray((tmp_path / "b.zip").read_bytes())
    data[len(data) // 4] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(data)
    files = encoded.open_archive(tmp_path / "b.zip", lambda name: True)
    (block,) = decode.decode_blocks(files, Preprocess(16, 3), 0, "pillow")
    assert len(block.rows) == 1 and block.bad[0][1] == "1.jpg" and "CRC" in block.bad[0][2]


# -- The cache -----------------------------------------------------------------------------------


def test_the_second_time_nothing_is_decoded_and_it_takes_no_second(
    tmp_path, own_cache, monkeypatch
):
    write(tmp_path / "images", 40)
    first = load(tmp_path / "images")
    assert first.seconds is not None and first.folder.parent == own_cache

    def refuse(*args):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "decode_blocks", refuse)
    monkeypatch.setattr(ingest, "decode_blocks", refuse)
    began = time.perf_counter()
    second = load(tmp_path / "images")
    assert time.perf_counter() - began < 1
    assert second.seconds is None and second.data.fingerprint == first.data.fingerprint
    assert "found" in ingest.describe(second)


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
    folders.append(ingest.ingest(cropped, request_for(images)).folder)
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


@pytest.mark.parametrize("where", ["journal", "rows", "between", "last line", "early"])
def test_ingest_goes_on_where_it_was_killed(tmp_path, own_cache, decoder, capsys, where):
    """The files as a kill or a power cut leaves them, at every kind of moment."""
    images = tmp_path / "images"
    write(images, 600)
    (images / "00300.jpg").write_bytes(b"bad")
    whole = load(images)
    wanted = whole.data.images.copy()
    partial = whole.folder.with_name(whole.folder.name + ".partial")
    request = request_for(images)
    source = folder_source(request)
    items = source.open()
    manifest = whole.manifest
    keys = ("dataset", "split", "source", "preprocessing", "decoder")
    header = {key: manifest[key] for key in keys} | {"count": items.count}
    cache.shutil.rmtree(whole.folder)
    with cache.Writer(whole.folder, header, source.shape) as writer:
        for block in items.blocks(0, decoder):
            if writer.done.items >= 256:
                break
            writer.append(*block[:3])
        kept = writer.done.items
        one_less = kept - block.items if decoder == "pillow" else 0
    rows, journal = partial / "images.npy", partial / "journal.jsonl"
    if where == "journal":  # cut off while writing its last line
        os.truncate(journal, journal.stat().st_size - 7)
        kept = one_less
    elif where == "rows":  # the rows never reached the disk
        os.truncate(rows, rows.stat().st_size - 1)
        kept = one_less
    elif where == "between":  # rows without a line
        with open(rows, "ab") as file:
            file.write(bytes(5000))
    elif where == "last line":  # whole but for its newline
        os.truncate(journal, journal.stat().st_size - 1)
    else:
        os.truncate(journal, 10)
        kept = 0
    again = load(images)
    err = capsys.readouterr().err
    assert (f"going on after {kept:,} of 600" in err) == (kept > 0), err
    np.testing.assert_array_equal(again.data.images, wanted)
    assert again.data.fingerprint == whole.data.fingerprint
    assert again.data.skipped == whole.data.skipped and not partial.exists()


CHILD = (
    "import sys; from fastinfogan.cli import main; from fastinfogan.data.ingest import dali;"
    "dali.available = lambda: False;"  # importing DALI would take longer than the work
    "sys.exit(main(['ingest', '--data-dir', sys.argv[1], '--image-size', '16']))"
)


def start_child(images: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_and_started_twice_at_once(tmp_path, own_cache):
    """A real SIGKILL in the middle, then two processes together: one of them ingests."""
    images = tmp_path / "images"
    images.mkdir()
    content = encode(photo(1, 200, 200), "PNG")
    for number in range(700):
        (images / f"{number:04}.png").write_bytes(content)
    killed = start_child(images)
    while killed.poll() is None:
        journals = list(own_cache.glob("*.partial/journal.jsonl"))
        if journals and journals[0].read_bytes().count(b"\n") > 1:
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not list(own_cache.glob("*/manifest.json"))
    pair = [start_child(images) for _ in range(2)]
    outputs = [child.communicate() for child in pair]
    assert [child.returncode for child in pair] == [0, 0], outputs
    assert sorted("ingested in" in out for out, _ in outputs) == [False, True]
    assert any("going on after" in err for _, err in outputs)
    found = load(images)
    assert found.seconds is None and len(found.data) == 700
    assert (found.data.images == found.data.images[0]).all()


def test_a_second_process_waits_and_says_so(tmp_path):
    lines, entered = [], threading.Event()
    folder = tmp_path / "x"

    def second():
        with cache.locked(folder, lambda line: (lines.append(line), told.set())):
            entered.set()

    told = threading.Event()
    with cache.locked(folder, lines.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10) and not entered.is_set()
    thread.join(10)
    assert entered.is_set() and "another process is ingesting" in lines[0] and len(lines) == 1


def test_a_full_disk_is_refused_before_and_named_when_met(tmp_path, own_cache, monkeypatch):
    images = tmp_path / "images"
    write(images, 40)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "disk_usage", lambda path: usage(1, 1, 40 * 768 - 1))
        message = error_of(load, images)
    assert message.startswith("FASTINFOGAN_CACHE: the cache folder ") and "are needed" in message
    # A real limit on the size of files: the write itself fails.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
        message = error_of(load, images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, previous)
    assert "cannot be used (File too large)" in message and str(own_cache) in message
    assert not list(own_cache.glob("*/manifest.json"))
    assert len(load(images).data) == 40  # and with room it goes on


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


# -- The command ---------------------------------------------------------------------------------


def test_the_command_ingests_then_finds_and_says_what_was_left_out(tmp_path, own_cache, capsys):
    write(tmp_path / "images", 30)
    (tmp_path / "images" / "bad.jpg").write_bytes(b"x")
    arguments = ["ingest", "--data-dir", str(tmp_path / "images"), "--channels", "1"]
    assert main(arguments) == 2
    assert "--allow-bad" in capsys.readouterr().err
    assert main([*arguments, "--allow-bad"]) == 0
    out = capsys.readouterr().out
    assert "folder, all: 30 images of 32x32x1, ingested in" in out and "'bad.jpg': not an" in out
    assert main([*arguments, "--allow-bad"]) == 0
    assert "30 images of 32x32x1, found" in capsys.readouterr().out
    assert main(["ingest", "--dataset", "digits"]) == 0
    assert "nothing to ingest" in capsys.readouterr().out


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ingest.time, "monotonic", lambda: now[0])
    with ingest._Progress("ingesting x", 1000, enabled=True) as progress:
        progress.start_at(100)
        for _ in range(4):
            now[0] += 20
            progress.update(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fastinfogan: ingesting x: 300 of 1,000, 5 a second, 140 s left",
        "fastinfogan: ingesting x: 500 of 1,000, 5 a second, 100 s left",
    ]


def test_every_ingested_dataset_says_where_its_files_come_from():
    for name in ("celeba", "svhn", "chairs", "faces", "dsprites", "folder"):
        dataset = find_dataset(name)
        message = error_of(dataset.source, LoadRequest(None, "train", None, None, False))
        assert message.startswith(f"--dataset {name} needs --data-dir: a directory with ")
        assert dataset.status(None)[0] is False
        if name != "folder":
            assert "http" in message
