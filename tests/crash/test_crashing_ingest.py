"""Ingest that is killed, or finds the disk full, at any file-system call: the cache is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from crashes import KILLED, Ask, points, some_or_all
from image_files import write


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Blocks of 64 files, and a bad one."""
    folder = tmp_path_factory.mktemp("data") / "images"
    write(folder / "a", 80)
    write(folder / "b", 80, start=80)
    (folder / "a" / "00007.jpg").write_bytes(b"bad")
    return folder


def ask(images: Path, cache: Path, **chosen) -> Ask:
    arguments = ("ingest", "--data-dir", str(images), "--image-size", "16")
    environment = {"FASTINFOGAN_CACHE": str(cache)}
    return Ask(arguments, images.parent, cache, environment=environment, **chosen)


def content(cache: Path) -> dict[str, bytes]:
    """Every file of a cache but locks."""
    return {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file() and ".lock" not in path.name
    }


@pytest.fixture(scope="module")
def whole(crashes, images, tmp_path_factory):
    cache = tmp_path_factory.mktemp("whole") / "cache"
    (ended,) = crashes.run(ask(images, cache))
    assert ended.code == 0 and "159 images" in ended.out
    assert {Path(name).name for name in content(cache)} == {
        "images.npy", "labels.npy", "manifest.json"
    }  # fmt: skip
    return content(cache), ended.calls


@some_or_all(2)
@pytest.mark.parametrize("mode", ["kill", "torn", "full"])
def test_nothing_is_lost(crashes, images, tmp_path, whole, mode, most):
    wanted, calls = whole
    assert calls > 20
    for at in points(calls, most):
        cache = tmp_path / f"{mode}-{at}"
        (ended,) = crashes.run(ask(images, cache, mode=mode, at=at))
        if mode == "full" and ended.code:
            assert ended.err.startswith("fastinfogan: error: FASTINFOGAN_CACHE: "), ended
            assert "No space left on device" in ended.err and ended.err.count("\n") == 1
        elif mode != "full":
            assert ended.code == KILLED, (at, ended)
        (ended,) = crashes.run(ask(images, cache))
        assert ended.code == 0 and "Traceback" not in ended.text, (at, ended)
        assert content(cache) == wanted, at


def test_of_three_at_once_one_ingests(crashes, images, tmp_path, whole):
    ended = crashes.run(*[ask(images, tmp_path / "cache")] * 3)
    assert [one.code for one in ended] == [0, 0, 0], ended
    assert sum("ingested in" in one.out for one in ended) == 1
    assert content(tmp_path / "cache") == whole[0]


@some_or_all(2)
def test_a_found_cache_with_a_flipped_byte_is_made_again(crashes, images, tmp_path, whole, most):
    """In the header, the images, the labels and the manifest, one after the other."""
    cache = tmp_path / "cache"
    crashes.run(ask(images, cache))
    for name, size in {name: len(data) for name, data in whole[0].items()}.items():
        path = cache / name
        for at in (0, size // 2, 127, 7, 20, 100, 128, size - 2)[:most]:
            data = bytearray(path.read_bytes())
            data[at] ^= 1
            path.write_bytes(data)
            (ended,) = crashes.run(ask(images, cache))
            assert ended.code == 0 and "making it again" in ended.err, (name, at, ended)
            assert "ingested in" in ended.out
    assert json.loads(next(cache.rglob("manifest.json")).read_text())["items"] == 160
    assert content(cache) == whole[0]
    (ended,) = crashes.run(ask(images, cache))
    assert "found" in ended.out and ended.err == ""
