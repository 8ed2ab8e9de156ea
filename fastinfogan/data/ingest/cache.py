"""The ingested form of a dataset: a folder of uint8 rows, labels, factors and a manifest.

docs/data.md describes the files. While it is being made the folder's name ends in ``.partial``,
and a journal tells what of it is there: see ``Writer``.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastinfogan.data.factors import Factor, named
from fastinfogan.data.images import ImageData
from fastinfogan.errors import why
from fastinfogan.files import sync_folder, synced_write, write_all
from fastinfogan.json_files import parse_json
from fastinfogan.lock import exclusive
from fastinfogan.printable import printable
from fastinfogan.tell import Tell

FORMAT_VERSION = 1
IMAGES, MANIFEST, JOURNAL = "images.npy", "manifest.json", "journal.jsonl"
# A line of the journal; its bad ones are (item, name, reason).
_LINE = {"items": int, "rows": int, "crc": int, "bad": [[(int, str)]]}
_LINE |= {"notes?": {str: int}, "line?": int}  # not in older caches
HEADER_BYTES = 128  # of an .npy file of version 1.0: room for any shape of four axes


class Damaged(Exception):
    """A cache that must not be used; the message says why, and completes "the cache ... "."""


class Done(NamedTuple):
    """How far an unfinished cache has come.

    Attributes:
        items: how many were looked at.
        rows: how many of them were good.
        blocks: (rows, CRC-32) of each.
        bad: (item, name, reason) of the others.
        notes: how many of the good ones each of ``notes``' words is true of.
    """

    items: int
    rows: int
    blocks: list[tuple[int, int]]
    bad: list[tuple[int, str, str]]
    notes: Counter[str]


def cache_key(description: Mapping[str, Any]) -> str:
    """16 hex digits for a JSON description of source and preprocessing."""
    return hashlib.sha256(_json(description)).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished cache.

    The files' sizes are checked, their content is not: that is for ``open_cache``.

    Raises:
        FileNotFoundError: there is no such cache.
        Damaged: it can't be trusted.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = parse_json(text, {"checksum": str, "format_version": int})
    except (ValueError, IsADirectoryError):
        raise Damaged("has a damaged manifest") from None
    checksum, version = manifest.pop("checksum"), manifest["format_version"]
    if version != FORMAT_VERSION:
        found = printable(str(version), 40)
        raise Damaged(f"has format version {found}, and this is version {FORMAT_VERSION}")
    if hashlib.sha256(_json(manifest)).hexdigest() != checksum:
        raise Damaged("has a damaged manifest")
    wanted = HEADER_BYTES + int(np.prod(manifest["shape"], dtype=np.int64))
    try:
        size = (folder / IMAGES).stat().st_size
    except OSError as error:
        raise Damaged(f"has no readable {IMAGES} ({why(error)})") from None
    if size != wanted:
        raise Damaged(f"has {size} bytes in {IMAGES}, not {wanted}")
    return manifest


def open_cache(
    folder: Path, manifest: Mapping[str, Any], threads: int, rows: Sequence[Factor] = ()
) -> ImageData:
    """The images, mapped into memory rather than read, after every byte was compared.

    Args:
        folder: a finished cache.
        manifest: what ``read_manifest`` returned for it.
        threads: how many compare.
        rows: what the factors are that it has the names and values of.

    Raises:
        Damaged: it has other bytes than were written.
    """
    shape = tuple(manifest["shape"])
    with open(folder / IMAGES, "rb") as file:
        if file.read(HEADER_BYTES) != _npy_header(shape):
            raise Damaged(f"has other bytes in the header of {IMAGES} than were written")
    # Copy on write: torch takes only writable arrays, and the file must never change.
    images = np.memmap(folder / IMAGES, np.uint8, mode="c", offset=HEADER_BYTES, shape=shape)
    starts = np.cumsum([0] + [rows for rows, _ in manifest["blocks"]])

    def intact(block: int) -> bool:
        rows = images[starts[block] : starts[block + 1]]
        return zlib.crc32(rows) == manifest["blocks"][block][1]

    with ThreadPoolExecutor(threads) as pool:
        for block, fine in enumerate(pool.map(intact, range(len(manifest["blocks"])))):
            if not fine:
                raise Damaged(f"has other bytes in block {block} of {IMAGES} than were written")
    arrays = {name: _read_array(folder, name, manifest) for name in ("labels", "factors")}
    factor_names = _names(manifest["factor_names"])
    return ImageData(
        name=manifest["dataset"],
        images=images,
        labels=arrays["labels"],
        label_names=_names(manifest["label_names"]),
        skipped=tuple((name, reason) for name, reason in manifest["skipped"]),
        factors=arrays["factors"],
        factor_rows=None if factor_names is None else named(rows, factor_names),
        checksum=hashlib.sha256(_json(manifest["blocks"])).hexdigest(),
        both_splits=manifest["split"] == "all",
    )


def locked(folder: Path, tell: Tell) -> AbstractContextManager[None]:
    """Let one process at a time make a cache; a process that ends gives its lock back.

    Args:
        folder: the cache; the lock lies beside it.
        tell: gets a line if another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is ingesting to {folder}; waiting for it"
    return exclusive(folder.with_name(f".{folder.name}.lock"), tell, waiting)


class Writer:
    """Makes a cache, block by block, and goes on where an earlier one was cut off.

    Rows are appended to ``images.npy``, then a line to the journal says how many items and rows
    there are and the block's CRC-32. Opening reads both back and keeps the blocks that agree,
    so that nothing need be synced on the way. ``finish`` syncs everything and renames the folder.

    Args:
        folder: the cache's name once it is finished.
        header: JSON that must be the same for a partial cache to be continued.
        shape: (H, W, C) of a row.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        self._folder, self._shape = folder, shape
        self.partial = folder.with_name(folder.name + ".partial")
        self.done = Done(0, 0, [], [], Counter())
        self._header = _json({"format_version": FORMAT_VERSION, **header})
        self.partial.mkdir(parents=True, exist_ok=True)
        self._images = open(self.partial / IMAGES, "a+b", buffering=0)
        self._journal = open(self.partial / JOURNAL, "a+b", buffering=0)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a later writer goes on from what they hold."""
        self._images.close()
        self._journal.close()

    def append(
        self,
        items: int,
        rows: np.ndarray,
        bad: list[tuple[int, str, str]],
        notes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Add a block.

        Args:
            items: how many it stands for.
            rows: uint8 (items - bad, H, W, C), of the good ones.
            bad: (item, name, reason) of the others.
            notes: how many of the good ones each of ``notes``' words is true of.
        """
        data = np.ascontiguousarray(rows).reshape(-1).data
        crc = zlib.crc32(data)
        write_all(self._images, data)
        self._count(items, len(rows), crc, bad, notes)
        line = {"items": items, "rows": len(rows), "crc": crc, "bad": bad, "notes": dict(notes)}
        write_all(self._journal, _json({**line, "line": zlib.crc32(_json(line))}) + b"\n")

    def start_over(self) -> None:
        """Forget what is there."""
        self.done = Done(0, 0, [], [], Counter())
        self._images.truncate(HEADER_BYTES)
        self._journal.truncate(0)
        write_all(self._journal, self._header + b"\n")

    def finish(
        self,
        manifest: Mapping[str, Any],
        labels: np.ndarray | None,
        factors: np.ndarray | None,
    ) -> None:
        """Write what is missing, make it all durable, and give the folder its name.

        Args:
            manifest: JSON, beside what the writer knows itself.
            labels: int64 (N,), or None.
            factors: int64 (N, F), or None.
        """
        shape = (self.done.rows, *self._shape)
        full = {
            "format_version": FORMAT_VERSION,
            **manifest,
            "shape": shape,
            "blocks": self.done.blocks,
            "notes": self.done.notes,
            "labels": self._write_array("labels", labels),
            "factors": self._write_array("factors", factors),
        }
        full = json.loads(_json(full))
        self._images.close()
        with open(self.partial / IMAGES, "r+b") as file:
            file.write(_npy_header(shape))
            file.flush()
            os.fsync(file.fileno())
        checksum = hashlib.sha256(_json(full)).hexdigest()
        text = json.dumps({**full, "checksum": checksum}, indent=1)
        synced_write(self.partial / MANIFEST, text.encode())
        self.close()
        (self.partial / JOURNAL).unlink()
        sync_folder(self.partial)
        os.rename(self.partial, self._folder)
        sync_folder(self._folder.parent)

    def _recover(self) -> None:
        self._journal.seek(0)
        first, *lines = self._journal.read().split(b"\n")
        self._journal.seek(0)
        row_bytes = int(np.prod(self._shape))
        if first != self._header or os.fstat(self._images.fileno()).st_size < HEADER_BYTES:
            self._images.truncate(0)
            write_all(self._images, bytes(HEADER_BYTES))
            self.start_over()
            return
        kept = len(first) + 1
        there = os.fstat(self._images.fileno()).st_size - HEADER_BYTES
        self._images.seek(HEADER_BYTES)
        for text in lines:
            try:
                line = parse_json(text, _LINE)
            except ValueError:
                break  # the line that was being written when the process ended
            rows, bad = line["rows"], [tuple(one) for one in line["bad"]]
            # Earlier versions wrote no checksum of the line.
            if line.pop("line", None) not in (None, zlib.crc32(_json(line))):
                break
            if not 0 <= rows <= there // row_bytes - self.done.rows:
                break
            data = self._images.read(rows * row_bytes)
            if zlib.crc32(data) != line["crc"]:
                break
            items = range(self.done.items, self.done.items + line["items"])
            if len(items) != rows + len(bad):
                break
            if any(len(one) != 3 or one[0] not in items for one in bad):
                break
            self._count(line["items"], rows, line["crc"], bad, line.get("notes", {}))
            kept += len(text) + 1
        # A whole last line may lack only its newline; without its text it is redone.
        self._journal.truncate(min(kept, os.fstat(self._journal.fileno()).st_size))
        self._images.truncate(HEADER_BYTES + self.done.rows * row_bytes)

    def _count(
        self,
        items: int,
        rows: int,
        crc: int,
        bad: list[tuple[int, str, str]],
        notes: Mapping[str, int],
    ) -> None:
        self.done.notes.update(notes)
        self.done.blocks.append((rows, crc))
        self.done.bad.extend(bad)
        self.done = self.done._replace(items=self.done.items + items, rows=self.done.rows + rows)

    def _write_array(self, name: str, array: np.ndarray | None) -> dict[str, Any] | None:
        if array is None:
            return None
        data = _npy_header(array.shape, "<i8") + array.astype("<i8").tobytes()
        synced_write(self.partial / f"{name}.npy", data)
        return {"shape": array.shape, "crc": zlib.crc32(data)}


def _read_array(folder: Path, name: str, manifest: Mapping[str, Any]) -> np.ndarray | None:
    description = manifest[name]
    if description is None:
        return None
    try:
        data = (folder / f"{name}.npy").read_bytes()
    except OSError as error:
        raise Damaged(f"has no readable {name}.npy ({why(error)})") from None
    if zlib.crc32(data) != description["crc"]:
        raise Damaged(f"has other bytes in {name}.npy than were written")
    values = np.frombuffer(data, "<i8", offset=HEADER_BYTES).reshape(description["shape"])
    return values.astype(np.int64)


def _npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(map(int, shape))}, }}"
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.ljust(HEADER_BYTES - len(start) - 1).encode() + b"\n"


def _names(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
