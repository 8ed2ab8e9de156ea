"""Files of others, mutated: read or refused in one line; what has a checksum can tell."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from generator_files import exported
from idx_files import NAMES, write_four
from image_files import encode, photo
from ingesting import load as load_folder
from mutations import LEFT_OUT, survives

from fastinfogan.data import load_images
from fastinfogan.data.sources.dsprites import FILE
from fastinfogan.results.generator_file import load_generator

SHORT, LONG = 4, 60  # mutations of each kind of file


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes a set of files to a folder; returns the one to mutate, and how the set is read.
        tells: the file has a checksum: read, it is what it was.
    """

    make: Callable[[Path], tuple[Path, Callable[[], str]]]
    tells: bool = False


def digest(images: np.ndarray, *others: object) -> str:
    text = f"{images.shape} {others}".encode()
    return hashlib.sha256(text + images.tobytes()).hexdigest()


def dataset(name: str, folder: Path, path: Path, split: str = "train"):
    def read() -> str:
        data = load_images(name, folder, split, allow_bad=True, tell=lambda line: None)
        factors = None if data.factors is None else data.factors.tolist()
        labels = None if data.labels is None else data.labels.tolist()
        return digest(data.images, labels, factors)

    return path, read


def idx(which: int, suffix: str):
    def make(folder: Path):
        write_four(folder, count=20, suffix=suffix)
        return dataset("mnist", folder, folder / f"{NAMES[which]}{suffix}")

    return make


def dsprites(save: Callable[..., None]):
    def make(folder: Path):
        draw = np.random.default_rng(0)
        save(
            folder / FILE, imgs=draw.integers(0, 2, (20, 64, 64), np.uint8),
            latents_classes=draw.integers(0, 9, (20, 6)),
        )  # fmt: skip
        return dataset("dsprites", folder, folder / FILE)

    return make


def svhn(compressed: bool):
    def make(folder: Path):
        from scipy.io import savemat

        images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 9), np.uint8)
        path = folder / "train_32x32.mat"
        savemat(path, {"X": images, "y": np.arange(1, 10)[:, None]}, do_compression=compressed)
        return dataset("svhn", folder, path)

    return make


def celeba_zip(folder: Path):
    path = folder / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"img_align_celeba/{number:06}.jpg", encode(photo(number, 60, 60)))
    return dataset("celeba", folder, path)


def celeba_list(name: str, split: str = "train"):
    def make(folder: Path):
        (folder / "img_align_celeba").mkdir()
        names = [f"{number:06}.jpg" for number in range(8)]
        for number, file in enumerate(names):
            (folder / "img_align_celeba" / file).write_bytes(encode(photo(number, 40, 40)))
        lines = [f"{file} {number // 3}\n" for number, file in enumerate(names)]
        (folder / "list_eval_partition.txt").write_text("".join(lines))
        rows = "".join(f"{file}  1 -1\n" for file in names)
        (folder / "list_attr_celeba.txt").write_text(f"8\nBald Young\n{rows}")
        return dataset("celeba", folder, folder / name, split)

    return make


def chairs(ending: str):
    def make(folder: Path):
        path = folder / f"rendered_chairs{ending}"
        with tarfile.open(path, f"w:{ending.partition('.tar.')[2]}") as archive:
            for number in range(6):
                data = encode(photo(number, 60, 60), "PNG")
                name = f"rendered_chairs/m/renders/image_{number}_p020_t{number:03}_r096.png"
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return dataset("chairs", folder, path)

    return make


def images(form: str, mode: str = "RGB", **options):
    def make(folder: Path):
        picture = photo(1, 40, 40)
        if mode == "I;16":
            from PIL import Image

            wide = np.asarray(picture.convert("L")).astype(np.uint16) * 257
            picture = Image.fromarray(wide)
        else:
            picture = picture.convert(mode)
        path = folder / f"a.{form.lower()}"
        path.write_bytes(encode(picture, form, **options))
        (folder / "b.png").write_bytes(encode(photo(2, 40, 40), "PNG"))

        def read() -> str:
            found = load_folder(folder, allow_bad=True)
            count = len(found.data) + len(found.manifest["skipped"])
            assert count == 2  # read or listed
            return LEFT_OUT if len(found.data) == 1 else digest(found.data.images)

        return path, read

    return make


def generator(folder: Path):
    path, _, _ = exported(folder, "mnist-mlp", code_to_label={"c1_cat10": [*"0123456789"]})

    def read() -> str:
        loaded = load_generator(path)
        return digest(loaded.sample(2), loaded.code_to_label, loaded.config)

    return path, read


def cache(name: str):
    def make(folder: Path):
        for number in range(6):
            path = folder / "images" / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(photo(number, 20, 20), "PNG"))
        made = load_folder(folder / "images")

        def read() -> str:
            found = load_folder(folder / "images")
            return digest(found.data.images, found.data.labels.tolist(), found.manifest["shape"])

        return made.folder / name, read

    return make


KINDS = {
    "idx images": Kind(idx(0, "")),
    "idx labels": Kind(idx(1, "")),
    "idx images, gzipped": Kind(idx(0, ".gz"), tells=True),
    "idx labels, gzipped": Kind(idx(1, ".gz"), tells=True),
    "npz": Kind(dsprites(np.savez), tells=True),
    "npz, compressed": Kind(dsprites(np.savez_compressed), tells=True),
    "mat": Kind(svhn(False)),
    "mat, compressed": Kind(svhn(True)),
    "zip": Kind(celeba_zip),
    "celeba's attributes": Kind(celeba_list("list_attr_celeba.txt")),
    "celeba's partition": Kind(celeba_list("list_eval_partition.txt")),
    "celeba's partition, test": Kind(celeba_list("list_eval_partition.txt", "test")),
    "tar": Kind(chairs(".tar")),
    "tar.gz": Kind(chairs(".tar.gz"), tells=True),
    "tar.bz2": Kind(chairs(".tar.bz2"), tells=True),
    "tar.xz": Kind(chairs(".tar.xz"), tells=True),
    "jpeg": Kind(images("JPEG")),
    "jpeg, progressive": Kind(images("JPEG", progressive=True)),
    "jpeg, cmyk": Kind(images("JPEG", "CMYK")),
    "png": Kind(images("PNG"), tells=True),
    "png, palette": Kind(images("PNG", "P"), tells=True),
    "png, alpha": Kind(images("PNG", "RGBA")),
    "png, 16 bits": Kind(images("PNG", "I;16"), tells=True),
    "webp": Kind(images("WEBP")),
    "bmp": Kind(images("BMP")),
    "tiff": Kind(images("TIFF")),
    "tiff, deflated": Kind(images("TIFF", compression="tiff_adobe_deflate")),
    "tiff, LZW, 16 bits": Kind(images("TIFF", "I;16", compression="tiff_lzw")),
    "generator": Kind(generator, tells=True),
    "cache, images": Kind(cache("images.npy"), tells=True),
    "cache, labels": Kind(cache("labels.npy"), tells=True),
    "cache, manifest": Kind(cache("manifest.json"), tells=True),
}


def attack(kind: str, folder: Path, seeds: range) -> None:
    path, read = KINDS[kind].make(folder)
    whole = read()
    outcomes = [survives(path, seed, read, whole if KINDS[kind].tells else None) for seed in seeds]
    assert read() == whole
    print(f"{kind}: {outcomes.count('read')} of {len(outcomes)} read")


@pytest.mark.filterwarnings("ignore")  # of numpy, scipy and Pillow, about damage
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutations_of_every_kind_of_file(tmp_path, own_cache, kind):
    attack(kind, tmp_path, range(SHORT))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutations_of_every_kind_of_file(tmp_path, own_cache, kind):
    attack(kind, tmp_path, range(1000, 1000 + LONG))


def test_a_gzip_with_another_name_in_its_header_is_the_same(tmp_path):
    """What isn't under a checksum doesn't matter."""
    path, read = KINDS["idx images, gzipped"].make(tmp_path)
    whole = read()
    data = gzip.decompress(path.read_bytes())
    with gzip.GzipFile(filename="other", mode="wb", fileobj=open(path, "wb"), mtime=9) as file:
        file.write(data)
    assert read() == whole
