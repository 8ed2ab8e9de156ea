"""Names of very many files, in one file that all processes of a machine map."""

from __future__ import annotations

import os

import pytest
from image_files import write

from fastinfogan.data import load_images
from fastinfogan.data.ingest import names as names_module
from fastinfogan.data.ingest.names import NAMES, MappedNames, mapped

SOME = ["a.png", "", "train/é/ü b.jpg", os.fsdecode(b"not\xffutf-8.png"), "x" * 300, "日本.webp"]


def never(line):
    pytest.fail(line)


def test_names_are_what_they_were_and_written_once(tmp_path, monkeypatch):
    found = mapped(SOME, tmp_path, never)
    assert isinstance(found, MappedNames) and list(found) == SOME
    assert len(found) == 6 and found[3] == SOME[3] and "a.png" in found
    for beyond in (6, -1):
        with pytest.raises(IndexError):
            found[beyond]
    many, folder = [f"{i:x}" for i in range(10_000)], tmp_path / "many"
    folder.mkdir()
    mapped(many, folder, never)
    monkeypatch.setattr(names_module, "atomic_write", lambda *_: pytest.fail("it is there"))
    assert list(mapped(SOME, tmp_path, never)) == SOME
    assert list(mapped(many, folder, never)) == many


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content[:8] + b"\xff" * 8 + content[16:],
        lambda content: content.replace(b"a.png", b"b.png"),
        lambda content: content.replace(b"not", b"\xff\xfe\xfd"),
    ],
)
def test_a_file_of_other_names_is_written_anew(tmp_path, damage):
    mapped(SOME, tmp_path, never)
    path = tmp_path / NAMES
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert list(mapped(SOME, tmp_path, never)) == SOME
    assert path.read_bytes() == whole


def test_where_there_is_no_room_names_stay_in_memory(tmp_path):
    told = []
    assert mapped(SOME, tmp_path / "none", told.append) is SOME
    (line,) = told
    assert "No such file" in line and line.endswith("each process keeps all names in memory")


def test_files_that_are_decoded_while_training_have_mapped_names(tmp_path, own_cache):
    write(tmp_path / "photos", 5)
    for _ in range(2):
        data = load_images("folder", tmp_path / "photos", feed="encoded")
        names = data.encoded.files.names
        assert isinstance(names, MappedNames) and len(names) == data.total == 5
        assert data.encoded.files.read(4) == (tmp_path / "photos" / names[4]).read_bytes()
    assert len(list(own_cache.glob(f"folder-*/{NAMES}"))) == 1
