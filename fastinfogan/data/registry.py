"""The registry of datasets, name to source; a new dataset is one file and one entry here."""

from __future__ import annotations

import typing
from pathlib import Path

from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import FeedName, ImageData, Split
from fastinfogan.data.ingest.make import NoRoom, ingest
from fastinfogan.data.ingest.sample import ingest_sample
from fastinfogan.data.sources.celeba import CELEBA
from fastinfogan.data.sources.chairs import CHAIRS
from fastinfogan.data.sources.digits import DIGITS
from fastinfogan.data.sources.dsprites import DSPRITES
from fastinfogan.data.sources.faces import FACES
from fastinfogan.data.sources.folder import FOLDER
from fastinfogan.data.sources.idx import FASHION_MNIST, MNIST
from fastinfogan.data.sources.rendered_chairs import RENDERED_CHAIRS
from fastinfogan.data.sources.rendered_faces import RENDERED_FACES
from fastinfogan.data.sources.sprites import SPRITES
from fastinfogan.data.sources.svhn import SVHN
from fastinfogan.data.sources.webdataset import WEBDATASET
from fastinfogan.errors import UserError, one_line
from fastinfogan.paths import expanded
from fastinfogan.similar import meant
from fastinfogan.tell import Tell, on_stderr

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        DIGITS, MNIST, FASHION_MNIST, SPRITES, RENDERED_FACES, RENDERED_CHAIRS, SVHN, CELEBA,
        FACES, CHAIRS, DSPRITES, FOLDER, WEBDATASET,
    )
}  # fmt: skip
_ALSO_CALLED = {
    "fmnist": "fashion-mnist", "fashion": "fashion-mnist", "shapes": "sprites",
    "basel": "faces", "bfm": "faces", "3dfaces": "faces", "3dchairs": "chairs",
    **dict.fromkeys(("wds", "tar", "shards", "tars"), "webdataset"),
    **dict.fromkeys(
        (
            "imagefolder", "image", "images", "photos", "custom", "dir", "directory", "path", "own",
            "cifar10", "cifar100", "cifar", "imagenet", "ffhq", "lsun", "stl10", "celebahq",
        ),
        "folder",
    ),
}  # fmt: skip


def load_images(
    name: str,
    data_dir: Path | None = None,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    progress: bool = True,
    allow_bad: bool = False,
    tell: Tell = on_stderr,
    stretch: int | None = None,
    feed: FeedName = "auto",
) -> ImageData:
    """Load one split of the dataset ``name``, ingesting it first if that was not done yet.

    Args:
        name: the registry's.
        data_dir: the folder with the dataset's files, where it needs one.
        split: "train" or "test".
        image_size: pixels a side; None: the dataset's own. Only datasets without a fixed shape
            (``folder``) or with several (``sprites``) take other values.
        channels: 1 or 3; None: likewise.
        progress: show a bar when it takes more than a second and standard error is a terminal.
        allow_bad: leave out unusable files, however many; otherwise more than ``ingest.bad_files``
            allows are an error.
        tell: gets each line that the user should see.
        stretch: bits that grey values of 16 bits really use (scans: often 12); None: all.
        feed: what they are loaded for. "encoded": only a sample is decoded, and the result's
            ``encoded`` has all; so has that of "auto" where the decoded images would not fit the
            cache's disk.

    Raises:
        UserError: the files can't be found, fetched or used, or something asked for can't be had.
    """
    dataset = find_dataset(name)
    request = make_request(
        dataset, data_dir, split, image_size, channels, progress, allow_bad, tell, stretch
    )
    if dataset.source is None:
        if feed == "encoded":
            raise UserError(
                f"--feed encoded: --dataset {name} has no image files to decode; --feed auto works"
            )
        return dataset.load(request)
    source = dataset.source(request)
    if feed == "encoded":
        return ingest_sample(source, request)
    try:
        return ingest(source, request).data
    except NoRoom as no_room:
        if feed != "auto":
            raise
        tell(f"{one_line(no_room)}; until then images are decoded while training (--feed encoded)")
        return ingest_sample(source, request)


def make_request(
    dataset: Dataset,
    data_dir: Path | None = None,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    progress: bool = True,
    allow_bad: bool = False,
    tell: Tell = on_stderr,
    stretch: int | None = None,
) -> LoadRequest:
    """A checked request to a dataset.

    Args:
        dataset: the registry's entry.
        data_dir, split, image_size, channels, progress, allow_bad, tell, stretch: as for
            ``load_images``.

    Raises:
        UserError: an unknown split, or a shape that the dataset hasn't got.
    """
    if split not in typing.get_args(Split):
        raise UserError(f"--split {split!r} is unknown; choose one of train, test")
    dataset.check_shape(image_size, channels)
    dataset.check_stretch(stretch)
    data_dir = None if data_dir is None else expanded(data_dir)
    return LoadRequest(data_dir, split, image_size, channels, progress, allow_bad, tell, stretch)


def dataset_status(name: str, data_dir: Path | None = None) -> tuple[bool, str]:
    """(ready to load without a download, one line: what is there or what it needs)."""
    dataset = find_dataset(name)
    try:
        return dataset.status(None if data_dir is None else expanded(data_dir))
    except (OSError, UserError) as error:  # no home for the cache; a folder that can't be read
        return False, one_line(error)


def find_dataset(name: str) -> Dataset:
    """The registry's entry.

    Raises:
        UserError: the name is not in it.
    """
    if name in DATASETS:
        return DATASETS[name]
    close = meant(name, DATASETS, _ALSO_CALLED)
    hint = "" if close is None else f" (did you mean {close!r}?)"
    if close == "folder":
        hint = " (did you mean 'folder'? it takes any folder of images)"
    raise UserError(
        f"--dataset {name!r} is unknown; choose one of {', '.join(sorted(DATASETS))}{hint}"
    )
