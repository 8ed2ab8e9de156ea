"""Bad checkpoints, bad numbers, too little memory: little is lost, and a run says why it ends."""

from __future__ import annotations

import json
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import NARROW, assert_same_run, small

from fastinfogan import cli
from fastinfogan.config import preset_config
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.results.run import load_run
from fastinfogan.training import checkpoint, memory
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.memory import fitting_batch
from fastinfogan.training.trainer import train


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


@pytest.mark.parametrize("lacks", ["sha256", "window_count"])
def test_a_checkpoint_whose_json_lacks_something_says_what(copy, lacks):
    newest = list_checkpoints(copy / "checkpoints")[0].with_suffix(".json")
    described = json.loads(newest.read_text())
    del described[lacks]
    newest.write_text(json.dumps(described))
    told = []
    assert load_run(copy, tell=told.append).iteration == 5
    assert told[0].startswith("checkpoint step_") and f" {lacks}" in told[0]


def test_a_checkpoint_that_training_replaces_while_it_is_read_is_no_damage(copy, monkeypatch):
    listed, told = [*list_checkpoints(copy / "checkpoints")], []
    gone = listed[0].with_name("step_00000012.safetensors")
    answers = iter([[gone], listed])
    monkeypatch.setattr(checkpoint, "list_checkpoints", lambda folder: next(answers))
    (copy / "summary.json").unlink()
    assert load_run(copy, tell=told.append).iteration == 10 and told == []


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


def test_gradients_that_overflow_however_the_loss_is_scaled_stop_the_run(tmp_path, spoil):
    """Nothing is learned, though the losses are fine: the scale has gone below 1."""

    def before(engine, call):
        if call == 7:
            engine.loss_scale.restore(torch.tensor([0.5, 0.0]))

    spoil(before=before)
    says = "iteration 8: gradients aren't finite in float16, even of losses scaled by 0.5; .*"
    with pytest.raises(TrainingDiverged, match=says + "step_00000005.*run without --amp, or with"):
        train(small(tmp_path / "run", 12, amp=True, amp_dtype="float16"))


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


@pytest.mark.parametrize(("average", "fits"), [(0, {"cuda": 64, "cpu": 32}), (100, {"cpu": 8})])
def test_what_is_copied_for_a_checkpoint_counts(monkeypatch, average, fits):
    """Twice weights and moments, with means if there are any: never in the memory of a GPU."""
    config = preset_config("celeba")
    config = replace(config, optim=replace(config.optim, average=average))
    monkeypatch.setattr(memory, "total_memory", lambda device: 300e6)
    for device, batch in fits.items():
        assert fitting_batch(config, torch.device(device)) == batch
