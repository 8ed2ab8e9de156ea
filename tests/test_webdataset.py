"""Tar shards: their images, their classes, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import numpy as np
import pytest
from image_files import encode, photo
from user_errors import error_of

from fastinfogan.data import dataset_status, load_images


def shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


def sample(number, label=True):
    """An image of one level, 5 times its number, and its class, as webdataset writes them."""
    key = f"{number:06}"
    level = np.full((20, 24, 3), 5 * number, np.uint8)
    from PIL import Image

    yield f"{key}.jpg", encode(Image.fromarray(level), quality=95)
    if label:
        yield f"{key}.cls", str(number % 3 * 7).encode()
    yield f"{key}.json", b'{"caption": "grey"}'


@pytest.fixture
def shards(tmp_path):
    root = tmp_path / "shards"
    for part in range(4):
        members = [one for n in range(part * 10, part * 10 + 10) for one in sample(n)]
        shard(root / f"b{part % 2}" / f"part-{part:03}.tar", members)
    return root


def load(root, **options):
    return load_images("webdataset", root, image_size=16, progress=False, **options)


def test_images_of_all_shards_with_their_classes(shards):
    data = load(shards)
    numbers = [*range(10), *range(20, 30), *range(10, 20), *range(30, 40)]  # by path
    levels = data.images.reshape(40, -1).mean(1)
    np.testing.assert_allclose(levels, 5.0 * np.array(numbers), atol=2)
    assert data.label_names == ("0", "7", "14")
    assert [int(data.label_names[label]) for label in data.labels] == [n % 3 * 7 for n in numbers]
    assert data.notes[0] == "4 shards" and data.both_splits
    assert dataset_status("webdataset", shards) == (True, f"4 shards in {str(shards)!r}")


def test_decoded_while_training(shards):
    from fastinfogan.data.ingest import sample as ingest_sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_sample, "SAMPLE", 8)
        data = load(shards, feed="encoded")
    assert len(data) == 8 and data.total == 40
    assert data.encoded.files.names[10] == "b0/part-002.tar/000020.jpg"
    whole = load(shards)
    assert [data.label_names[i] for i in data.labels] == [
        whole.label_names[i] for i in whole.labels[::5]
    ]


def test_without_all_classes_there_are_no_labels(shards):
    shard(shards / "z.tar", sample(50, label=False))
    data = load(shards)
    assert data.labels is None
    assert data.notes[-1] == "no labels: 1 images have no .cls file, such as 'z.tar/000050.jpg'"


def test_more_shards_than_files_may_be_open(tmp_path):
    import resource

    content = encode(photo(1, 20, 20))
    for number in range(80):
        shard(tmp_path / f"{number:03}.tar", [("0.jpg", content)])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = len(os.listdir("/dev/fd"))  # of other tests in this process
    resource.setrlimit(resource.RLIMIT_NOFILE, (others + 56, before[1]))
    try:
        assert len(load(tmp_path)) == 80
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


REFUSED = {
    "cut": "cannot be read",
    "empty": "cannot be read",
    "no images": "holds no image",
    "compressed inside": "is compressed, and its images can't be read in any order",
    "compressed": "is compressed, and its images can't be read in any order",
    "odd class": "cannot be read (invalid literal for int() with base 10: b'cat')",
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("feed", ["auto", "encoded"])
def test_a_bad_shard_is_refused_by_name(shards, kind, feed):
    path, whole = shards / "bad.tar", (shards / "b0" / "part-000.tar").read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no images":
        shard(path, [("000001.json", b"{}")])
    elif kind == "compressed inside":
        path.write_bytes(gzip.compress(whole))
    elif kind == "odd class":
        shard(path, [("000001.cls", b"cat"), ("000001.jpg", encode(photo(1, 20, 20)))])
    else:
        path = path.with_name("bad.tar.gz")
        path.write_bytes(whole)
    message = error_of(load, shards, feed=feed)
    assert message.startswith(f"--data-dir {str(shards)!r}: {path.name} ") and "\n" not in message
    assert REFUSED[kind] in message and message.endswith("; fetch it again")


def test_a_folder_without_shards_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    message = error_of(load, tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r} holds no tar shards (.tar, not comp")


def test_each_folder_is_read_once_whatever_links_to_it(shards):
    (shards / "b0" / "up").symlink_to(shards)
    for name in ("also", "again"):
        (shards / name).symlink_to(shards / "b1")
    assert len(load(shards)) == 40


def test_an_extended_header_that_leads_back_ends(shards):
    """A member of less than no bytes: what follows it would be the member before, for ever."""
    with tarfile.open(shards / "back.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("000001.jpg")
        header.pax_headers = {"size": "-2048"}
        archive.addfile(header)
    assert "back.tar cannot be read (" in error_of(load, shards)
