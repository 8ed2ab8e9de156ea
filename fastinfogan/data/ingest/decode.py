"""Encoded files to blocks of rows, in order and in bounded memory, by DALI or by Pillow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal

from fastinfogan.cores import usable_cores
from fastinfogan.data.ingest import dali, pillow
from fastinfogan.data.ingest.dali_blocks import dali_blocks
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.result import attempt, block_of
from fastinfogan.data.ingest.source import DecodedBlock
from fastinfogan.tell import Tell, on_stderr

Decoder = Literal["dali-gpu", "dali", "pillow"]

FILES_PER_TASK, TASKS_AHEAD = 64, 16  # Pillow's
# So many decoded 1.7 times as many JPEGs of CelebA's size a second as the H200 beside them.
ENOUGH_CORES = 16


def pick_decoder(tell: Tell) -> Decoder:
    """DALI on a GPU, DALI on the CPU or Pillow: the first that is there.

    Beside ``ENOUGH_CORES`` the GPU isn't asked.

    Args:
        tell: gets a line if DALI is installed and doesn't work.
    """
    if not dali.available():
        return "pillow"
    if (reason := dali.broken()) is not None:
        tell(f"DALI is installed but does not import ({reason}); Pillow decodes")
        return "pillow"
    import torch

    few = usable_cores() < ENOUGH_CORES
    return "dali-gpu" if few and torch.cuda.is_available() else "dali"


def decode_blocks(
    files: EncodedFiles,
    preprocess: Preprocess,
    start: int,
    decoder: Decoder,
    tell: Tell = on_stderr,
    threads: int | None = None,
    gpu: int = 0,
) -> Iterator[DecodedBlock]:
    """Decode every file from number ``start`` on, in the order of the files.

    Args:
        files: the encoded files.
        preprocess: what is made of each.
        start: number of the first one.
        decoder: what decodes them.
        tell: gets a line where DALI gives up and Pillow takes over.
        threads: how many decode on the CPU; None: as many as there are cores.
        gpu: the one that decodes, where one does.
    """
    threads = usable_cores() if threads is None else threads
    with pillow.silent(), ThreadPoolExecutor(threads) as pool:
        try:
            if decoder == "pillow":
                yield from _pillow_blocks(files, preprocess, start, pool)
            else:
                device = gpu if decoder == "dali-gpu" else None
                yield from dali_blocks(files, preprocess, start, pool, threads, device, tell)
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, do not decode the rest first


def _pillow_blocks(
    files: EncodedFiles, preprocess: Preprocess, start: int, pool: ThreadPoolExecutor
) -> Iterator[DecodedBlock]:
    def work(first: int) -> DecodedBlock:
        items = range(first, min(first + FILES_PER_TASK, len(files.names)))
        results = [attempt(files, preprocess, item) for item in items]
        return block_of(files, preprocess, items.start, results)

    tasks = (pool.submit(work, first) for first in range(start, len(files.names), FILES_PER_TASK))
    pending = deque(islice(tasks, TASKS_AHEAD))
    while pending:
        yield pending.popleft().result()
        pending.extend(islice(tasks, 1))
