"""train/ and test/ in a folder of images are splits, not classes."""

import pytest
from image_files import flat, save
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import dataset_status, load_images
from fastinfogan.data.ingest import make
from fastinfogan.data.sources.splits import find_layout


@pytest.fixture(autouse=True)
def by_pillow(monkeypatch):
    """The images are a few pixels; DALI takes its time to start."""
    monkeypatch.setattr(make, "pick_decoder", lambda tell: "pillow")


def layout_of(*names):
    """(part, path without it) of each file, and which parts train and test get."""
    layout = find_layout(names)
    if layout is None:
        return None
    chosen = layout.chosen("train"), layout.chosen("test")
    return [(layout.part(name), layout.rest(name)) for name in names], chosen


BOTH = ("train", "test")
VALIDATED = ("train", "validation")
LAYOUTS = {
    "the usual": (
        ("train/a/1", "train/b/2", "test/a/3"), BOTH,
        [("train", "a/1"), ("train", "b/2"), ("test", "a/3")],
    ),
    "no classes": (("Train/1", "TEST/2"), BOTH, [("train", "1"), ("test", "2")]),
    "validation for want of a test": (
        ("train/a/1", "val/a/2"), VALIDATED, [("train", "a/1"), ("validation", "a/2")],
    ),
    "validation is left out": (
        ("training/1", "valid/2", "testing/3"), BOTH,
        [("train", "1"), ("validation", "2"), ("test", "3")],
    ),
    "a test without labels": (
        ("train/a/1", "train/b/2", "val/a/3", "val/b/4", "test/images/5"), VALIDATED,
        [("train", "a/1"), ("train", "b/2"), ("validation", "a/3"), ("validation", "b/4"),
         ("test", "images/5")],
    ),
    "both together": (("trainval/1", "test/2"), BOTH, [("train", "1"), ("test", "2")]),
    "in one folder more": (
        ("x/train/a/1", "x/test/a/2"), BOTH, [("train", "a/1"), ("test", "a/2")],
    ),
    "twice, and images of no split": (
        ("seg_train/seg_train/a/1", "seg_test/seg_test/a/2", "seg_pred/seg_pred/3"), BOTH,
        [("train", "a/1"), ("test", "a/2"), (None, "seg_pred/3")],
    ),
    "sets": (
        ("training_set/training_set/a/1", "test_set/test_set/a/2"), BOTH,
        [("train", "a/1"), ("test", "a/2")],
    ),
    "below the classes": (
        ("a/train/1", "a/test/2", "b/train/3"), BOTH,
        [("train", "a/1"), ("test", "a/2"), ("train", "b/3")],
    ),
    "years": (("train2017/1", "val2017/2"), VALIDATED, [("train", "1"), ("validation", "2")]),
    "numbered": (("train/1", "test1/2"), BOTH, [("train", "1"), ("test", "2")]),
    "two domains": (
        ("trainA/1", "trainB/2", "testA/3", "testB/4"), BOTH,
        [("train", "A/1"), ("train", "B/2"), ("test", "A/3"), ("test", "B/4")],
    ),
    "several of one": (
        ("train-clean/1", "train-noisy/2", "test/3"), BOTH,
        [("train", "1"), ("train", "2"), ("test", "3")],
    ),
    "something beside them": (
        ("train/1", "test/2", "cover.png"), BOTH,
        [("train", "1"), ("test", "2"), (None, "cover.png")],
    ),
    "within images/": (
        ("images/train/1", "images/val/2"), VALIDATED, [("train", "1"), ("validation", "2")],
    ),
    "only one": (("train/a/1", "train/b/2"), (None, None), [("train", "a/1"), ("train", "b/2")]),
    "no train": (
        ("test/a/1", "val/a/2"), (None, None), [("test", "a/1"), ("validation", "a/2")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_splits_are_found(case):
    names, chosen, wanted = LAYOUTS[case]
    assert layout_of(*names) == (wanted, chosen)


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2"),
        ("a/1", "b/2"),
        ("bird/1", "bus/2", "train/3"),  # a vehicle
        ("bird/1", "train/2", "test_tube/3"),
        ("bullet_train/1", "test_tube/2"),
        ("steam_train/1", "bullet_train/2"),
        ("trainer/1", "testudo/2", "valley/3"),
        ("train/1", "cover.png"),
        (),
    ],
)
def test_classes_are_no_splits(names):
    assert layout_of(*names) is None


def write_splits(root, sizes, start=0):
    """Grey images 1, 2, ... in the folders, so many in each."""
    number = start
    for folder, size in sizes.items():
        for _ in range(size):
            number += 1
            save(root / folder / f"{number:03}.png", flat(number))


def levels(data):
    return data.images[:, 0, 0, 0].tolist()


def test_each_split_is_its_own_images_and_labels(tmp_path, own_cache):
    root = tmp_path / "images"
    write_splits(root, {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1, "val/a": 1})
    train_data, test = (load_images("folder", root, split) for split in ("train", "test"))
    assert levels(train_data) == [1, 2, 3, 4] and levels(test) == [5, 6]
    assert train_data.label_names == test.label_names == ("a", "b")
    assert train_data.labels.tolist() == [0, 0, 1, 1] and test.labels.tolist() == [0, 1]
    says = (
        "splits: 4 images of train/ to train on, 2 images of test/ to evaluate on; "
        "left out: 1 image of val/"
    )
    for data in (train_data, test):  # between them: that these are tiny
        assert data.notes[0] == says and data.notes[-1] == "2 labels: a, b"
    assert not train_data.both_splits
    assert says in dataset_status("folder", root)[1]
    faces = [load_images("faces", root, split) for split in ("train", "test")]
    assert list(map(levels, faces)) == [[1, 2, 3, 4], [5, 6]]


def test_images_of_no_split_are_said(tmp_path, own_cache):
    root = tmp_path / "images"
    write_splits(root, {"train": 2, "test": 1, "extra": 3})
    data = load_images("folder", root)
    assert levels(data) == [1, 2]
    assert data.notes[0].endswith("; left out: 3 images outside of them, such as 'extra/004.png'")


def test_one_split_alone_is_both(tmp_path, own_cache):
    root = tmp_path / "images"
    write_splits(root, {"train/a": 2, "train/b": 2})
    data = load_images("folder", root)
    assert levels(data) == [1, 2, 3, 4] and data.label_names == ("a", "b") and data.both_splits
    assert data.notes[0] == "splits: only 4 images of train/, to train and to evaluate on"
    assert load_images("folder", root, "test").fingerprint == data.fingerprint
    # The same files where the folder says nothing: one class, so no labels.
    (root / "train").rename(root / "photos")
    assert load_images("folder", root).labels is None


def test_ingest_prints_each_split_once(tmp_path, own_cache, capsys):
    root = tmp_path / "images"
    write_splits(root, {"train": 3, "test": 2})
    assert main(["ingest", "--data-dir", str(root)]) == 0
    out = capsys.readouterr().out
    assert "folder, train: 3 images" in out and "folder, test: 2 images" in out
    assert main(["ingest", "--data-dir", str(root / "train")]) == 0
    out = capsys.readouterr().out
    assert out.count("images of") == 1 and "folder, all: 3 images" in out


def test_the_limit_on_bad_files_is_that_of_the_whole_set(tmp_path, own_cache):
    """7 of 60 in one split would be too many by themselves; of 860 they are not."""
    root = tmp_path / "images"
    write_splits(root, {"test": 53})
    content = (root / "test" / "001.png").read_bytes()
    (root / "train").mkdir()
    for number in range(800):
        (root / "train" / f"{number}.png").write_bytes(content)
    for number in range(7):
        (root / "test" / f"bad{number}.png").write_bytes(b"?")
    test = load_images("folder", root, "test")
    assert len(test) == 53 and len(test.skipped) == 7
    assert len(load_images("folder", root, "test")) == 53  # found, and judged alike
    assert len(load_images("folder", root)) == 800
    for number in range(7, 9):
        (root / "test" / f"bad{number}.png").write_bytes(b"?")
    message = error_of(load_images, "folder", root, "test")
    assert (
        "9 of its 62 image files are unusable, more than 1% and more than 5 of the 862 in all"
        in message
    )


def test_one_bad_file_of_a_small_test_split_stops_nothing(tmp_path, own_cache):
    root = tmp_path / "images"
    write_splits(root, {"train": 40, "test": 8})
    (root / "test" / "bad.png").write_bytes(b"?")
    assert len(load_images("folder", root, "test").skipped) == 1
    for number in range(8):
        (root / "test" / f"bad{number}.png").write_bytes(b"?")
    assert "half of them or more" in error_of(load_images, "folder", root, "test")
