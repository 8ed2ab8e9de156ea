"""Datasets as images in memory: the names that the rest of the package uses."""

from fastinfogan.data.dataset import Dataset
from fastinfogan.data.images import ImageData, Split
from fastinfogan.data.registry import (
    DATASETS,
    dataset_status,
    find_dataset,
    load_images,
    make_request,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageData",
    "Split",
    "dataset_status",
    "find_dataset",
    "load_images",
    "make_request",
]
