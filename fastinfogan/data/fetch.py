"""Fetch checksummed files from mirrors into the user's cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastinfogan.data.progress import ProgressBar
from fastinfogan.errors import UserError, one_line, why
from fastinfogan.lock import exclusive
from fastinfogan.paths import expanded
from fastinfogan.tell import on_stderr

CACHE_VARIABLE = "FASTINFOGAN_CACHE"
# Seconds to connect, and between two pieces of an answer: a dead mirror must not hold up the next.
TIMEOUT = 10
CHUNK_BYTES = 1 << 16


def cache_directory(dataset: str) -> Path:
    """Where the files of ``dataset`` are kept: $FASTINFOGAN_CACHE or the system's cache folder.

    Raises:
        UserError: the folder lies in a home folder, and none is known.
    """
    import pooch

    try:
        folder = os.environ.get(CACHE_VARIABLE) or pooch.os_cache("fastinfogan")
        # Without a home, pooch raises, or names a folder that begins with ~.
        return expanded(folder).absolute() / dataset
    except (RuntimeError, UserError) as error:
        raise UserError(
            f"{CACHE_VARIABLE}: {one_line(error)}; set {CACHE_VARIABLE} to a folder you can write"
        ) from None


def fetch(dataset: str, mirrors: Sequence[str], md5: Mapping[str, str], progress: bool) -> Path:
    """Return the cache folder that holds every file in ``md5``, fetching what is not there yet.

    Args:
        dataset: names the folder.
        mirrors: base URLs that end in "/", tried in order; the next one takes over when one fails,
            whether it does not answer, lacks a file or serves one with another checksum.
        md5: file name -> hex digest. A cached file with another digest is fetched again.
        progress: show a bar when it takes more than a second and standard error is a terminal.

    Raises:
        UserError: every mirror failed, and how; or the cache folder can't be used.
    """
    import pooch
    import requests

    # pooch announces each file and its hash on standard error; the bar says what matters.
    pooch.get_logger().setLevel("WARNING")
    folder = cache_directory(dataset)
    failures = []
    with _ours(folder, md5), ProgressBar(dataset, progress, in_bytes=True) as bar:
        downloader = pooch.HTTPDownloader(
            progressbar=bar if progress else False, chunk_size=CHUNK_BYTES, timeout=TIMEOUT
        )
        for mirror in mirrors:
            try:
                for name, digest in md5.items():
                    bar.describe(f"{dataset}: {name}")
                    pooch.retrieve(
                        mirror + name, f"md5:{digest}", name, folder, downloader=downloader
                    )
                return folder
            # ValueError: pooch's checksum error, which names the file and both digests.
            except (requests.HTTPError, ValueError) as error:
                failures.append(f"{mirror} ({one_line(error)})")
            # The text of the other network errors is a page long; their names say it all.
            except requests.RequestException as error:
                failures.append(f"{mirror} ({type(error).__name__} for {name})")
            except OSError as error:
                raise unusable(folder, error) from None
    raise UserError(
        f"--dataset {dataset} could not be downloaded from {' or '.join(failures)}; "
        f"put its files {', '.join(md5)} in a folder and pass it as --data-dir"
    )


@contextlib.contextmanager
def _ours(folder: Path, md5: Mapping[str, str]) -> Iterator[None]:
    """Let one process at a time fetch what isn't there; what a killed one left goes."""
    with contextlib.ExitStack() as stack:
        if not all((folder / name).exists() for name in md5):
            waiting = f"another process is fetching files to {folder}; waiting for it"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = folder.with_name(f".{folder.name}.lock")
                stack.enter_context(exclusive(lock, on_stderr, waiting))
                for left in folder.glob("tmp*"):  # as pooch names what it is fetching
                    left.unlink()
            except OSError as error:
                raise unusable(folder, error) from None
        yield


def unusable(folder: Path, error: OSError) -> UserError:
    """What to tell the user when the file system refuses something in a cache folder."""
    return UserError(
        f"{CACHE_VARIABLE}: the cache folder {str(folder)!r} cannot be used ({why(error)}); free "
        f"space, or set {CACHE_VARIABLE} to a folder that you can write to"
    )
