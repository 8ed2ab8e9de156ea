"""Training on a folder of images: what of it is trained on, and what is said of it."""

import json
from dataclasses import replace

from image_files import flat, save
from training_runs import small

from fastinfogan.config import DataConfig
from fastinfogan.data.ingest import make
from fastinfogan.training.trainer import train


def test_training_keeps_off_the_test_split_and_says_so(tmp_path, own_cache, monkeypatch, capsys):
    monkeypatch.setattr(make, "pick_decoder", lambda tell: "pillow")
    root = tmp_path / "images"
    images = {"train/a": range(1, 21), "train/b": range(21, 41)}
    images |= {"test/a": range(41, 46), "test/b": range(46, 51)}
    for folder, numbers in images.items():
        for number in numbers:
            save(root / folder / f"{number:03}.png", flat(number))
    (root / "train" / "a" / "more.heic").write_bytes(b"?")
    config = small(tmp_path / "run", 1)
    run = train(replace(config, data=DataConfig("folder", root, image_size=28, channels=1)))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("40 1x28x28 images of folder") for line in lines)
    assert "splits: 40 images of train/ to train on, 10 images of test/ to evaluate on" in lines
    assert "2 labels: a, b" in lines and any("1 .heic" in line for line in lines)
    evaluation = json.loads((run.folder / "summary.json").read_text())["evaluation"]
    assert evaluation["images"] == 10 and evaluation["clusterings"][0]["label_names"] == ["a", "b"]
