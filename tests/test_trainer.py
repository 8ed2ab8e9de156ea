"""Training runs: what they leave behind, how they stop, and that they resume bit for bit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow import add_narrow_presets
from PIL import Image
from safetensors.torch import load_file
from tolerances import ENGINE_CHANGE

from fastinfogan import cli
from fastinfogan.config import (
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    from_dict,
    preset_config,
)
from fastinfogan.data import DATASETS, ImageData, find_dataset, load_images
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.results.run import Run, load_run
from fastinfogan.training import trainer
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.memory import fitting_batch
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.trainer import train

pytestmark = pytest.mark.usefixtures("narrow_presets")
# Sums in another order would be other bits: as many threads as conftest.py gives this process.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def few_digits():
    """A dataset of 256 digits, which takes less time to load and to put in order than 5,000."""
    digits = load_images("digits")
    rows = range(0, 19 * 256, 19)  # the digits are sorted by label
    few = ImageData("few-digits", digits.images[rows], digits.labels[rows], digits.label_names)
    entry = replace(find_dataset("digits"), name=few.name, load=lambda request: few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, few.name, entry)
        yield


def small(out: Path, iterations: int = 12, dataset: str = "few-digits", **run) -> TrainConfig:
    """The MNIST networks at a sixteenth of their width."""
    settings = {"log_every": 4, "sample_every": 0, "checkpoint_every": 5, **run}
    return TrainConfig(
        data=DataConfig(dataset),
        model=ModelConfig(preset="narrow-mnist"),
        optim=OptimConfig(iterations=iterations, batch_size=16),
        run=RunConfig(out=out, device="cpu", **settings),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that several tests read."""
    with pytest.MonkeyPatch.context() as patch:
        add_narrow_presets(patch)
        folder = tmp_path_factory.mktemp("runs") / "run"
        return train(small(folder, dataset="digits", sample_every=6))


def finish_briefly(patch: pytest.MonkeyPatch) -> None:
    """Runs end with a bare summary: evaluation and pictures take longer than the training here."""

    def finish(run, *args, **kwargs):
        (run.folder / "summary.json").write_text(json.dumps({"iterations": run.iteration}))

    patch.setattr(Run, "finish", finish)


@pytest.fixture
def brief(monkeypatch):
    finish_briefly(monkeypatch)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 15 iterations in one go, to compare with."""
    with pytest.MonkeyPatch.context() as patch:
        add_narrow_presets(patch)
        finish_briefly(patch)
        return train(small(tmp_path_factory.mktemp("straight") / "run", 15)).folder


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """The same run after 10 iterations, with checkpoints at 5 and 10."""
    with pytest.MonkeyPatch.context() as patch:
        add_narrow_presets(patch)
        finish_briefly(patch)
        return train(small(tmp_path_factory.mktemp("ten") / "run", 10)).folder


@pytest.fixture
def copy(ten, tmp_path, brief):
    """A copy of the run of 10 iterations; what continues it ends briefly."""
    return shutil.copytree(ten, tmp_path / "run")


def test_a_run_leaves_behind_what_it_should(finished):
    folder = finished.folder
    assert from_dict(json.loads((folder / "config.json").read_text())) == finished.config
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert row["mi_per_code"].keys() == {"c1_cat10", "c2_uni", "c3_uni"}
        assert row["mi"] == pytest.approx(sum(row["mi_per_code"].values()))
        assert row["ceiling"] == pytest.approx(2.302585 + 2 * 0.693147, abs=1e-5)
        # sigma = 1: a perfect Q's density is 1 / sqrt(2 pi)
        assert row["best_mi"] == pytest.approx(row["ceiling"] - 2 * 0.918939, abs=1e-5)
        # An untrained D can't tell: both of its terms are near log 2, G's likewise.
        assert 0.5 < row["d_loss"] < 2.5 and 0.2 < row["g_loss"] < 2.0
        assert row["images_per_s"] > 0
    names = {"samples", "traversal_c1_cat10", "traversal_c2_uni", "traversal_c3_uni"}
    assert {path.stem for path in folder.glob("*.png")} == names | {"curves"}
    assert {path.stem for path in (folder / "pictures").glob("*.png")} == {
        f"{name}_00000006" for name in names
    }
    for path in folder.rglob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(1 << 24)) > 2, path
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["iterations"] == 12
    assert summary["last_metrics"] == rows[-1]
    assert summary["config_sha256"] == finished.config.fingerprint()
    # Ten digits, 500 of each: one category for all would match one digit, 0.9.
    assert 0 < summary["evaluation"]["clusterings"][0]["error_hungarian"] <= 0.9
    assert list((folder / "tensorboard").iterdir())


def test_two_checkpoints_are_kept_and_hold_no_pickle(finished):
    found = list_checkpoints(finished.folder / "checkpoints")
    assert [path.name for path in found] == [
        "step_00000012.safetensors", "step_00000010.safetensors",
    ]  # fmt: skip
    for path in finished.folder.rglob("*"):
        assert path.suffix not in (".pt", ".pth", ".pkl")


def test_a_loaded_run_is_the_run(finished):
    loaded = load_run(finished.folder)
    assert loaded.iteration == 12
    for part in ("generator", "discriminator"):
        a, b = (getattr(run, part).state_dict() for run in (finished, loaded))
        assert all(torch.equal(a[k], b[k]) for k in a if not k.endswith("num_batches_tracked"))


def newest_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[0])


def assert_same_weights(a: Path, b: Path) -> None:
    """Every tensor of the last checkpoints, bit for bit."""
    left, right = newest_state(a), newest_state(b)
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]


def assert_same_run(a: Path, b: Path) -> None:
    """Every tensor of the last checkpoints, and every logged mean, bit for bit."""
    assert_same_weights(a, b)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (a, b)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["images_per_s"]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("preset", ["narrow-mnist", "narrow-digits"])
def test_sixty_iterations_are_thirty_and_thirty(tmp_path, engine, update, preset):
    """Preset digits has --consistency and --augment on, which draw numbers of their own."""

    def config(name, iterations):
        tree = small(tmp_path / name, iterations, engine=engine, log_every=10, checkpoint_every=30)
        model, optim = ModelConfig(preset=preset), replace(tree.optim, update=update)
        return replace(tree, model=model, optim=optim)

    straight = train(config("straight", 60)).folder
    train(config("halves", 30))
    halves = train(config("halves", 60), resume=tmp_path / "halves").folder
    assert_same_run(straight, halves)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastinfogan", "train", *arguments]


MLP = ("--preset", "mnist-mlp", "--device", "cpu", "--sample-every", "0", "--log-every", "7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_continues_as_if_nothing_had_happened(tmp_path, brief, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(*MLP, "--iterations", "1000000", "--out", str(out)), cwd=tmp_path, env=ONE_THREAD,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"fastinfogan train --resume {out}" in output and "Traceback" not in output
    done = int(re.search(r"after iteration (\d+) of", output).group(1))
    more = ("--iterations", str(done + 10))
    if number == signal.SIGINT:  # once as a user would; here it takes less long
        arguments = command("--resume", str(out), *more)
        subprocess.run(arguments, check=True, cwd=tmp_path, env=ONE_THREAD)
    else:
        assert cli.main(["train", "--resume", str(out), *more]) == 0
    assert cli.main(["train", *MLP, "--out", str(tmp_path / "straight"), *more]) == 0
    assert_same_run(out, tmp_path / "straight")


def test_a_crash_between_checkpoints_repeats_no_row(copy, straight):
    """Rows after the last checkpoint are dropped on resuming, then written again."""
    with open(copy / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 12, "d_loss": 0.0}\n{"iteration": 14, "d_l')
    train(small(copy, 15), resume=copy)
    rows = [row["iteration"] for row in read_metrics(copy / "metrics.jsonl")]
    assert rows == [4, 8, 10, 12, 15]
    assert_same_weights(copy, straight)


class Killed(BaseException):
    """What ends a session without a chance to save."""


@pytest.fixture
def spoil(monkeypatch):
    """spoil(before, after): hooks around every step of the engines that are built.

    Each gets the engine and the number of the step, from 1; ``after`` also the losses, and gives
    those that are reported.
    """

    def install(before=None, after=None):
        build = trainer.build_engine

        def build_spoilt(config, plan):
            engine = build(config, plan)
            step, calls = engine.step, iter(range(1, 1000))

            def spoilt(batch):
                call = next(calls)
                if before is not None:
                    before(engine, call)
                losses = step(batch)
                return losses if after is None else after(engine, call, losses)

            engine.step = spoilt
            return engine

        monkeypatch.setattr(trainer, "build_engine", build_spoilt)

    return install


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    tmp_path, straight, brief, capsys, spoil
):
    alive = True

    def kill(engine, call):
        if alive and call == 5:
            raise Killed

    spoil(before=kill)
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(small(folder, 15))
    assert not list_checkpoints(folder / "checkpoints")
    assert [row["iteration"] for row in read_metrics(folder / "metrics.jsonl")] == [4]
    alive = False
    train(resume=folder)
    assert "continuing after iteration 0" in capsys.readouterr().out
    assert_same_run(folder, straight)


# -- Damage ----------------------------------------------------------------------------------


def flip_in_json(path: Path) -> None:
    """One bit of one digit: iteration 10 becomes iteration 11."""
    text = path.with_suffix(".json").read_text()
    assert '"iteration": 10,' in text
    path.with_suffix(".json").write_text(text.replace('"iteration": 10,', '"iteration": 11,'))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "flipped": flip,
    "json cut": lambda path: path.with_suffix(".json").write_text('{"iteration": 1'),
    "json flipped": flip_in_json,
    "json of something else": lambda path: path.with_suffix(".json").write_text("[]"),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(copy, straight, capsys, damage):
    newest, _ = list_checkpoints(copy / "checkpoints")
    DAMAGES[damage](newest)
    left = {path.name for path in (copy / "checkpoints").glob(f"{newest.stem}.*")}
    resumed = train(small(copy, 15), resume=copy)
    said = capsys.readouterr().out
    assert f"{newest.name} is damaged" in said and "continuing after iteration 5" in said
    assert resumed.iteration == 15
    assert_same_run(copy, straight)
    # The good one before stays until two newer ones are whole; the damaged one is kept for a look.
    assert {path.name for path in (copy / "checkpoints").iterdir()} == {
        *(f"{name}.damaged" for name in left),
        *(f"step_000000{n}.{kind}" for n in (10, 15) for kind in ("json", "safetensors")),
    }


def test_a_damaged_checkpoint_is_passed_over_when_a_run_is_read(copy):
    newest, _ = list_checkpoints(copy / "checkpoints")
    flip(newest)
    told = []
    run = load_run(copy, tell=told.append)
    assert run.iteration == 5
    (line,) = told
    assert line.startswith(f"checkpoint {newest.name} is damaged, passed over: ")
    assert newest.exists()  # reading changes nothing


def test_no_usable_checkpoint_is_an_error(copy):
    for path in list_checkpoints(copy / "checkpoints"):
        path.write_bytes(b"")
    for _ in range(2):  # and stays one: iterations were done, and starting anew would lose them
        with pytest.raises(UserError, match="no usable checkpoint.*00000010.*00000005"):
            train(small(copy, 15), resume=copy)


def test_what_a_killed_session_left_half_written_goes_at_the_next_save(copy):
    folder = copy / "checkpoints"
    for name in (".step_00000012.json.1.tmp", "step_00000012.safetensors"):
        (folder / name).write_bytes(b"half")
    train(small(copy, 15), resume=copy)
    assert {path.stem for path in folder.iterdir()} == {"step_00000010", "step_00000015"}


# -- Divergence and lack of memory -----------------------------------------------------------


def bad_loss(value):
    def after(engine, call, losses):
        return losses._replace(g_loss=losses.g_loss * value) if call == 7 else losses

    return {"after": after}


def bad_weight(network):
    def before(engine, call):
        if call == 7:
            next(getattr(engine, network).parameters()).data.view(-1)[0] = float("nan")

    return {"before": before}


SPOILT = {
    "nan in a loss": (bad_loss(float("nan")), "g_loss is nan"),
    "inf in a loss": (bad_loss(float("inf")), "g_loss is inf"),
    "nan in G": (bad_weight("generator"), "d_loss is nan"),
    "nan in D": (bad_weight("discriminator"), "d_loss is nan"),
}


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_bad_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, spoil, engine, spoilt
):
    hooks, says = SPOILT[spoilt]
    spoil(**hooks)
    with pytest.raises(TrainingDiverged, match=f"iteration 8: {says}.*step_00000005"):
        train(small(tmp_path / "run", 12, engine=engine))
    (kept,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert kept.name == "step_00000005.safetensors"
    assert all(torch.isfinite(t).all() for t in load_file(kept).values())


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_bad_weights_are_never_saved(tmp_path, spoil, engine):
    """Losses can still be finite when the update after them has already broken a weight."""

    def after(engine, call, losses):
        if call == 10:
            engine.generator.layers[0].op.weight.data[0, 0] = float("nan")
        return losses

    spoil(after=after)
    with pytest.raises(TrainingDiverged, match="layers.0.op.weight is not finite"):
        train(small(tmp_path / "run", 12, engine=engine))
    (kept,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert kept.name == "step_00000005.safetensors"


NARROW = (
    "train", "--dataset", "few-digits", "--preset", "narrow-mnist", "--device", "cpu",
    "--batch-size", "16", "--iterations", "12", "--log-every", "4",
)  # fmt: skip


def too_large(engine, call):
    torch.empty(1 << 60, dtype=torch.uint8)  # more than any address space


def out_of_gpu_memory(engine, call):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")


@pytest.mark.parametrize(
    ("hooks", "code", "says"),
    [
        (bad_weight("generator"), 1, "fastinfogan: stopped: iteration 8: d_loss is nan"),
        ({"before": out_of_gpu_memory}, 2, "fastinfogan: error: --batch-size 16: "),
        ({"before": too_large}, 2, "fastinfogan: error: "),
    ],
)
def test_the_command_says_in_one_line_why_a_run_stopped(tmp_path, spoil, capsys, hooks, code, says):
    spoil(**hooks)
    assert cli.main([*NARROW, "--out", str(tmp_path / "run")]) == code
    err = capsys.readouterr().err
    assert err.startswith(says) and err.count("\n") == 1


@pytest.mark.parametrize(("gigabytes", "fits"), [(80, 64), (1, 64), (0.14, 16), (0.001, 2)])
def test_the_batch_that_is_proposed_fits_the_memory(monkeypatch, gigabytes, fits):
    """A power of two below the 128 asked for: celeba counts 82 MB, and 1.1 MB an image."""
    properties = types.SimpleNamespace(total_memory=gigabytes * 1e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert fitting_batch(preset_config("celeba"), torch.device("cuda")) == fits


# -- Profiling ---------------------------------------------------------------------------------


def test_profile_leaves_a_trace_and_names_the_five_most_expensive_things(tmp_path, capsys):
    """The trace is Chrome's format; the run is the one that it would be without."""
    out = tmp_path / "run"
    assert cli.main([*NARROW, "--profile", "--out", str(out)]) == 0
    trace = json.loads((out / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert "aten::mm" in names
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "trace.json" in line)
    shares = [float(line.split("%")[0]) for line in lines[at + 2 : at + 7]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100
    plain = tmp_path / "plain"
    assert cli.main([*NARROW, "--out", str(plain)]) == 0
    a, b = (load_file(path / "generator.safetensors") for path in (out, plain))
    assert all(torch.equal(a[name], b[name]) for name in a)


# -- Resuming with something else --------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("optim", {"lr_g": 5e-4}, "--lr-g 0.0005: .* started with 0.001"),
        ("optim", {"batch_size": 8}, "--batch-size 8"),
        ("optim", {"objective": "gan"}, "--objective gan"),
        ("model", {"codes": "cat10"}, "--codes cat10: .* cat10,2xuni"),
        ("model", {"noise": 3}, "--noise 3"),
        ("run", {"seed": 1}, "--seed 1"),
    ],
)
def test_an_incompatible_configuration_is_refused_by_field(finished, part, change, says):
    config = small(finished.folder, 20, dataset="digits")
    config = replace(config, **{part: replace(getattr(config, part), **change)})
    with pytest.raises(UserError, match=says):
        train(config, resume=finished.folder)


def test_other_images_are_refused(tmp_path, brief):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(20):
        Image.new("L", (28, 28), 10 * i).save(images / f"{i:02d}.png")
    config = replace(
        small(tmp_path / "run", 5), data=DataConfig("folder", images, image_size=28, channels=1)
    )
    train(config)
    Image.new("L", (28, 28), 255).save(images / "07.png")
    longer = replace(config, optim=replace(config.optim, iterations=10))
    with pytest.raises(UserError, match="--data-dir .* not the images"):
        train(longer, resume=tmp_path / "run")


def test_a_finished_run_asks_for_more_iterations(finished):
    with pytest.raises(UserError, match="--iterations 12: .* has done 12"):
        train(resume=finished.folder)


def test_a_run_cut_short_while_finishing_is_finished_on_resuming(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", killed)
        with pytest.raises(Killed):
            train(small(tmp_path / "run", 5))
    assert not (tmp_path / "run" / "summary.json").exists()
    train(resume=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 5


def trained_weights(folder: Path) -> torch.Tensor:
    """All weights and running statistics of the newest checkpoint as one vector."""
    state = newest_state(folder)
    networks = ("generator.", "discriminator.")
    return torch.cat([state[k].double().flatten() for k in sorted(state) if k.startswith(networks)])


def test_engines_may_change_on_the_way(copy, straight):
    before = trained_weights(copy)
    train(small(copy, 15, engine="reference"), resume=copy)
    moved, expected = trained_weights(copy), trained_weights(straight)
    way = (expected - before).abs().median()
    assert (moved - expected).abs().median() <= ENGINE_CHANGE * way


@pytest.mark.usefixtures("brief")
def test_seeds_and_repetition(tmp_path, straight):
    """The same seed gives the same run; another one another."""
    assert_same_run(train(small(tmp_path / "again", 15)).folder, straight)
    other = newest_state(train(small(tmp_path / "other", 15, seed=1)).folder)
    weight = "generator.layers.0.op.weight"
    assert not torch.equal(newest_state(straight)[weight], other[weight])


def test_out_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        train(small(tmp_path / "file" / "run", 5))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--out .*empty exists already"):
        train(small(tmp_path / "empty", 5))
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="--out"):
            train(small(tmp_path / "run", 5))


def test_resuming_with_another_out_is_refused(finished, tmp_path):
    config = small(tmp_path / "other", 20, dataset="digits")
    with pytest.raises(UserError, match="--out .*other: .* stays in"):
        train(config, resume=finished.folder)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("model", "noise", None), ("model", "preset", "mnits"), ("optim", "lr_g", -1.0)],
)
def test_a_config_that_is_not_a_runs_is_refused(copy, part, field, value):
    path = copy / "config.json"
    tree = json.loads(path.read_text())
    tree[part][field] = value
    path.write_text(json.dumps(tree))
    for use in (lambda: train(resume=copy), lambda: load_run(copy)):
        with pytest.raises(UserError) as refused:
            use()
        assert "config.json" in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_were_skipped_are_named_at_the_start(tmp_path, brief, capsys):
    """One unreadable image among 101 is passed over, but not in silence."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(100):
        Image.new("L", (28, 28), i).save(images / f"{i:03d}.png")
    (images / "broken.png").write_bytes(b"damaged")
    config = replace(
        small(tmp_path / "run", 1), data=DataConfig("folder", images, image_size=28, channels=1)
    )
    train(config)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("100 1x28x28 images") for line in lines)
    assert "files skipped: 1 ('broken.png')" in lines
