"""Archives: read where they lie, and harmless whatever their members are called."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, photo
from user_errors import error_of

from fastinfogan.data.ingest import decode, encoded
from fastinfogan.data.ingest.preprocess import Preprocess


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
