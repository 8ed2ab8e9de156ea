"""Which files below a folder are images, and what else was met there."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastinfogan.data.data_dir import require_directory
from fastinfogan.data.ingest.formats import (
    EXPECTED,
    hint,
    is_picture,
    readable,
    readable_by_content,
    suffix_of,
)
from fastinfogan.errors import why
from fastinfogan.sizes import counted

Entry = tuple[str, int, int]  # relative path with "/", bytes, mtime in ns

# What file servers and systems keep beside pictures: thumbnails, other streams, deleted files.
_SYSTEM_FOLDERS = frozenset(
    {
        "@eadir", "@tmp", "#recycle", "#snapshot", "@sharesnap",  # Synology
        "@__thumb", "@recycle", "@recently-snapshot",  # QNAP
        "__macosx", "network trash folder", "temporary items",  # macOS
        "$recycle.bin", "recycler", "system volume information", "_vti_cnf",  # Windows
        "lost+found",
    }
)  # fmt: skip
_SYSTEM_FILES = ("synophoto_", "synoindex_")
SUFFIXES_SHOWN = 12


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        entries: the image files, sorted by path. One that can't be looked at has -1 bytes.
        unreadable: (path, reason) of folders.
        others: how many other files there are of each suffix ("": without one).
        hidden: how many names of images begin with a dot.
        system: what file servers and systems keep for themselves, by name, and how often.
        linked: how many links lead to a folder that is read anyway.
    """

    entries: list[Entry]
    unreadable: list[tuple[str, str]]
    others: Counter[str]
    hidden: int
    system: Counter[str]
    linked: int

    def left_alone(self) -> tuple[str, ...]:
        """What isn't among the images, in a line for the user, or none."""
        parts = [*_by_suffix(self.others)]
        if self.hidden:
            parts.append(f"{self.hidden:,} whose names begin with a dot")
        if self.linked:
            parts.append(f"{counted(self.linked, 'link')} to folders that are read anyway")
        if self.system:
            named = (f"{count:,} {name!r}" for name, count in sorted(self.system.items()))
            parts.append(f"what systems and file servers keep for themselves ({', '.join(named)})")
        return (f"not read as images: {', '.join(parts)}",) if parts else ()

    def unread_pictures(self) -> str:
        """The pictures among the other files, by suffix; "" if there are none."""
        found = {name: count for name, count in self.others.items() if is_picture(name)}
        return ", ".join(_by_suffix(found))


def is_system(name: str) -> bool:
    """Whether a file or folder is a system's or a file server's own, by its name."""
    lower = name.lower()
    return lower in _SYSTEM_FOLDERS or lower.startswith(_SYSTEM_FILES)


def is_own(path: str) -> bool:
    """Whether a path in an archive is the user's: nothing in it is hidden or a system's."""
    parts = path.replace("\\", "/").split("/")
    return not any(is_system(part) or (part[:1] == "." and part.strip(".")) for part in parts)


def list_images(root: Path) -> Listing:
    """List the image files below ``root``.

    Names that begin with a dot are left alone, and so is what file servers keep beside pictures.
    Links are followed, but each folder is read once, so that loops end.

    Raises:
        UserError: ``root`` isn't a directory with something in it.
    """
    require_directory(root, EXPECTED)
    found = Listing([], [], Counter(), 0, Counter(), 0)
    hidden = linked = 0
    seen = {os.path.realpath(root)}
    todo = [("", os.fspath(root))]
    while todo:
        prefix, folder = todo.pop()
        try:
            content = list(os.scandir(folder))
        except OSError as error:
            found.unreadable.append((folder, f"folder cannot be read: {why(error)}"))
            continue
        subfolders = []
        for entry in content:  # kept lean: there may be hundreds of thousands
            name = entry.name
            suffix = suffix_of(name)
            image = readable(suffix) or readable_by_content(suffix, entry.path)
            if name[0] == ".":
                hidden += image
                continue
            if is_system(name):
                found.system[name if is_folder(entry) else f"{name.split('_')[0]}_*"] += 1
                continue
            if image:
                try:
                    state = entry.stat()
                except OSError:  # a broken link; reading it will say so
                    found.entries.append((prefix + name, -1, 0))
                    continue
                if not stat.S_ISDIR(state.st_mode):
                    found.entries.append((prefix + name, state.st_size, state.st_mtime_ns))
                    continue
            if is_folder(entry):
                subfolders.append((name, entry.path))
            else:
                found.others[suffix] += 1
        for name, path in sorted(subfolders):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                todo.append((f"{prefix}{name}/", path))
            else:
                linked += 1
    found.entries.sort()
    return found._replace(hidden=hidden, linked=linked)


def _by_suffix(others: Counter[str] | dict[str, int]) -> Sequence[str]:
    """ "12 .heic", most frequent first; the last stands for all that aren't shown."""
    ordered = sorted(others.items(), key=lambda pair: (-pair[1], not pair[0], pair[0]))
    parts = []
    for suffix, count in ordered[:SUFFIXES_SHOWN]:
        how = f" ({hint(suffix)})" if hint(suffix) else ""
        parts.append(f"{count:,} {f'.{suffix}' if suffix else 'without a suffix'}{how}")
    if len(ordered) > SUFFIXES_SHOWN:
        rest = sum(count for _, count in ordered[SUFFIXES_SHOWN:])
        parts.append(f"{rest:,} with other suffixes")
    return parts


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
