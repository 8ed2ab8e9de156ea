"""idx files from mirrors: real HTTP, against servers on the loopback address."""

import hashlib
import http.server
import re
import socket
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from idx_files import NAMES, TEST_NAMES, write_four
from user_errors import error_of

from fastinfogan.data import ImageData, dataset_status, load_images
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.sources import idx as idx_module


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
    return idx_module.IdxSource("toy", "Toy", tuple("0123456789"), 0.1, mirrors, md5)


def load_toy(source: idx_module.IdxSource, split: str = "train") -> ImageData:
    return idx_module.load_idx(source, LoadRequest(None, split, None, None, progress=True))


def test_what_a_killed_download_left_goes(tmp_path, serve, cache):
    write_four(tmp_path / "files")
    url, _ = serve(tmp_path / "files")
    cache.mkdir(parents=True)
    (cache / "tmpab12cd").write_bytes(b"half")
    load_toy(toy_source(tmp_path / "files", url))
    assert {path.suffix for path in cache.iterdir()} == {".gz"}


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
