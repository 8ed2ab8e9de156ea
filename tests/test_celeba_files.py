"""CelebA as people have it: every way in which its images and two lists reach a disk."""

import gzip
import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_sources import ATTRIBUTES, celeba_face
from tolerances import JPEG_LEVELS
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import dataset_status, load_images
from fastinfogan.data.ingest import make

COUNT = 9
NAMES = [f"{number:06}.jpg" for number in range(1, COUNT + 1)]
FACES = {name: celeba_face(number) for number, name in enumerate(NAMES, 1)}
PARTS = [0] * (COUNT - 3) + [1, 2, 2]
VALUES = np.random.default_rng(0).integers(0, 2, (COUNT, 40))
ATTR_ROWS = [
    f"{name} {' '.join(f'{2 * value - 1:2d}' for value in row)}"
    for name, row in zip(NAMES, VALUES, strict=True)
]
ATTR_TXT = "\n".join([str(COUNT), " ".join(ATTRIBUTES) + " ", *ATTR_ROWS]) + "\n"
PART_TXT = "".join(f"{name} {part}\n" for name, part in zip(NAMES, PARTS, strict=True))


def csv_of(rows, header, separator=","):
    return "".join(f"{separator.join(row.split())}\n" for row in [header, *rows])


ATTR_CSV = csv_of(ATTR_ROWS, "image_id " + " ".join(ATTRIBUTES))
PART_CSV = csv_of(PART_TXT.splitlines(), "image_id partition")
JUNK = b"\0\5\26\7\0\2\0\0Mac OS X        "


@pytest.fixture(autouse=True)
def by_pillow(monkeypatch, own_cache):
    """DALI takes its time to start, and no test may find another's cache."""
    monkeypatch.setattr(make, "pick_decoder", lambda tell: "pillow")


def put(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def faces_in(folder: str) -> dict[str, bytes]:
    return {f"{folder}/{name}" if folder else name: data for name, data in FACES.items()}


def zipped(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def assert_whole(root: Path) -> None:
    """Both splits and the attributes are there, of the right images."""
    for split, numbers in (("train", range(1, 7)), ("test", (8, 9))):
        data = load_images("celeba", root, split)
        assert data.images.shape == (len(numbers), 32, 32, 3)
        inner = data.images[:, 1:-1, 1:-1].reshape(len(numbers), -1)
        np.testing.assert_allclose(inner.mean(1), [10 * n for n in numbers], atol=JPEG_LEVELS)
        assert data.factor_names == tuple(ATTRIBUTES) and not data.both_splits
        np.testing.assert_array_equal(data.factors, VALUES[[n - 1 for n in numbers]])
    ready, line = dataset_status("celeba", root)
    assert ready and "without" not in line


TXT = {"list_attr_celeba.txt": ATTR_TXT, "list_eval_partition.txt": PART_TXT}
CSV = {"list_attr_celeba.csv": ATTR_CSV, "list_eval_partition.csv": PART_CSV}
MAC = {f"__MACOSX/img_align_celeba/._{name}": JUNK for name in NAMES}
PNGS = {f"img_align_celeba_png/{name[:-4]}.png": data for name, data in FACES.items()}
LAYOUTS = {
    "kaggle": faces_in("img_align_celeba/img_align_celeba") | CSV,
    "torchvision": faces_in("celeba/img_align_celeba") | {f"celeba/{k}": v for k, v in TXT.items()},
    "the drive": faces_in("CelebA/Img/img_align_celeba")
    | {"CelebA/Anno/list_attr_celeba.txt": ATTR_TXT}
    | {"CelebA/Eval/list_eval_partition.txt": PART_TXT},
    "one archive of all": {
        "archive.zip": zipped(faces_in("img_align_celeba/img_align_celeba") | CSV)
    },
    "another name": {"celeba-dataset.zip": zipped(faces_in("img_align_celeba") | TXT)},
    "the archive twice": TXT
    | {"img_align_celeba.zip": zipped(faces_in("img_align_celeba/img_align_celeba"))},
    "downloaded again": TXT | {"img_align_celeba (1).zip": zipped(faces_in("img_align_celeba"))},
    "from a drive": TXT
    | {"img_align_celeba-20240101T000000Z-001.zip": zipped(faces_in("img_align_celeba"))},
    "remade on a Mac": TXT
    | {"img_align_celeba.zip": zipped(faces_in("img_align_celeba") | MAC)}
    | {"._list_attr_celeba.txt": JUNK, ".DS_Store": JUNK},
    "a Mac's tar": TXT
    | {"img_align_celeba.tar": tarred(
        {f"./img_align_celeba/._{name}": JUNK for name in NAMES}
        | faces_in("./img_align_celeba"))},
    "a compressed tar": CSV
    | {"img_align_celeba.tar.gz": tarred(faces_in("img_align_celeba"), "w:gz")},
    "another": CSV | {"img_align_celeba.tgz": tarred(faces_in("img_align_celeba"), "w:gz")},
    "remade on Windows": TXT | {"img_align_celeba.zip": zipped(
        {f"img_align_celeba\\{name}": data for name, data in FACES.items()}
        | {"img_align_celeba\\Thumbs.db": JUNK})},
    "an archive without the folder": TXT | {"img_align_celeba.zip": zipped(FACES)},
    "the images loose": FACES | TXT,
    "the images in a folder of another name": faces_in("faces/aligned") | CSV,
    "png": PNGS | TXT,
    "upper case": TXT | {f"IMG_ALIGN_CELEBA/{name.upper()}": data for name, data in FACES.items()},
    "empty folder beside the archive": TXT
    | {"img_align_celeba/.keep": b"", "img_align_celeba.zip": zipped(faces_in("img_align_celeba"))},
    "a file server's": faces_in("img_align_celeba") | TXT
    | {f"img_align_celeba/@eaDir/{name}/SYNOPHOTO_THUMB_M.jpg": JUNK for name in NAMES},
    "lists zipped one by one": faces_in("img_align_celeba")
    | {f"{k}.zip": zipped({k: v}) for k, v in CSV.items()},
    "lists gzipped": faces_in("img_align_celeba")
    | {f"{k}.gz": gzip.compress(v.encode()) for k, v in TXT.items()},
    "lists in folders of their names": faces_in("img_align_celeba")
    | {f"{k}/{k}": v for k, v in CSV.items()},
    "lists downloaded again": faces_in("img_align_celeba")
    | {"list_attr_celeba (1).txt": ATTR_TXT, "list_eval_partition - Copy.txt": PART_TXT},
    "lists among the images": faces_in("img_align_celeba")
    | {f"img_align_celeba/{k}": v for k, v in TXT.items()},
    "both kinds of lists": faces_in("img_align_celeba") | TXT | CSV,
    "beside the uncropped ones": TXT | faces_in("img_align_celeba")
    | {"img_celeba/000001.jpg": JUNK, "img_celeba.7z.001": JUNK},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found(tmp_path, layout):
    root = tmp_path / "data"
    put(root, LAYOUTS[layout])
    assert_whole(root)


@pytest.mark.parametrize(
    "inside",
    ["img_align_celeba", "img_align_celeba/img_align_celeba"],
)
def test_the_images_own_folder_finds_the_lists_beside_it(tmp_path, inside):
    put(tmp_path / "data", LAYOUTS["kaggle"])
    assert_whole(tmp_path / "data" / inside)


def test_the_images_own_folder_on_the_drive_finds_the_lists(tmp_path, monkeypatch):
    put(tmp_path, LAYOUTS["the drive"])
    assert_whole(tmp_path / "CelebA/Img/img_align_celeba")
    monkeypatch.chdir(tmp_path / "CelebA/Img/img_align_celeba")
    assert_whole(Path("."))


def with_index(text: str) -> str:
    """What pandas writes unless it is told not to."""
    first, *rows = text.splitlines()
    return "\n".join([f",{first}", *(f"{number},{row}" for number, row in enumerate(rows))])


VARIANTS = {
    "a byte-order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 of the other kind": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 without its mark": lambda text: text.encode("utf-16-le"),
    "Windows' line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "an old Mac's line ends": lambda text: text.replace("\n", "\r").encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n").encode() + b"\n\n\x1a",
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "0 for -1": lambda text: text.replace("-1", " 0").encode(),
}
OF_TEXT = VARIANTS | {
    "tabs": lambda text: "\n".join("\t".join(line.split()) for line in text.split("\n")).encode(),
    "no number of images": lambda text: text.removeprefix("9\n").encode(),
    "names without suffix": lambda text: text.replace(".jpg", "").encode(),
    "paths": lambda text: text.replace("00000", "img_align_celeba/00000").encode(),
}
OF_CSV = VARIANTS | {
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "quotes": lambda text: "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in text.splitlines()
    ).encode(),
    "a comma at the end": lambda text: text.replace("\n", ",\n").encode(),
    "pandas' index": lambda text: with_index(text).encode(),
    "spaces": lambda text: text.replace(",", ", ").encode(),
    "gaps": lambda text: re.sub(r"(,-?\d)(?=[,\n])", r"\1.0", text).encode(),
    "words": lambda text: (
        text.replace(",0\n", ",train\n").replace(",2\n", ",test\n").encode()
        if "partition" in text
        else text.encode()
    ),
}


@pytest.mark.parametrize("variant", OF_TEXT)
def test_lists_as_text_in_every_variant(tmp_path, variant):
    put(tmp_path / "data", faces_in("img_align_celeba"))
    put(tmp_path / "data", {name: OF_TEXT[variant](text) for name, text in TXT.items()})
    assert_whole(tmp_path / "data")


@pytest.mark.parametrize("variant", OF_CSV)
def test_lists_as_csv_in_every_variant(tmp_path, variant):
    put(tmp_path / "data", faces_in("img_align_celeba"))
    put(tmp_path / "data", {name: OF_CSV[variant](text) for name, text in CSV.items()})
    assert_whole(tmp_path / "data")


def test_what_is_missing_is_said(tmp_path, capsys):
    put(tmp_path / "data", faces_in("img_align_celeba"))
    data = load_images("celeba", tmp_path / "data")
    assert data.both_splits and data.notes == (
        "no factors: there is no list_attr_celeba.txt or .csv",
        "no splits: there is no list_eval_partition.txt or .csv, so all are trained and evaluated "
        "on",
        "9 of the 202,599 images of CelebA are there",
    )
    assert main(["ingest", "--dataset", "celeba", "--data-dir", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {note}\n" in out for note in data.notes)
    put(tmp_path / "data", CSV)
    factors, splits, names = load_images("celeba", tmp_path / "data").notes
    assert factors == "factors are those of list_attr_celeba.csv"
    assert splits == "splits are those of list_eval_partition.csv"
    assert names.startswith("40 factors: Attribute_0, Attribute_1, ")
    (tmp_path / "data" / "img_align_celeba" / NAMES[4]).unlink()
    *_, part, _ = load_images("celeba", tmp_path / "data", "test").notes
    assert part == "8 of the 9 images that list_attr_celeba.csv lists are there"
    (tmp_path / "data" / "list_attr_celeba.csv").unlink()
    *_, part = load_images("celeba", tmp_path / "data", "test").notes
    assert part == "8 of the 9 images that list_eval_partition.csv lists are there"


def test_a_folder_of_another_name_is_said(tmp_path):
    put(tmp_path / "data", faces_in("by hand/test"))
    assert load_images("celeba", tmp_path / "data").notes[0] == "images are those in by hand/test/"


def test_images_that_are_not_celebas_are_left_out(tmp_path):
    """Copies and a file manager's own, which the lists don't name."""
    put(tmp_path / "data", faces_in("img_align_celeba") | TXT)
    others = ["000001 (1).jpg", "000002 copy.jpg", "preview.png"]
    put(tmp_path / "data" / "img_align_celeba", dict.fromkeys(others, FACES["000001.jpg"]))
    data = load_images("celeba", tmp_path / "data")
    assert len(data) == 6
    assert data.skipped == tuple((name, "not in list_eval_partition.txt") for name in others)


def test_one_bad_image_of_a_small_test_split_stops_nothing(tmp_path):
    put(tmp_path / "data", faces_in("img_align_celeba") | TXT)
    partition = PART_TXT.replace("000007.jpg 1", "000007.jpg 2")
    bad = {"img_align_celeba/000008.jpg": FACES["000008.jpg"][:300]}
    put(tmp_path / "data", bad | {"list_eval_partition.txt": partition})
    test = load_images("celeba", tmp_path / "data", "test")
    assert len(test) == 2 and [name for name, _ in test.skipped] == ["000008.jpg"]
    np.testing.assert_array_equal(test.factors, VALUES[[6, 8]])


def test_a_part_of_the_images_is_fine(tmp_path):
    put(tmp_path / "data", TXT)
    put(tmp_path / "data", {f"img_align_celeba/{name}": FACES[name] for name in NAMES[:3]})
    assert len(load_images("celeba", tmp_path / "data")) == 3
    message = error_of(load_images, "celeba", tmp_path / "data", "test")
    assert "img_align_celeba holds no image of the test split; with list_eval_partition" in message


WRONG = {
    "a web page": ("list_attr_celeba.txt", "<!DOCTYPE html><html>", "is a web page, not the list"),
    "a document": ("list_eval_partition.txt", "{\\rtf1 000001.jpg 0}", "is a text with formats"),
    "nothing": ("list_attr_celeba.txt", "\n\n", "is empty"),
    "no names": ("list_attr_celeba.csv", ATTR_CSV.split("\n", 1)[1], "no line that names its col"),
    "other values": (
        "list_attr_celeba.txt", ATTR_TXT.replace(" 1", " 7", 1), "has the value '7' in line 3",
    ),
    "other parts": (
        "list_eval_partition.csv", PART_CSV.replace(",2", ",9"), "has the value '9' in line 9",
    ),
    "no images": ("list_eval_partition.txt", "these are the parts\n", "names no image"),
    "a folder's zip": ("list_attr_celeba.txt.zip", zipped({"x": "y"}), "no list is in it"),
    "a gzip cut short": (
        "list_attr_celeba.txt.gz", gzip.compress(ATTR_TXT.encode())[:60], "cannot be read (",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_list_is_said(tmp_path, case):
    name, content, reason = WRONG[case]
    put(tmp_path / "data", faces_in("img_align_celeba") | {name: content})
    message = error_of(load_images, "celeba", tmp_path / "data")
    assert message.startswith(f"--data-dir {str(tmp_path / 'data')!r}: {name} ")
    assert reason in message and message.endswith("; fetch it again")


def test_archives_that_are_not_read_are_named(tmp_path):
    put(tmp_path / "data", {"img_align_celeba.7z": b"7z"} | TXT)
    assert "img_align_celeba.7z is not read; unpack it" in error_of(
        load_images, "celeba", tmp_path / "data"
    )
    put(tmp_path / "parts", {f"img_align_celeba-x-00{n}.zip": zipped({}) for n in (1, 2)})
    assert "holds 2 archives, img_align_celeba-x-001.zip and others; unpack them all" in error_of(
        load_images, "celeba", tmp_path / "parts"
    )
    nested = zipped({"CelebA/Img/img_align_celeba.zip": b"PK"})
    put(tmp_path / "nested", {"CelebA-20240101T000000Z-001.zip": nested})
    message = error_of(load_images, "celeba", tmp_path / "nested")
    assert "CelebA-20240101T000000Z-001.zip is not read; unpack it there" in message
    put(tmp_path / "web", {"img_align_celeba.zip": b"<!DOCTYPE html>"})
    assert "img_align_celeba.zip cannot be read" in error_of(
        load_images, "celeba", tmp_path / "web"
    )


def test_lists_inside_an_archive_are_named_with_it(tmp_path):
    files = faces_in("img_align_celeba") | {"x/list_attr_celeba.csv": "<html>"}
    put(tmp_path / "data", {"archive.zip": zipped(files)})
    message = error_of(load_images, "celeba", tmp_path / "data")
    assert "archive.zip holds x/list_attr_celeba.csv, which is a web page" in message
