"""Images that are decoded while training: the same ones, on every rank, from any iteration on."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch
from image_files import encode, photo, write
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import load_images
from fastinfogan.data.feeds import encoded as feed_module
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.data.ingest import decode, make, sample

CPU = torch.device("cpu")
TRAIN = [
    "--preset", "narrow-mnist-mlp", "--image-size", "28", "--channels", "1", "--batch-size", "8",
    "--device", "cpu",
]  # fmt: skip
pytestmark = pytest.mark.usefixtures("narrow_presets", "no_curves")


def batches(rank=0, ranks=1):
    return Batches(8, 3, (0.0, 255.0), CPU, torch.float32, rank, ranks)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """37 small photographs, among them two kinds that DALI leaves to Pillow."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(37):
        form = {5: "WEBP", 11: "PNG"}.get(number, "JPEG")
        image = photo(number, 40 + number, 50)
        if number == 11:
            image = image.convert("RGBA")
        (folder / f"{number:02}.{form.lower()}").write_bytes(encode(image, form))
    return folder


# Tests that choose decoders themselves: once.
CHOSEN_HERE = pytest.mark.parametrize("decoder", ["pillow"], indirect=True)


@pytest.fixture(autouse=True)
def _decoder(decoder, monkeypatch):
    monkeypatch.setattr(sample, "pick_decoder", lambda tell: decoder)


def load(folder, feed="encoded", **options):
    return load_images("folder", folder, image_size=16, progress=False, feed=feed, **options)


def rows(feed, count):
    for _ in range(count):
        feed.prepare()
        yield feed.next().round().to(torch.uint8)


OPENED = []


@pytest.fixture(autouse=True)
def _closed():
    """Feeds are closed, as a run closes its own: threads decode ahead until then."""
    yield
    while OPENED:
        OPENED.pop().close()


def opened(data, *rank, tell=None, allow_bad=False):
    feed = open_feed(data, batches(*rank), "encoded", allow_bad, tell or (lambda line: None))
    OPENED.append(feed)
    feed.seek(0)
    return feed


def test_it_gives_what_ingest_makes_in_the_same_order(photos, own_cache):
    encoded = opened(load(photos))
    streamed = open_feed(load(photos, "streamed"), batches(), "streamed")
    streamed.seek(0)
    for a, b in zip(rows(encoded, 12), rows(streamed, 12), strict=True):
        assert a.shape == (8, 3, 16, 16) and a.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(a, b)  # the same decoder made both


def test_it_may_be_sought_and_shared_out(photos):
    data = load(photos)
    wanted = list(rows(opened(data), 14))
    jumping = opened(data)
    for iteration in (9, 2, 2, 13, 0):
        jumping.seek(iteration)
        assert torch.equal(next(rows(jumping, 1)), wanted[iteration])
    ranks = [rows(opened(data, rank, 2), 14) for rank in range(2)]
    for together, whole in zip(zip(*ranks, strict=True), wanted, strict=True):
        assert torch.equal(torch.cat(together), whole)


def test_every_image_comes_once_an_epoch(tmp_path):
    write(tmp_path, 37)  # each of a level of its own
    levels = [
        round(image.float().mean().item() / 5)
        for batch in rows(opened(load(tmp_path)), 37)
        for image in batch
    ]
    epochs = [levels[at : at + 37] for at in range(0, 37 * 8, 37)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_file_that_cannot_be_decoded_costs_its_neighbours_nothing(tmp_path):
    """It is named once, and the next one takes its place: whatever the batch is, on every rank."""
    contents = write(tmp_path, 37)
    looks_whole = bytearray(contents[20])
    looks_whole[looks_whole.index(b"\xff\xda") + 6] = 0x33  # a table that isn't there
    (tmp_path / "00020.jpg").write_bytes(looks_whole)
    (tmp_path / "00036.jpg").write_bytes(contents[36][:200])  # cut short
    told = []
    data = load(tmp_path, allow_bad=True)
    batches_ = list(rows(opened(data, tell=told.append, allow_bad=True), 37))
    levels = torch.cat(batches_).float().mean((1, 2, 3)).div(5).round().int().tolist()
    instead = {20: 21, 36: 0}
    for at in range(0, 37 * 8, 37):
        assert sorted(levels[at : at + 37]) == sorted(instead.get(n, n) for n in range(37))
    assert len([line for line in told if "DALI gave up" in line]) <= 1  # once, not in each epoch
    named = [line for line in told if "takes its place" in line]
    assert len(named) == 2
    for bad, other in (("00020.jpg", "00021.jpg"), ("00036.jpg", "00000.jpg")):
        (line,) = [line for line in named if line.startswith(f"'{bad}' can't be decoded (")]
        assert f"; '{other}' takes its place" in line
    later = opened(data, allow_bad=True)
    later.seek(7)  # blocks begin elsewhere
    assert torch.equal(next(rows(later, 1)), batches_[7])
    slices = [next(rows(opened(data, rank, 2, allow_bad=True), 1)) for rank in range(2)]
    assert torch.equal(torch.cat(slices), batches_[0])


def test_too_many_bad_files_are_an_error(tmp_path):
    contents = write(tmp_path, 37)
    data = load(tmp_path)
    for number in range(30):
        (tmp_path / f"{number:05}.jpg").write_bytes(contents[number][:200])
    feed = opened(data)
    message = error_of(lambda: list(rows(feed, 20)))
    assert "--feed encoded: " in message and " of 37 files can't be decoded" in message
    assert "--allow-bad" in message and "\n" not in message
    for number in range(37):
        (tmp_path / f"{number:05}.jpg").write_bytes(b"")
    feed = opened(data, allow_bad=True)
    message = error_of(lambda: list(rows(feed, 1)))
    assert message == "--feed encoded: none of the 37 files can be decoded"


def test_of_many_images_a_sample_is_ingested(photos, monkeypatch, own_cache):
    monkeypatch.setattr(sample, "SAMPLE", 10)
    data = load(photos)
    assert len(data) == 10 and data.total == 37
    whole = load(photos, "streamed")
    np.testing.assert_array_equal(data.images, whole.images[np.arange(10) * 37 // 10])
    again = load(photos)
    assert again.fingerprint == data.fingerprint != whole.fingerprint
    assert len(list(own_cache.glob("folder-*"))) == 2
    (photos / "36.jpeg").touch()  # outside of the sample: another set of images all the same
    assert load(photos).fingerprint != data.fingerprint


def test_auto_decodes_while_training_where_the_disk_is_too_small(photos, monkeypatch, own_cache):
    monkeypatch.setattr(sample, "SAMPLE", 10)
    row = 16 * 16 * 3
    monkeypatch.setattr(make, "free_bytes", lambda folder: 36 * row)
    told = []
    data = load(photos, "auto", tell=told.append)
    assert len(data) == 10 and data.total == 37
    (line,) = told
    assert "(--feed encoded)" in line and "\n" not in line
    assert "free space" in error_of(load, photos, "streamed")
    monkeypatch.setattr(make, "free_bytes", lambda folder: 37 * row)
    assert load(photos, "auto").total == len(load(photos, "auto")) == 37


@pytest.mark.parametrize("dataset", ["digits", "svhn"])
def test_arrays_have_nothing_to_decode(dataset, tmp_path, capsys):
    from scipy.io import savemat

    for split in ("train", "test"):
        content = {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)}
        savemat(tmp_path / f"{split}_32x32.mat", content)
    where = [] if dataset == "digits" else ["--data-dir", str(tmp_path)]
    assert main(["train", "--dataset", dataset, *where, "--feed", "encoded"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--feed encoded: " in line and f"--dataset {dataset}" in line and " works" in line


def test_a_run_resumes_in_mid_epoch_bit_for_bit(photos, tmp_path, capsys):
    def trained(out, iterations):
        arguments = ["train", "--dataset", "folder", "--data-dir", str(photos), *TRAIN]
        arguments += ["--feed", "encoded", "--out", str(tmp_path / out)]
        assert main([*arguments, "--iterations", str(iterations)]) == 0
        return (tmp_path / out / "generator.safetensors").read_bytes()

    whole = trained("whole", 4)
    assert "images decoded while training" in capsys.readouterr().out
    trained("parts", 2)
    resume = ["train", "--resume", str(tmp_path / "parts"), "--iterations", "4"]
    assert main(resume) == 0
    parts = (tmp_path / "parts" / "generator.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    assert parts[8 + header :] == whole[8 + header :]
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert config["run"]["feed"] == "encoded"
    (photos / "36.jpeg").touch()
    capsys.readouterr()
    assert main([*resume[:-1], "5"]) == 2
    assert "their files' names, sizes or times, or labels differ" in capsys.readouterr().err


@CHOSEN_HERE
def test_a_run_keeps_to_what_auto_has_come_to(photos, tmp_path, monkeypatch, own_cache, capsys):
    """Else it would go on with other images once there is room on the disk."""

    def picked(tell):  # before there is a bar to show lines beside
        tell("DALI is installed but does not import")
        return "pillow"

    before = {*threading.enumerate()}  # other tests' feeds
    monkeypatch.setattr(sample, "pick_decoder", picked)
    monkeypatch.setattr(sample, "SAMPLE", 10)
    monkeypatch.setattr(make, "free_bytes", lambda folder: 36 * 28 * 28)
    out = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data-dir", str(photos), *TRAIN]
    arguments[arguments.index("8")] = "12"  # more than the sample's, fewer than there are
    assert main([*arguments, "--iterations", "2", "--out", str(out)]) == 0
    assert "fastinfogan: DALI is installed but does not import\n" in capsys.readouterr().err
    monkeypatch.setattr(make, "free_bytes", lambda folder: 1 << 40)
    assert main(["train", "--resume", str(out), "--iterations", "3"]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["run"]["feed"] == "encoded"
    new = {*threading.enumerate()} - before
    assert not [thread for thread in new if "feed" in thread.name]


@CHOSEN_HERE
def test_a_run_says_when_another_decoder_goes_on_with_it(
    photos, tmp_path, monkeypatch, own_cache, capsys
):
    """On another machine, too, where the sample is decoded anew: the files are the same ones."""

    def other_pixels(files, preprocess, start, *, decoder, tell):
        for block in decode.decode_blocks(files, preprocess, start, "pillow", tell):
            yield block._replace(rows=block.rows ^ (decoder != "pillow"))

    def resumed(iterations):
        assert main(["train", "--resume", str(out), "--iterations", str(iterations)]) == 0
        printed = capsys.readouterr().out
        return [line for line in printed.splitlines() if "pixels differ" in line]

    blocks = feed_module.decode_blocks
    monkeypatch.setattr(make, "decode_blocks", other_pixels)
    monkeypatch.setattr(
        feed_module, "decode_blocks", lambda *given: blocks(*given[:3], "pillow", *given[4:])
    )
    monkeypatch.setattr(sample, "pick_decoder", lambda tell: "pillow")
    out = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data-dir", str(photos), *TRAIN]
    arguments += ["--feed", "encoded", "--iterations", "2", "--out", str(out)]
    assert main(arguments) == 0
    assert "images decoded while training (pillow)" in capsys.readouterr().out
    assert resumed(3) == []
    monkeypatch.setattr(sample, "pick_decoder", lambda tell: "dali")
    (line,) = resumed(4)
    assert line.startswith("images are decoded by dali from here on, and were by pillow: ")
    assert resumed(5) == []
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(make, "decode_blocks", decode.decode_blocks)
    monkeypatch.setattr(decode, "dali_blocks", lambda files, preprocess, start, pool, *_: (
        decode._pillow_blocks(files, preprocess, start, pool)))  # fmt: skip
    (line,) = resumed(6)
    assert line.startswith("images are decoded by another version of dali from here on: ")


def test_a_run_that_is_evaluated_on_a_sample_says_so(
    photos, tmp_path, monkeypatch, own_cache, capsys
):
    monkeypatch.setattr(sample, "SAMPLE", 12)
    out = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data-dir", str(photos), *TRAIN]
    arguments += ["--feed", "encoded", "--iterations", "2", "--out", str(out)]
    assert main(arguments) == 0
    assert "evaluated on a sample: 12 of 37 images\n" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--samples", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["images_of"]) == (12, 37)


def test_ranks_share_the_cores_and_decode_on_their_own_gpus(photos, monkeypatch):
    asked = []
    monkeypatch.setattr(feed_module, "decode_blocks", lambda *given: asked.append(given[-2:]))
    monkeypatch.setattr(feed_module, "usable_cores", lambda: 16)
    for neighbours, device, wanted in (
        (1, "cpu", (16, 0)),
        (8, "cuda:3", (2, 3)),
        (32, "cpu", (1, 0)),
    ):
        given = batches()._replace(neighbours=neighbours, device=torch.device(device))
        feed_module.EncodedRows(load(photos), given)
        assert asked.pop() == wanted


def test_a_disk_that_is_gone_is_not_asked_for_every_file(photos, monkeypatch):
    data, tried = load(photos), []

    def gone(files, index):
        raise OSError("Input/output error")

    def attempt(files, preprocess, item):
        tried.append(item)
        return real(files, preprocess, item)

    real = feed_module.attempt
    monkeypatch.setattr(feed_module, "attempt", attempt)
    monkeypatch.setattr(type(data.encoded.files), "read", gone)
    message = error_of(lambda: list(rows(opened(data), 1)))
    assert "--feed encoded: 4 of 37 files can't be decoded" in message
    assert 3 <= len(tried) < 37  # the thread may be at the next batch by now
