"""Ingest: decode a source once into a cache of uint8 rows, and find it there from then on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinfogan.cores import usable_cores
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.fetch import cache_directory, unusable
from fastinfogan.data.images import ImageData
from fastinfogan.data.ingest import cache, notes
from fastinfogan.data.ingest.bad_files import check_bad, too_many
from fastinfogan.data.ingest.decode import Decoder, decode_blocks, pick_decoder
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.progress import ProgressReport
from fastinfogan.errors import UserError
from fastinfogan.files import free_bytes
from fastinfogan.printable import printable
from fastinfogan.sizes import counted, too_little

NAMED_IN_SUMMARY, NAMES_SHOWN = 20, 12
GOES_ON = "what is ingested so far is kept, and the same command goes on from there"


class NoRoom(UserError):
    """The decoded images would not fit the cache's disk."""


class Ingested(NamedTuple):
    """A cache that was found or made.

    Attributes:
        data: the images, mapped into memory.
        folder: the cache.
        manifest: what it says of itself.
        seconds: that making it took; None: it was there.
        notes: what the user should know of the images, in lines.
    """

    data: ImageData
    folder: Path
    manifest: dict[str, Any]
    seconds: float | None
    notes: tuple[str, ...] = ()


def ingest(source: Source, request: LoadRequest, decoder: Decoder | None = None) -> Ingested:
    """Find the source's cache or make it; either way every byte is compared with what was written.

    Args:
        source: what to ingest.
        request: whether to show progress, what to do with bad files, whom to tell.
        decoder: what decodes encoded files; None: what ``pick_decoder`` finds.

    Raises:
        NoRoom: the cache's disk is too small.
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
        found = _find(folder, source)
        if isinstance(found, Ingested):
            return _checked(source, found, request.allow_bad)
        with cache.locked(folder, tell):
            found = _find(folder, source)  # another process may just have made it
            if isinstance(found, Ingested):
                return _checked(source, found, request.allow_bad)
            if found is not None:
                tell(f"the cache {folder} {found}; making it again")
                shutil.rmtree(folder)
            decoder = pick_decoder(tell) if decoder is None else decoder
            try:
                seconds = _make(source, description, folder, request, decoder)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(GOES_ON) from None
        found = _find(folder, source)
    except OSError as error:
        raise unusable(folder.parent, error) from None
    if not isinstance(found, Ingested):
        raise UserError(f"the cache {folder} {found}, just after it was written: check the disk")
    return _noted(source, found)._replace(seconds=seconds)


def describe(ingested: Ingested) -> str:
    """What there is, where, and which files are not in it: lines for the user."""
    manifest, seconds = ingested.manifest, ingested.seconds
    count, *shape = manifest["shape"]
    how = "found" if seconds is None else f"ingested in {seconds:.1f} s"
    if seconds is not None and manifest["preprocessing"]:  # else there was nothing to decode
        how += f" ({manifest['decoder']})"
    lines = [
        f"{manifest['dataset']}, {manifest['split']}: {counted(count, 'image')} of "
        f"{'x'.join(map(str, shape))}, {how}",
        f"  {ingested.folder}",
        *(f"  {note}" for note in ingested.notes),
    ]
    skipped = manifest["skipped"]
    if skipped:
        lines.append(f"  {len(skipped):,} left out, all listed in {cache.MANIFEST}:")
        lines += [f"    {name!r}: {reason}" for name, reason in skipped[:NAMED_IN_SUMMARY]]
        if len(skipped) > NAMED_IN_SUMMARY:
            lines.append("    ...")
    return "\n".join(map(printable, lines))


def _find(folder: Path, source: Source) -> Ingested | str | None:
    """The cache, what is wrong with it, or None where there is none."""
    try:
        manifest = cache.read_manifest(folder)
        if manifest["shape"][0] == 0:
            return "holds no image"
        data = cache.open_cache(folder, manifest, usable_cores(), source.factors)
    except FileNotFoundError:
        return "has no manifest" if folder.exists() else None
    except cache.Damaged as error:
        return str(error)
    return Ingested(data, folder, manifest, None)


def _checked(source: Source, found: Ingested, allow_bad: bool) -> Ingested:
    """A cache that was there; one made with --allow-bad is refused to a request without."""
    manifest, skipped = found.manifest, found.manifest["skipped"]
    count = manifest["items"]
    bad = skipped[len(skipped) - (count - manifest["shape"][0]) :]  # after what isn't an item
    # Older caches don't say how many images both splits have.
    of = manifest.get("items_of_all_splits")
    check_bad(source, bad, count, of, allow_bad, found.folder / cache.MANIFEST)
    return _noted(source, found)


def _noted(source: Source, found: Ingested) -> Ingested:
    manifest = found.manifest  # older ones have no notes of either kind
    of_images = notes.lines(manifest.get("notes", {}), manifest["shape"][1])
    of_source = manifest.get("source_notes", ())
    lines = (*source.notes, *of_source, *of_images, *_labels_note(manifest))
    return found._replace(data=replace(found.data, notes=lines), notes=lines)


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
    if items.count == 0:
        raise UserError(f"{source.where} holds no {source.what} at all")
    header = {**description, "count": items.count, "decoder": decoder}
    with cache.Writer(folder, header, source.shape) as writer:
        failed_before = writer.done.items == items.count and (
            too_many(len(writer.done.bad), items.count, items.of)
        )
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
                    writer.append(block.items, block.rows, block.bad, block.notes)
                    progress.update(block.items)
        done = writer.done
        bad = [(name, reason) for _, name, reason in done.bad]
        journal = writer.partial / cache.JOURNAL
        check_bad(source, bad, items.count, items.of, request.allow_bad, journal)
        kept = np.delete(np.arange(items.count), [item for item, _, _ in done.bad])
        known = items.annotate(kept)
        writer.finish(
            {
                **description,
                "items": items.count,
                "items_of_all_splits": items.of,
                "skipped": [*items.skipped, *bad],
                "source_notes": list(items.notes),
                "decoder": decoder,
                "label_names": known.label_names,
                "factor_names": known.factor_names,
                "no_labels": known.no_labels,
            },
            known.labels,
            known.factors,
        )
    return time.monotonic() - began


def _labels_note(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What the labels and factors are, or why there are none, in lines for the user."""
    lines = [
        f"{len(names)} {what}: {', '.join(names[:NAMES_SHOWN])}"
        + (", ..." if len(names) > NAMES_SHOWN else "")
        for what, names in (
            ("labels", manifest["label_names"]), ("factors", manifest["factor_names"]),
        )
        if names is not None
    ]  # fmt: skip
    reason = manifest.get("no_labels")  # not in older caches
    return tuple(lines) if reason is None else (*lines, f"no labels: {reason}")


def _check_space(folder: Path, rows: int, shape: tuple[int, int, int]) -> None:
    needed, free = rows * int(np.prod(shape)), free_bytes(folder)
    if free is not None and needed > free:
        reason = OSError(None, f"it has {too_little(free, needed)}")
        raise NoRoom(str(unusable(folder.parent, reason)))
