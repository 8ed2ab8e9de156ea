"""``datasets`` and ``ingest``: the commands about images to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from fastinfogan.config import unset_as
from fastinfogan.printable import entry, printable


@dataclass(frozen=True)
class Datasets:
    """List the datasets: what is there, and what each needs."""

    data_dir: Annotated[Optional[Path], unset_as("DIR", "none")] = None
    """Folder to look for files in."""

    def __call__(self) -> int:
        from fastinfogan.data import DATASETS, dataset_status

        for name, dataset in DATASETS.items():
            ready, detail = dataset_status(name, self.data_dir)
            lacks = "downloads" if dataset.downloads and self.data_dir is None else "needs files"
            head = f"{name:<16} {'ready' if ready else lacks:<11} "
            print(*entry(head, [dataset.summary, printable(detail)]), sep="\n")
        return 0


@dataclass(frozen=True)
class Ingest:
    """Decode a dataset once to what training reads (train does it, too, when it has to)."""

    dataset: str = "folder"
    """Name of a dataset; `fastinfogan datasets` lists them."""
    data_dir: Annotated[Optional[Path], unset_as("DIR", "none")] = None
    """Folder that holds the dataset's files."""
    image_size: Annotated[Optional[int], unset_as("PIXELS", "32")] = None
    """folder only: side of the square images; 16, 28, 32, 64 or 128."""
    channels: Annotated[Optional[int], unset_as("1|3", "3")] = None
    """folder only: 1 for grey, 3 for colour."""
    allow_bad: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out files that can't be read, however many (a few, or 1 %, need no flag)."""
    stretch: Annotated[Optional[int], unset_as("BITS", "16")] = None
    """folder and faces: bits that grey images of 16 bits really use, as scans do; often 12."""

    def __call__(self) -> int:
        from fastinfogan.data import find_dataset, make_request
        from fastinfogan.data.ingest.make import describe, ingest

        dataset = find_dataset(self.dataset)
        if dataset.source is None:
            print(f"{dataset.name}: nothing to ingest; its images are read as they are")
            return 0
        for split in ("train", "test") if dataset.has_test_split else ("train",):
            request = make_request(
                dataset, self.data_dir, split, self.image_size, self.channels,
                allow_bad=self.allow_bad, stretch=self.stretch,
            )  # fmt: skip
            source = dataset.source(request)
            print(describe(ingest(source, request)))
            if source.split == "all":  # of which the other split would be the same
                break
        return 0
