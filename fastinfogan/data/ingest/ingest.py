"""Ingest: decode a dataset once into a cache of uint8 rows, and find it there from then on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinfogan.data.dataset import Annotations, ImageData, LoadRequest
from fastinfogan.data.fetch import cache_directory
from fastinfogan.data.ingest import cache
from fastinfogan.data.ingest.decode import (
    Block,
    Decoder,
    decode_blocks,
    pick_decoder,
    thread_count,
)
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.pillow import Preprocess
from fastinfogan.data.progress import ProgressBar
from fastinfogan.errors import UserError

# Items that may be unusable, as a share of all, before the user has to look at them.
BAD_ALLOWED = 0.01
NAMED_IN_ERROR, NAMED_IN_SUMMARY = 3, 20
SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal


@dataclass(frozen=True)
class Items:
    """The opened files of a source.

    count: items, good or bad, in a fixed order.
    blocks: from a first item on, every block in order; ``decoder`` matters to encoded files only.
    annotate: given the items that were good, int64 and ascending, what is known of each.
    skipped: (path, reason) of what can't even be listed as an item.
    """

    count: int
    blocks: Callable[[int, Decoder], Iterator[Block]]
    annotate: Callable[[np.ndarray], Annotations] = lambda kept: Annotations()
    skipped: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Source:
    """One split of a dataset as its distributor lays it out, found but not yet opened.

    shape: (H, W, C) of a row.
    identity: changes whenever the files do (see ``encoded.identity``).
    preprocessing: JSON; together with the identity it names the cache.
    what: the items' name in messages, e.g. "image files".
    where: what an error about them starts with, e.g. "--data-dir 'photos'".
    open: lists the items, which may take seconds.
    """

    dataset: str
    split: str
    shape: tuple[int, int, int]
    identity: str
    preprocessing: Mapping[str, Any]
    what: str
    where: str
    open: Callable[[], Items] = field(repr=False)


class Ingested(NamedTuple):
    """data, the folder it is in, and the seconds that decoding took (None: it was there)."""

    data: ImageData | None
    folder: Path
    manifest: dict[str, Any]
    seconds: float | None


def encoded_items(
    files: EncodedFiles,
    preprocess: Preprocess,
    annotate: Callable[[np.ndarray], Annotations] = lambda kept: Annotations(),
    skipped: Sequence[tuple[str, str]] = (),
) -> Items:
    """Items that are encoded image files."""
    return Items(
        count=len(files.names),
        blocks=lambda start, decoder: decode_blocks(files, preprocess, start, decoder),
        annotate=annotate,
        skipped=skipped,
    )


def array_items(
    count: int,
    rows: Callable[[int], Iterator[np.ndarray]],
    annotate: Callable[[np.ndarray], Annotations],
) -> Items:
    """Items that are decoded already. rows: from a first item on, uint8 arrays (n, H, W, C)."""
    return Items(
        count=count,
        blocks=lambda start, decoder: (Block(len(part), part, []) for part in rows(start)),
        annotate=annotate,
    )


def load_ingested(source: Source, request: LoadRequest) -> ImageData:
    """The images of a source, from its cache, which is made first where there is none."""
    return ingest(source, request, load=True).data


def ingest(
    source: Source, request: LoadRequest, load: bool = False, decoder: Decoder | None = None
) -> Ingested:
    """Find the source's cache or make it.

    load: compare every byte with what was written, and map the images into memory.
    Raises UserError: files that can't be used, or a cache folder that can't.
    """
    description = {
        "dataset": source.dataset,
        "split": source.split,
        "source": source.identity,
        "preprocessing": dict(source.preprocessing),
    }
    stem = f"{source.dataset}-{source.split}-{cache.cache_key(description)}"
    folder = cache_directory("ingested") / stem
    try:
        found = _find(folder, load)
        if isinstance(found, Ingested):
            _check_found(source, found, request.allow_bad)
            return found
        with cache.locked(folder, _say):
            found = _find(folder, load)  # another process may just have made it
            if isinstance(found, Ingested):
                _check_found(source, found, request.allow_bad)
                return found
            if found is not None:
                _say(f"the cache {folder} {found}; making it again")
                shutil.rmtree(folder)
            decoder = pick_decoder(_say) if decoder is None else decoder
            seconds = _make(source, description, folder, request, decoder)
        found = _find(folder, load)
    except OSError as error:
        raise cache.unusable(folder.parent, error) from None
    if not isinstance(found, Ingested):
        raise UserError(f"the cache {folder} {found}, just after it was written: check the disk")
    return found._replace(seconds=seconds)


def describe(ingested: Ingested) -> str:
    """What there is, where, and which files are not in it: lines for the user."""
    manifest, seconds = ingested.manifest, ingested.seconds
    count, *shape = manifest["shape"]
    how = "found" if seconds is None else f"ingested in {seconds:.1f} s ({manifest['decoder']})"
    lines = [
        f"{manifest['dataset']}, {manifest['split']}: {count:,} images of "
        f"{'x'.join(map(str, shape))}, {how}",
        f"  {ingested.folder}",
    ]
    skipped = manifest["skipped"]
    if skipped:
        lines.append(f"  {len(skipped):,} left out, all listed in {cache.MANIFEST}:")
        lines += [f"    {name!r}: {reason}" for name, reason in skipped[:NAMED_IN_SUMMARY]]
        if len(skipped) > NAMED_IN_SUMMARY:
            lines.append("    ...")
    return "\n".join(lines)


def _find(folder: Path, load: bool) -> Ingested | str | None:
    """The cache, what is wrong with it, or None where there is none."""
    try:
        manifest = cache.read_manifest(folder)
        data = cache.open_cache(folder, manifest, thread_count()) if load else None
    except FileNotFoundError:
        return "has no manifest" if folder.exists() else None
    except cache.Damaged as error:
        return str(error)
    return Ingested(data, folder, manifest, None)


def _make(
    source: Source,
    description: Mapping[str, Any],
    folder: Path,
    request: LoadRequest,
    decoder: Decoder,
) -> float:
    """Make the cache and return the seconds it took."""
    began = time.monotonic()
    items = source.open()
    header = {**description, "count": items.count, "decoder": decoder}
    with cache.Writer(folder, header, source.shape) as writer:
        bad = len(writer.done.bad)
        failed_before = writer.done.items == items.count and _too_many(bad, items.count)
        if failed_before and not request.allow_bad:
            writer.start_over()  # the user may have mended what was wrong
        if writer.done.items:
            _say(f"going on after {writer.done.items:,} of {items.count:,} {source.what}")
        _check_space(folder, items.count - writer.done.items, source.shape)
        with _Progress(f"ingesting {source.dataset}", items.count, request.progress) as progress:
            progress.start_at(writer.done.items)
            if writer.done.items < items.count:
                for block in items.blocks(writer.done.items, decoder):
                    writer.append(*block[:3])
                    progress.update(block.items)
                    if block.note:
                        _say(block.note)
        done = writer.done
        _check_bad(source, done, items.count, request.allow_bad, writer.partial / cache.JOURNAL)
        kept = np.delete(np.arange(items.count), [item for item, _, _ in done.bad])
        notes = items.annotate(kept)
        skipped = [*items.skipped, *((name, reason) for _, name, reason in done.bad)]
        writer.finish(
            {
                **description,
                "items": items.count,
                "skipped": skipped,
                "decoder": decoder,
                "label_names": notes.label_names,
                "factor_names": notes.factor_names,
            },
            notes.labels,
            notes.factors,
        )
    return time.monotonic() - began


def _too_many(bad: int, count: int) -> bool:
    return bad > BAD_ALLOWED * count


def _check_bad(
    source: Source, done: cache.Done, count: int, allow_bad: bool, journal: Path
) -> None:
    bad = [(name, reason) for _, name, reason in done.bad]
    if bad and done.rows == 0:
        raise UserError(
            f"{source.where}: none of its {count} {source.what} is usable: {_shown(bad)}"
        )
    if _too_many(len(bad), count) and not allow_bad:
        raise _too_many_bad(source, bad, len(bad), count, journal)


def _check_found(source: Source, found: Ingested, allow_bad: bool) -> None:
    """A cache that was made with --allow-bad is for those who say so again."""
    manifest = found.manifest
    count, bad = manifest["items"], manifest["items"] - manifest["shape"][0]
    if _too_many(bad, count) and not allow_bad:
        listed = manifest["skipped"][-bad:]  # after folders that could not be read
        raise _too_many_bad(source, listed, bad, count, found.folder / cache.MANIFEST)


def _too_many_bad(
    source: Source, listed: Sequence[Sequence[str]], bad: int, count: int, file: Path
) -> UserError:
    return UserError(
        f"{source.where}: {bad} of its {count} {source.what} are unusable, more than "
        f"{BAD_ALLOWED:.0%}; repair or remove them, or leave them out with --allow-bad; "
        f"{file} lists them all: {_shown(listed)}"
    )


def _shown(listed: Sequence[Sequence[str]]) -> str:
    named = [f"{name!r} ({reason})" for name, reason in listed[:NAMED_IN_ERROR]]
    return ", ".join(named) + (", ..." if len(listed) > NAMED_IN_ERROR else "")


def _check_space(folder: Path, rows: int, shape: tuple[int, int, int]) -> None:
    needed, free = rows * int(np.prod(shape)), cache.free_bytes(folder)
    if needed > free:
        raise OSError(
            None, f"it has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB are needed"
        )


class _Progress:
    """A bar on a terminal; elsewhere a line now and then, with the time left."""

    def __init__(self, description: str, total: int, enabled: bool) -> None:
        self._bar = ProgressBar(description, enabled)
        self._bar.total = total
        self._description, self._total, self._enabled = description, total, enabled
        self._done = self._began_at = 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> _Progress:
        self._bar.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.__exit__(*exception)

    def start_at(self, done: int) -> None:
        self._done = self._began_at = done
        self._bar.update(done)

    def update(self, items: int) -> None:
        self._done += items
        self._bar.update(items)
        now = time.monotonic()
        if self._enabled and not self._bar.shown and now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            rate = (self._done - self._began_at) / (now - self._began)
            left = (self._total - self._done) / rate
            _say(
                f"{self._description}: {self._done:,} of {self._total:,}, {rate:,.0f} a second, "
                f"{left:.0f} s left"
            )


def _say(line: str) -> None:
    print(f"fastinfogan: {line}", file=sys.stderr, flush=True)
