"""Ingest goes on: after a kill, beside another process, and when the disk was full."""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, photo, write
from ingesting import load, request_for
from user_errors import error_of

from fastinfogan import files
from fastinfogan.data.ingest import cache
from fastinfogan.data.ingest.decode import decode_blocks
from fastinfogan.data.sources.folder import folder_source


@pytest.mark.parametrize("where", ["journal", "rows", "between", "last line", "early", "edited"])
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
    decode = functools.partial(decode_blocks, decoder=decoder)
    shutil.rmtree(whole.folder)
    with cache.Writer(whole.folder, header, source.shape) as writer:
        for block in items.blocks(0, decode):
            if writer.done.items >= 256:
                break
            writer.append(block.items, block.rows, block.bad)
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
    elif where == "edited":  # a line as earlier versions wrote it, without a checksum
        *lines, last = journal.read_text().splitlines()
        edited = {**json.loads(last), "rows": 2**62}
        del edited["line"]
        journal.write_text("\n".join([*lines, json.dumps(edited), ""]))
        kept = one_less
    else:
        os.truncate(journal, 10)
        kept = 0
    again = load(images)
    err = capsys.readouterr().err
    assert (f"going on after {kept:,} of 600" in err) == (kept > 0), err
    np.testing.assert_array_equal(again.data.images, wanted)
    assert again.data.fingerprint == whole.data.fingerprint
    assert again.data.skipped == whole.data.skipped and not partial.exists()


CHILD = """
import sys
from fastinfogan.cli import main
from fastinfogan.data.ingest import dali
dali.available = lambda: False  # importing DALI would take longer than the work
sys.exit(main(["ingest", "--data-dir", sys.argv[1], "--image-size", "16"]))
"""
# Before its second block it says so and waits: a busy machine may take its time to kill it.
HALFWAY = """
import signal
from fastinfogan.data.ingest.cache import Writer

def append_the_first(self, *block, append=Writer.append):
    if self.done.items:
        print("half-way", flush=True)
        signal.pause()
    append(self, *block)

Writer.append = append_the_first
"""


def start_child(images: Path, before: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", before + CHILD, str(images)],
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
    killed = start_child(images, HALFWAY)
    assert killed.stdout.readline() == "half-way\n", killed.communicate()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not list(own_cache.glob("*/manifest.json"))
    pair = [start_child(images) for _ in range(2)]
    outputs = [child.communicate() for child in pair]
    assert [child.returncode for child in pair] == [0, 0], outputs
    assert sorted("ingested in" in out for out, _ in outputs) == [False, True]
    assert any("going on after 64 of 700" in err for _, err in outputs)
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


def test_a_disk_that_does_not_say_how_full_it_is_is_trusted(tmp_path, own_cache, monkeypatch):
    write(tmp_path / "images", 4)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: (0, 0, 0))
    assert len(load(tmp_path / "images").data) == 4


def test_a_full_disk_is_refused_before_and_named_when_met(tmp_path, own_cache, monkeypatch):
    images = tmp_path / "images"
    write(images, 40)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "disk_usage", lambda path: usage(1, 1, 40 * 768 - 1))
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
