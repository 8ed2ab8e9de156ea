"""Sources: files in each distributor's exact layout, generated small, become the right images."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tolerances import JPEG_LEVELS
from user_errors import error_of

from fastinfogan.config import DataConfig, TrainConfig, resolve
from fastinfogan.data import DATASETS, dataset_status, load_images
from fastinfogan.data.factors import Factor
from fastinfogan.data.npz import read_array


def encode(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(pixels)).save(buffer, form, quality=95)
    return buffer.getvalue()


# -- celeba --------------------------------------------------------------------------------------

ATTRIBUTES = [f"Attribute_{number}" for number in range(40)]


def celeba_face(number: int) -> bytes:
    """178 x 218: grey 10 x number in the central 128 x 128, and white around it."""
    pixels = np.full((218, 178, 3), 255)
    pixels[45:173, 25:153] = 10 * number
    return encode(pixels, "JPEG")


def write_celeba(root: Path, layout: str, count: int = 9) -> np.ndarray:
    """Images 000001.jpg on, the last two of the test split; returns the attributes, 0 or 1."""
    folders = {"plain": ("", "", ""), "zip": ("Img", "Anno", "Eval")}[layout]
    images, annotations, partition = (root / folder for folder in folders)
    for folder in (images, annotations, partition):
        folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06}.jpg" for number in range(1, count + 1)]
    faces = {name: celeba_face(number) for number, name in enumerate(names, 1)}
    if layout == "plain":
        (images / "img_align_celeba").mkdir()
        for name, data in faces.items():
            (images / "img_align_celeba" / name).write_bytes(data)
    else:
        with zipfile.ZipFile(images / "img_align_celeba.zip", "w") as archive:
            archive.writestr("img_align_celeba/", "")
            for name, data in reversed(faces.items()):
                archive.writestr(f"img_align_celeba/{name}", data)
            archive.writestr("elsewhere/000099.jpg", b"not part of it")
    values = np.random.default_rng(0).integers(0, 2, (count, 40))
    lines = [str(count), " ".join(ATTRIBUTES) + " "]
    lines += [
        f"{name} " + " ".join(f"{2 * value - 1:2d}" for value in row)
        for name, row in zip(names, values, strict=True)
    ]
    (annotations / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    parts = [0] * (count - 3) + [1, 2, 2]
    (partition / "list_eval_partition.txt").write_text(
        "".join(f"{name} {part}\n" for name, part in zip(names, parts, strict=True))
    )
    return values


@pytest.mark.parametrize("layout", ["plain", "zip"])
def test_celeba(tmp_path, layout):
    values = write_celeba(tmp_path, layout)
    train, test = (load_images("celeba", tmp_path, split) for split in ("train", "test"))
    for data, numbers in ((train, range(1, 7)), (test, (8, 9))):
        assert data.images.shape == (len(numbers), 32, 32, 3) and data.labels is None
        inner = data.images[:, 1:-1, 1:-1].reshape(len(numbers), -1)
        np.testing.assert_allclose(inner.mean(1), [10 * n for n in numbers], atol=JPEG_LEVELS)
        assert data.images.max() < 200  # none of the white around the square
        assert data.factor_names == tuple(ATTRIBUTES) and data.factors.dtype == np.int64
        assert {row.kind for row in data.factor_rows} == {"categorical"}
        np.testing.assert_array_equal(data.factors, values[[n - 1 for n in numbers]])
    ready, line = dataset_status("celeba", tmp_path)
    assert ready and "img_align_celeba" in line and "without" not in line


def test_celeba_without_its_lists_is_images_alone(tmp_path):
    write_celeba(tmp_path, "plain")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (tmp_path / name).unlink()
    data = load_images("celeba", tmp_path)
    assert len(data) == 9 and data.factors is None and data.factor_names is None
    inside = load_images("celeba", tmp_path / "img_align_celeba", "test")
    assert inside.fingerprint == data.fingerprint
    assert "without list_attr_celeba.txt and list_eval" in dataset_status("celeba", tmp_path)[1]


@pytest.mark.parametrize("layout", ["plain", "zip"])
def test_celeba_with_a_partition_of_other_images_is_refused(tmp_path, layout):
    write_celeba(tmp_path, layout)
    (partition,) = tmp_path.rglob("list_eval_partition.txt")
    partition.write_text("".join(partition.read_text().splitlines(True)[1:]))
    assert error_of(load_images, "celeba", tmp_path) == (
        f"--data-dir {str(partition.parent)!r}: list_eval_partition.txt has no line for "
        "000001.jpg; fetch it again"
    )


def test_celeba_with_damaged_lists_is_refused(tmp_path):
    write_celeba(tmp_path, "plain")
    partition, attributes = tmp_path / "list_eval_partition.txt", tmp_path / "list_attr_celeba.txt"
    whole = partition.read_text(), attributes.read_text()
    attributes.write_text("\n".join(whole[1].splitlines()[:4]) + "\n")
    assert "list_attr_celeba.txt has no line for 000003.jpg" in error_of(
        load_images, "celeba", tmp_path
    )
    attributes.write_text(whole[1][:-20])
    assert "list_attr_celeba.txt has 3" in error_of(load_images, "celeba", tmp_path)
    partition.write_text(whole[0].replace(" 2", " 0"))
    attributes.write_text(whole[1])
    assert "no image of the test split" in error_of(load_images, "celeba", tmp_path, "test")


# -- svhn ----------------------------------------------------------------------------------------


def write_svhn(root: Path, name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import savemat

    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (32, 32, 3, count), np.uint8)
    labels = random.permutation(np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
    savemat(root / name, {"X": images, "y": labels}, do_compression=True)
    return images.transpose(3, 0, 1, 2), labels[:, 0] % 10


def test_svhn(tmp_path):
    train, digits = write_svhn(tmp_path, "train_32x32.mat", 1030, 0)
    test, _ = write_svhn(tmp_path, "test_32x32.mat", 20, 1)
    data = load_images("svhn", tmp_path)
    np.testing.assert_array_equal(data.images, train)
    np.testing.assert_array_equal(data.labels, digits)
    assert data.label_names == tuple("0123456789") and set(data.labels) == set(range(10))
    np.testing.assert_array_equal(load_images("svhn", tmp_path, "test").images, test)
    extra, more = write_svhn(tmp_path, "extra_32x32.mat", 50, 2)
    both = load_images("svhn", tmp_path)
    np.testing.assert_array_equal(both.images, np.concatenate([train, extra]))
    np.testing.assert_array_equal(both.labels, np.concatenate([digits, more]))
    assert dataset_status("svhn", tmp_path)[0]


def test_damaged_svhn_is_refused(tmp_path):
    from scipy.io import savemat

    write_svhn(tmp_path, "train_32x32.mat", 30, 0)
    path = tmp_path / "train_32x32.mat"
    whole = path.read_bytes()
    start = f"--data-dir {str(tmp_path)!r}: train_32x32.mat "
    path.write_bytes(whole[: len(whole) // 2])
    assert error_of(load_images, "svhn", tmp_path).startswith(start + "cannot be read (")
    path.write_bytes(b"MATLAB")
    assert error_of(load_images, "svhn", tmp_path).startswith(start + "cannot be read (")
    savemat(path, {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": [[1], [2]]})
    assert "holds X of uint8 (28, 28, 3, 2)" in error_of(load_images, "svhn", tmp_path)
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [[1], [11]]})
    assert "not a label from 1 to 10" in error_of(load_images, "svhn", tmp_path)
    path.rename(tmp_path / "train.mat")
    assert "lacks train_32x32.mat" in error_of(load_images, "svhn", tmp_path)


# -- chairs --------------------------------------------------------------------------------------


def chair(model: int, view: int) -> bytes:
    """600 x 600, white with a grey central square of 400."""
    pixels = np.full((600, 600, 3), 255)
    pixels[100:500, 100:500] = 20 * model + view
    return encode(pixels, "PNG")


def write_chairs(root: Path, archived: bool) -> None:
    views = [(20, 11), (20, 348), (30, 11), (30, 348)]  # elevation, azimuth
    files = {
        f"rendered_chairs/{name}/renders/image_{view:03}_p{p:03}_t{t:03}_r096.png": chair(m, view)
        for m, name in enumerate(("b2c8", "1a6f"))
        for view, (p, t) in enumerate(views)
    }
    files["rendered_chairs/all_chair_names.mat"] = b"MATLAB"
    files["rendered_chairs/1a6f/preview.png"] = encode(np.zeros((9, 9)), "PNG")
    if archived:
        with tarfile.open(root / "rendered_chairs.tar", "w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize("archived", [False, True])
def test_chairs(tmp_path, archived):
    write_chairs(tmp_path, archived)
    data = load_images("chairs", tmp_path)
    assert data.images.shape == (8, 64, 64, 1) and data.labels is None
    assert (data.images == data.images[:, :1, :1]).all()  # nothing of the margin
    assert data.images[:, 0, 0, 0].tolist() == [20, 21, 22, 23, 0, 1, 2, 3]  # sorted by path
    assert data.factor_names == ("model", "azimuth", "elevation")
    azimuth, elevation = Factor("azimuth", "cyclic", 360), Factor("elevation", "ordered")
    assert data.factor_rows == (Factor("model"), azimuth, elevation)
    views = [[11, 20], [348, 20], [11, 30], [348, 30]]
    assert data.factors.tolist() == [[model, *view] for model in (0, 1) for view in views]
    assert dataset_status("chairs", tmp_path)[0]
    if not archived:
        assert data.notes[0] == "left out: 1 image of other names"  # preview.png
        inside = load_images("chairs", tmp_path / "rendered_chairs")
        assert inside.fingerprint == data.fingerprint


def test_chairs_remade_on_a_mac(tmp_path, own_cache):
    """Beside each render the archive has what the Mac's file system knew of it."""
    write_chairs(tmp_path, archived=True)
    with tarfile.open(tmp_path / "rendered_chairs.tar", "a") as archive:
        for member in list(archive.getmembers()):
            for folder in ("", "__MACOSX/"):
                path = Path(member.name)
                archive.addfile(tarfile.TarInfo(f"{folder}{path.parent}/._{path.name}"))
    data = load_images("chairs", tmp_path)
    assert len(data) == 8 and data.skipped == ()


def test_chairs_without_renders_are_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    assert "lacks rendered_chairs/ or rendered_chairs.tar, from https://" in error_of(
        load_images, "chairs", tmp_path
    )
    with tarfile.open(tmp_path / "rendered_chairs.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("rendered_chairs/readme.txt"))
    assert "holds no MODEL/renders/*.png" in error_of(load_images, "chairs", tmp_path)


# -- faces, dsprites -----------------------------------------------------------------------------


def test_faces(tmp_path):
    for number in range(5):
        path = tmp_path / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(np.full((50, 40, 3), 50 * number), "PNG"))
    data = load_images("faces", tmp_path)
    assert data.images.shape == (5, 32, 32, 1) and data.labels is None
    assert data.images[:, 9, 9, 0].tolist() == [0, 100, 200, 50, 150]
    assert dataset_status("faces", tmp_path) == (True, f"5 image files in {str(tmp_path)!r}")


DSPRITES_FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


def test_dsprites(tmp_path):
    """The published file's arrays and types, its pickled metadata among them, fewer images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 2, (1100, 64, 64), np.uint8)
    classes = random.integers(0, 32, (1100, 6))
    np.savez_compressed(
        tmp_path / DSPRITES_FILE,
        metadata=np.array({"title": "dSprites"}, object),
        imgs=images,
        latents_classes=classes,
        latents_values=random.random((1100, 6)),
    )
    data = load_images("dsprites", tmp_path)
    np.testing.assert_array_equal(data.images, images[..., None] * 255)
    np.testing.assert_array_equal(data.factors, classes)
    assert data.factor_names == ("color", "shape", "scale", "orientation", "x", "y")
    assert [row.kind for row in data.factor_rows] == [
        "categorical", "categorical", "ordered", "cyclic", "ordered", "ordered",
    ]  # fmt: skip
    assert data.factor_rows[3].period == 39  # the last angle is the first
    assert dataset_status("dsprites", tmp_path)[0]


def test_damaged_dsprites_are_refused(tmp_path):
    path = tmp_path / DSPRITES_FILE
    start = f"--data-dir {str(tmp_path)!r}: {DSPRITES_FILE} "
    path.write_bytes(b"x" * 100)
    assert error_of(load_images, "dsprites", tmp_path).startswith(start + "cannot be read (")
    np.savez(path, imgs=np.zeros((3, 32, 32), np.uint8), latents_classes=np.zeros((3, 6), int))
    assert "images of uint8 (3, 32, 32)" in error_of(load_images, "dsprites", tmp_path)
    np.savez(path, imgs=np.ones((3, 64, 64), np.uint8), latents_classes=np.zeros((3, 6), int))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert "cannot be read (Bad CRC-32" in error_of(load_images, "dsprites", tmp_path)


# -- What training makes of them -----------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_each_dataset_picks_a_preset_that_fits_its_images(name):
    config = resolve(TrainConfig(data=DataConfig(name, Path("D"))))
    assert config.model.preset == DATASETS[name].default_preset
    assert DATASETS[name].image_shape in (None, config.architecture.image_shape)


@pytest.mark.parametrize("name", ["celeba", "chairs", "svhn", "dsprites", "faces"])
def test_a_wrong_folder_is_told_where_to_get_the_files(tmp_path, name):
    (tmp_path / "notes.txt").write_text("x")
    message = error_of(load_images, name, tmp_path)
    assert message.startswith(f"--data-dir {str(tmp_path)!r} ")
    assert ("http" in message) or name == "faces"
    assert dataset_status(name, tmp_path)[0] is False
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_an_array_can_be_written_to(tmp_path):
    """What a dataset hands on, torch takes without a warning."""
    np.savez_compressed(tmp_path / "a.npz", images=np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = read_array(tmp_path / "a.npz", "images")
    assert found.flags.writeable and found.sum() == 66
