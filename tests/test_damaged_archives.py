"""Archives and arrays as people have them, and damaged ones: read whole, or refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from idx_files import NAMES, TEST_NAMES, digits_like, idx_bytes, write_four
from image_files import encode, photo
from memory import memory_below
from user_errors import error_of

from fastinfogan.data import dataset_status, load_images
from fastinfogan.data.ingest import decode, encoded
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.sources.dsprites import FILE

PHOTOS = {f"{number}.jpg": encode(photo(number, 40, 40)) for number in range(6)}


def tarred(files: dict[str, bytes], mode: str = "w", **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(buffer.getvalue())


def opened(path: Path):
    return encoded.open_archive(path, lambda name: name.endswith(".jpg"))


def refused(path: Path) -> str:
    message = error_of(opened, path)
    assert message.startswith(f"--data-dir {str(path.parent)!r}: {path.name} ")
    return message


# -- tar -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars_are_read_and_leave_nothing(tmp_path, own_cache, kind):
    path = tmp_path / "a.tar"  # told by content, not by name
    path.write_bytes(tarred({**dict(reversed(PHOTOS.items())), "notes.txt": b"x"}, f"w:{kind}"))
    files = opened(path)
    assert files.names == list(PHOTOS)
    read = {}

    def work(index: int) -> None:
        for _ in range(20):
            read[files.names[index]] = files.read(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(PHOTOS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == PHOTOS
    assert os.listdir(own_cache) == []
    blocks = decode.decode_blocks(files, Preprocess(16, 3), 0, "pillow")
    assert sum(len(block.rows) for block in blocks) == 6


@pytest.mark.parametrize("name", ["rendered_chairs.tar.gz", "rendered_chairs.tgz"])
def test_chairs_in_a_compressed_tar(tmp_path, own_cache, name):
    view = encode(photo(1, 600, 600), "PNG")
    files = {f"rendered_chairs/m/renders/image_00{i}_p020_t01{i}_r096.png": view for i in (0, 1)}
    (tmp_path / name).write_bytes(tarred(files, "w:gz"))
    assert dataset_status("chairs", tmp_path) == (True, f"{name} is in {str(tmp_path)!r}")
    assert load_images("chairs", tmp_path).factors.tolist() == [[0, 10, 20], [0, 11, 20]]


@pytest.mark.parametrize("kind", ["", "gz"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda tar, at: tar[: at + 3] + b"\xff" + tar[at + 4 :], "damaged at byte"),
        (lambda tar, at: tar[:at] + bytes(512) + tar[at + 512 :], "more after its end mark"),
        (lambda tar, at: tar[:at], "its end mark is missing"),
        (lambda tar, at: tar[: at + 100], "damaged at byte"),
        (lambda tar, at: tar[:at] + tarred({}) + tar[at:], "more after its end mark"),
        (lambda tar, at: tar[: at + 1000], "unexpected end of data"),
        (lambda tar, at: b"x" * 2000, "damaged at byte 0"),
        (lambda tar, at: b"", "end mark is missing"),
    ],
)
def test_a_damaged_tar_loses_no_file_in_silence(tmp_path, own_cache, kind, damage, says):
    whole = tarred(PHOTOS)
    at = whole.index(b"3.jpg")
    damaged = damage(whole, at)
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(damaged) if kind else damaged)
    assert says in refused(path) or kind  # read to the end, a compressed one says it otherwise


def test_damage_to_the_compression_is_named(tmp_path, own_cache):
    path = tmp_path / "a.tar.gz"
    whole = tarred(PHOTOS, "w:gz")
    for damaged in (whole[:100], whole[:-8], whole[:50] + b"x" * 50 + whole[100:], whole[:3]):
        path.write_bytes(damaged)
        assert "cannot be read (" in refused(path)


def test_a_tar_takes_no_more_memory_than_its_files(tmp_path, own_cache):
    """Long names of any length, members without end, files of zeros."""
    long_name = tarfile.TarInfo("x")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 80 << 20
    path = tmp_path / "a.tar.gz"
    many = tarfile.TarInfo("x.txt").tobuf() * 10_000
    huge = tarfile.TarInfo("x.jpg")
    huge.size = encoded.MAX_FILE_BYTES + 1
    for content, says in (
        (long_name.tobuf(), "claims 83,886,080 bytes"),
        (many + bytes(1024), None),
        (huge.tobuf(), "unexpected end"),
    ):
        for compressed in (content, gzip.compress(content, 1)):
            path.write_bytes(compressed)
            with memory_below(8e6):
                assert says in refused(path) if says else opened(path).names == []


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path, own_cache):
    own_cache.parent.mkdir()
    own_cache.write_text("a file in the place of the folder")
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tarred(PHOTOS, "w:gz"))
    message = error_of(opened, path)
    assert message.startswith("FASTINFOGAN_CACHE: the cache folder") and "fetch" not in message


# -- zip -------------------------------------------------------------------------------------------


def with_entries(data: bytearray, central: int, local: int, value: int, first: bool = False):
    """A field of every member's entry (or the first one's) in both directories."""
    for magic, at in ((b"PK\1\2", central), (b"PK\3\4", local)):
        start = -1
        while (start := data.find(magic, start + 1)) >= 0:
            struct.pack_into("<H", data, start + at, value)
            if first:
                break
    return data


@pytest.mark.parametrize(
    ("central", "local", "value", "says"),
    [
        (6, 4, 99, "cannot be read (zip file version 9.9)"),
        (8, 6, 1, "is encrypted; unpack it and name the folder"),
        (10, 8, 9, "is compressed with deflate64; unpack it"),
        (10, 8, 77, "is compressed with method 77; unpack it"),
    ],
)
def test_zips_that_python_cannot_read_are_refused(tmp_path, central, local, value, says):
    path = tmp_path / "a.zip"
    path.write_bytes(with_entries(zipped(PHOTOS), central, local, value))
    assert says in refused(path)
    if value != 99:  # one of many is one bad file
        path.write_bytes(with_entries(zipped(PHOTOS), central, local, value, first=True))
        files = opened(path)
        (block,) = decode.decode_blocks(files, Preprocess(16, 3), 0, "pillow")
        assert [name for _, name, _ in block.bad] == ["0.jpg"] and len(block.rows) == 5


@pytest.mark.parametrize("start", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\7", b"\x28\xb5\x2f\xfdxx"])
def test_archives_of_other_kinds_are_named(tmp_path, start):
    path = tmp_path / "a.zip"
    path.write_bytes(start + bytes(100))
    assert " archive; unpack it and name the folder" in refused(path)


# -- npz -------------------------------------------------------------------------------------------

HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"


def array(
    descr: str = "|u1", shape: str = "(3, 64, 64)", fortran: str = "False", size: int = 3 * 4096,
    header: str | None = None, version: bytes = b"\1\0",
) -> bytes:  # fmt: skip
    text = (HEADER % (descr, fortran, shape) if header is None else header).encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + bytes(size)


IMAGES, FACTORS = array(), array("<i8", "(3, 6)", size=3 * 48)
ABSURD = "(99999999999, 64, 64)"
DAMAGED_ARRAYS = {
    "absurd images": (array(shape=ABSURD), FACTORS),
    "absurd factors": (IMAGES, array("<i8", "(99999999999, 6)", size=99)),
    "negative": (array(shape="(-3, 64, 64)"), FACTORS),
    "cut short": (array(size=100), FACTORS),
    "too long": (array(size=4 * 4096), FACTORS),
    "none": (array(shape="(0, 64, 64)", size=0), array("<i8", "(0, 6)", size=0)),
    "one image without an axis": (array(shape="(64, 64)", size=4096), FACTORS),
    "pickled": (IMAGES, array("|O", "(3, 6)", size=99)),
    "text": (IMAGES, array("<U8", "(3, 6)", size=3 * 6 * 32)),
    "records": (IMAGES, array("V8", "(3, 6)", size=144)),
    "not a number": (IMAGES, FACTORS[: -3 * 48].replace(b"<i8", b"<f8") + b"\xff" * 144),
    "below zero": (IMAGES, FACTORS[: -3 * 48] + b"\xff" * 144),
    "beyond any factor": (IMAGES, FACTORS[: -3 * 48] + b"\x7f" * 144),
    "in columns": (array(fortran="True"), FACTORS),
    "no tuple": (array(shape="3"), FACTORS),
    "no header": (array(header=""), FACTORS),
    "half a header": (array(header="{'descr': '|u1', ("), FACTORS),
    "no python": (array(header="{'descr': '|u1', \x00"), FACTORS),
    "a program": (array(header="__import__('os').system('true')"), FACTORS),
    "deeply nested": (array(header="(" * 5000), FACTORS),
    "a number of many digits": (array(shape=f"({'9' * 5000},)"), FACTORS),
    "later version": (array(version=b"\3\0"), FACTORS),
    "no array": (b"", FACTORS),
    "no array either": (b"hello, world", FACTORS),
}


@pytest.mark.parametrize("case", DAMAGED_ARRAYS)
def test_damaged_arrays_are_refused_in_one_line(tmp_path, own_cache, case):
    images, factors = DAMAGED_ARRAYS[case]
    path = tmp_path / FILE
    path.write_bytes(zipped({"imgs.npy": images, "latents_classes.npy": factors}))
    with memory_below(20e6):
        message = error_of(load_images, "dsprites", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r}: {FILE} ") and len(message) < 800


@pytest.mark.parametrize(
    ("central", "local", "value"), [(6, 4, 99), (8, 6, 1), (8, 6, 0x20), (10, 8, 9), (10, 8, 14)]
)
def test_arrays_in_a_zip_that_python_cannot_read(tmp_path, own_cache, central, local, value):
    content = zipped({"imgs.npy": IMAGES, "latents_classes.npy": FACTORS})
    (tmp_path / FILE).write_bytes(with_entries(content, central, local, value))
    message = error_of(load_images, "dsprites", tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r}: {FILE} cannot be read (")


def test_an_svhn_file_that_claims_too_much_is_not_read(tmp_path, own_cache):
    from scipy.io import savemat

    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [[1], [2]]})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<4i", 32, 32, 3, 2))
    struct.pack_into("<i", data, at + 12, 10**9)
    path.write_bytes(data)
    message = error_of(load_images, "svhn", tmp_path)
    assert "train_32x32.mat cannot be read (it claims 3,072,000,000,000 values" in message


def test_an_svhn_variable_that_unpacks_to_more_than_it_claims_is_not_read(tmp_path, own_cache):
    from scipy.io import savemat

    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [[1], [2]]})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<2I", 2, 6144))  # the tag of X's bytes
    struct.pack_into("<I", data, at + 4, 100 << 20)
    size = struct.unpack_from("<I", data, 132)[0]
    lying = zlib.compress(bytes(data[128 : 136 + size]) + bytes(100 << 20), 1)
    compressed = struct.pack("<2I", 15, len(lying)) + lying
    path.write_bytes(bytes(data[:128]) + compressed + bytes(data[136 + size :]))
    with memory_below(90e6):  # scipy unpacks 128 KiB at once
        assert "unpacks to more than the 49,280 bytes" in error_of(load_images, "svhn", tmp_path)


# -- idx -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnist_as_torchvision_keeps_it(tmp_path, suffix):
    written = write_four(tmp_path / "MNIST" / "raw", suffix=suffix)
    other = write_four(tmp_path / "FashionMNIST" / "raw", count=6)
    for folder in (tmp_path, tmp_path / "MNIST", tmp_path / "MNIST" / "raw"):
        data = load_images("mnist", folder, "test")
        np.testing.assert_array_equal(data.images[..., 0], written[TEST_NAMES[0]])
        assert dataset_status("mnist", folder)[0]
    data = load_images("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(data.images[..., 0], other[NAMES[0]])


@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_as_kaggle_packs_it(tmp_path, dotted):
    """A folder for each file, of the same name; or the other spelling in it."""
    written = write_four(tmp_path / "flat", suffix="")
    for path in list((tmp_path / "flat").iterdir()):
        inner = path.name.replace("-idx", ".idx") if dotted else path.name
        (tmp_path / path.name).mkdir()
        path.rename(tmp_path / path.name / inner)
    data = load_images("mnist", tmp_path)
    np.testing.assert_array_equal(data.images[..., 0], written[NAMES[0]])


def test_both_files_come_from_one_folder(tmp_path):
    """Images of one data set and labels of another would fit each other, and nothing else."""
    written = write_four(tmp_path / "MNIST" / "raw")
    images, _ = digits_like(12, seed=7)
    (tmp_path / NAMES[0]).write_bytes(idx_bytes(images))
    data = load_images("mnist", tmp_path)
    np.testing.assert_array_equal(data.images[..., 0], written[NAMES[0]])


@pytest.mark.parametrize("announced", [12, 2**31])
def test_a_gzip_that_unpacks_to_more_takes_no_more_memory(tmp_path, announced):
    write_four(tmp_path)
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", announced, 28, 28)
    bomb = gzip.compress(header + bytes(100 << 20), 1)
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(bomb)
    with memory_below(10e6):
        message = error_of(load_images, "mnist", tmp_path)
    says = "is too long: at least 1057984 bytes" if announced == 12 else "is too large: its header"
    assert says in message
