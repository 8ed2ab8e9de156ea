"""Ingest: decode a source once into a cache of uint8 rows, and find it there from then on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.fetch import cache_directory
from fastinfogan.data.images import ImageData
from fastinfogan.data.ingest import cache
from fastinfogan.data.ingest.decode import Decoder, decode_blocks, pick_decoder, thread_count
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.progress import ProgressReport
from fastinfogan.errors import UserError

# Items that may be unusable, as a share of all, before the user has to look at them.
BAD_ALLOWED = 0.01
NAMED_IN_ERROR, NAMED_IN_SUMMARY = 3, 20


class Ingested(NamedTuple):
    """A cache that was found or made.

    Attributes:
        data: the images, mapped into memory.
        folder: the cache.
        manifest: what it says of itself.
        seconds: that making it took; None: it was there.
    """

    data: ImageData
    folder: Path
    manifest: dict[str, Any]
    seconds: float | None


def ingest(source: Source, request: LoadRequest, decoder: Decoder | None = None) -> Ingested:
    """Find the source's cache or make it; either way every byte is compared with what was written.

    Args:
        source: what to ingest.
        request: whether to show progress, what to do with bad files, whom to tell.
        decoder: what decodes encoded files; None: what ``pick_decoder`` finds.

    Raises:
        UserError: files that can't be used, or a cache folder that can't.
    """
    description = {
        "dataset": source.dataset,
        "split": source.split,
        "source": source.identity,
        "preprocessing": dict(source.preprocessing),
    }
    tell = request.tell
    stem = f"{source.dataset}-{source.split}-{cache.cache_key(description)}"
    folder = cache_directory("ingested") / stem
    try:
        found = _find(folder)
        if isinstance(found, Ingested):
            _check_found(source, found, request.allow_bad)
            return found
        with cache.locked(folder, tell):
            found = _find(folder)  # another process may just have made it
            if isinstance(found, Ingested):
                _check_found(source, found, request.allow_bad)
                return found
            if found is not None:
                tell(f"the cache {folder} {found}; making it again")
                shutil.rmtree(folder)
            decoder = pick_decoder(tell) if decoder is None else decoder
            seconds = _make(source, description, folder, request, decoder)
        found = _find(folder)
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


def _find(folder: Path) -> Ingested | str | None:
    """The cache, what is wrong with it, or None where there is none."""
    try:
        manifest = cache.read_manifest(folder)
        data = cache.open_cache(folder, manifest, thread_count())
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
            request.tell(f"going on after {writer.done.items:,} of {items.count:,} {source.what}")
        _check_space(folder, items.count - writer.done.items, source.shape)
        what = f"ingesting {source.dataset}"
        with ProgressReport(what, items.count, request.progress, request.tell) as progress:
            progress.start_at(writer.done.items)
            if writer.done.items < items.count:
                decode = partial(decode_blocks, decoder=decoder, tell=request.tell)
                for block in items.blocks(writer.done.items, decode):
                    writer.append(block.items, block.rows, block.bad)
                    progress.update(block.items)
        done = writer.done
        _check_bad(source, done, items.count, request.allow_bad, writer.partial / cache.JOURNAL)
        kept = np.delete(np.arange(items.count), [item for item, _, _ in done.bad])
        known = items.annotate(kept)
        skipped = [*items.skipped, *((name, reason) for _, name, reason in done.bad)]
        writer.finish(
            {
                **description,
                "items": items.count,
                "skipped": skipped,
                "decoder": decoder,
                "label_names": known.label_names,
                "factor_names": known.factor_names,
            },
            known.labels,
            known.factors,
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
    """Refuse a cache that was made with --allow-bad, unless this request allows it too."""
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
