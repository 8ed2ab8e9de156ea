"""export --format hub: a folder that a stranger loads with huggingface_hub, and its card."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_files import exported, randomized
from narrow import narrow_presets
from PIL import Image
from tolerances import GENERATOR_FILE

from fastinfogan import load_generator, load_run
from fastinfogan.cli import main
from fastinfogan.config import preset_config
from fastinfogan.errors import UserError
from fastinfogan.files import write_folder
from fastinfogan.model.networks import Generator
from fastinfogan.results.export import card
from fastinfogan.results.export.hub import write_hub
from fastinfogan.results.generator_file import export_generator

pytestmark = pytest.mark.usefixtures("narrow_presets")
FILES = {"README.md", "config.json", "model.safetensors", "modeling_infogan.py"}
LABELS = {"c1_cat10": [*"01234567", "a|b</td>\n_c*", None]}


@pytest.fixture(scope="module")
def hub(small_run, tmp_path_factory):
    """The folder of a small run; don't write."""
    folder = tmp_path_factory.mktemp("hub") / "infogan"
    with narrow_presets():
        assert main(["export", str(small_run), "--format", "hub", "--output", str(folder)]) == 0
    return folder


def loaded(folder):
    """The generator, as the folder's own program reads it."""
    pytest.importorskip("huggingface_hub", reason="the hub's own loader")
    place = importlib.util.spec_from_file_location("modeling", folder / "modeling_infogan.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module.InfoGANGenerator.from_pretrained(folder, strict=True)


def test_the_folder_holds_what_a_hub_needs(small_run, hub):
    names = {str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}
    traversals = {f"images/traversal_{name}.png" for name in ("c1_cat10", "c2_uni", "c3_uni")}
    assert names == {*FILES, "images/samples.png", *traversals}
    trained = load_run(small_run).trained_generator()
    trained.generator.eval()
    for name, grid in trained.pictures().items():
        with Image.open(hub / "images" / f"{name}.png") as file:
            np.testing.assert_array_equal(np.asarray(file), grid[:, :, 0])
    assert (hub / "model.safetensors").read_bytes() == (
        small_run / "generator.safetensors"
    ).read_bytes()
    assert load_generator(hub / "model.safetensors").spec.names == trained.spec.names


def test_the_cards_code_runs_and_draws_our_images(small_run, hub):
    """Word for word, beside the folder, with no network and without this package."""
    pytest.importorskip("huggingface_hub", reason="the hub's own loader")
    (code,) = re.findall(r"```python\n(.*?)```", (hub / "README.md").read_text(), re.DOTALL)
    before = "import sys; sys.modules['fastinfogan'] = None\n"
    after = """
import json
latents = generator.latents(16, seed=0, c1=1, c2=-1.5)
assert (generator(latents) == images).all() and not generator.training
print(json.dumps([latents.tolist(), images.tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", before + code + after],
        cwd=hub.parent, env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    latents, images = (np.array(part, np.float32) for part in said)
    assert images.shape == (16, 1, 28, 28)
    noise = load_run(small_run).config.spec.noise
    np.testing.assert_array_equal(latents[:, noise : noise + 10], np.eye(10)[[1] * 16])
    assert (latents[:, noise + 10] == -1.5).all()
    drawn = latents[:, noise + 11]
    assert np.abs(drawn).max() <= 1 and drawn.std() > 0.2
    with torch.no_grad():
        ours = load_generator(hub / "model.safetensors").generator(torch.from_numpy(latents))
    np.testing.assert_allclose(images, ours.numpy(), rtol=0, atol=GENERATOR_FILE)


def at(tmp_path, preset, **changes):
    """The folder of a preset's generator with random weights, and its file."""
    config = preset_config(preset)
    config = replace(config, model=replace(config.model, **changes))
    generator = randomized(Generator(config.architecture, config.spec))
    path = tmp_path / "g.safetensors"
    export_generator(path, generator, config, iteration=1)
    write_hub(tmp_path / "infogan", path.read_bytes(), None)
    return tmp_path / "infogan", load_generator(path)


@pytest.mark.parametrize(
    "preset, codes",
    [("narrow-celeba", "uni,gauss,bern"), ("narrow-chairs-rotation", "cat3,bern"),
     ("mnist-mlp", "cat2,gauss:free")],
)  # fmt: skip
def test_every_family_and_kind_of_code_is_read_back(tmp_path, preset, codes):
    folder, trained = at(tmp_path, preset, codes=codes)
    generator, latents = loaded(folder), trained.spec.assemble(*trained.latents(3))
    low, high = trained.output_range
    with torch.no_grad():
        expected = (trained.generator(latents) - low) / (high - low)
        torch.testing.assert_close(generator(latents), expected, rtol=0, atol=GENERATOR_FILE)
    drawn = generator.latents(500, seed=1, c1=0)
    assert torch.equal(drawn, generator.latents(500, seed=1, c1=0))
    assert not torch.equal(generator.latents(5, c1=0), generator.latents(5, c1=0))
    noise = trained.spec.noise
    assert (drawn[:, :noise].std(0) - 1).abs().max() < 0.25  # of 500 each
    first, *others = drawn[:, noise:].split([c.input_width for c in trained.spec.codes], dim=1)
    by_hand = torch.eye(first.shape[1])[0] if trained.spec.codes[0].has_categories else 0.0
    assert (first == by_hand).all()
    for code, own in zip(trained.spec.codes[1:], others, strict=True):
        if code.kind == "bernoulli":
            assert set(own[:, 0].tolist()) == {0.0, 1.0}
        else:
            assert code.kind == "gaussian" and abs(own.std() - 1) < 0.25


def test_codes_that_can_not_be_are_named(tmp_path):
    generator = loaded(at(tmp_path, "mnist-mlp", codes="cat3,uni")[0])
    with pytest.raises(ValueError, match="c9: no such code; there are c1, c2"):
        generator.sample(2, c9=1)
    for value in (3, -1, 0.5, torch.tensor([0, 7])):
        with pytest.raises(ValueError, match="c1: whole numbers from 0 to 2 work"):
            generator.sample(2, c1=value)
    each = generator.latents(2, c1=torch.tensor([2, 0]), c2=torch.tensor([0.5, -3.0]))
    expected = torch.tensor([[0, 0, 1, 0.5], [1, 0, 0, -3.0]])
    assert torch.equal(each[:, -4:], expected)


def test_batchnorm_has_the_statistics_of_training_whoever_builds_the_module(tmp_path):
    """huggingface_hub 1.0 leaves it in training mode."""
    folder, _ = at(tmp_path, "narrow-mnist")
    described = json.loads((folder / "config.json").read_text())
    assert not type(loaded(folder))(**described).training


def test_the_mixin_writes_and_reads_its_own_again(tmp_path):
    folder, _ = at(tmp_path, "mnist-mlp")
    generator = loaded(folder)
    generator.save_pretrained(tmp_path / "again")
    again = type(generator).from_pretrained(tmp_path / "again")
    assert torch.equal(again.sample(2, seed=1), generator.sample(2, seed=1))


def test_the_program_needs_nothing_of_ours(hub):
    text = (hub / "modeling_infogan.py").read_text()
    imported = {word.split(".")[0] for word in re.findall(r"^(?:from|import) (\S+)", text, re.M)}
    assert imported == {"__future__", "torch", "huggingface_hub"}


# -- The card -------------------------------------------------------------------------------------


def test_the_cards_metadata_are_read_by_the_hubs_own_parser(hub):
    library = pytest.importorskip("huggingface_hub", reason="the hub's own parser")
    read = library.ModelCard.load(hub / "README.md")
    assert read.data.library_name == "fastinfogan"
    assert read.data.pipeline_tag == "unconditional-image-generation"
    assert {"infogan", "pytorch_model_hub_mixin"} <= set(read.data.tags)
    assert read.data.license is None  # the user's to choose


def test_the_card_says_what_the_run_knows(small_run, hub):
    text = (hub / "README.md").read_text()
    summary = json.loads((small_run / "summary.json").read_text())["evaluation"]
    (c1, c2, _) = summary["codes"]
    assert "# InfoGAN generator: digits" in text and "in 6 iterations on `digits`" in text
    assert f"{c1['mi']:.3f} of {c1['entropy']:.3f} nats" in text
    assert f"correlation {c2['correlation']:.2f}" in text
    error = min(c["error_hungarian"] for c in summary["clusterings"])
    assert f"categories are wrong for {error:.1%}" in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (hub / picture).is_file()
    assert len(re.findall(r"!\[", text)) == 4
    assert max(map(len, text.splitlines())) <= 200


def test_a_card_without_an_evaluation_leaves_it_out_and_quotes_labels(tmp_path):
    path, _, _ = exported(tmp_path, "narrow-mnist", code_to_label=LABELS)
    write_hub(tmp_path / "infogan", path.read_bytes(), None)
    text = (tmp_path / "infogan" / "README.md").read_text()
    assert "what Q reads" not in text and "wrong for" not in text
    row = next(line for line in text.splitlines() if line.startswith("| `c1`"))
    assert r"8: a\|b\<\/td\>\\n\_c\*, 9: none |" in row
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}


# -- The place ------------------------------------------------------------------------------------


def export(run, folder, capsys):
    code = main(["export", str(run), "--format", "hub", "--output", str(folder)])
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    return code, out, err


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_takes_the_place_of_an_earlier_one(small_run, tmp_path, capsys):
    folder = tmp_path / "my hub"
    for preset in ("narrow-mnist", None):  # another generator's, then this run's
        if preset:
            path, _, _ = exported(tmp_path, "mnist-mlp")
            folder.mkdir()  # an empty folder will do
            write_hub(folder, path.read_bytes(), None)
            assert not (folder / "images" / "traversal_c2_uni.png").exists()
            path.unlink()
        else:
            code, out, err = export(small_run, folder, capsys)
            assert (code, out) == (0, f"{folder}\n")
            says = f"then, with huggingface_hub installed: hf upload USER/NAME '{folder}'\n"
            assert f"give its README.md a licence; {says}" in err
            (folder / "__pycache__").mkdir()  # as if its program had run
            (folder / "__pycache__" / "modeling_infogan.cpython-311.pyc").touch()
    code, out, err = export(small_run, folder, capsys)
    assert code == 0, err
    assert {path.name for path in folder.iterdir()} == {*FILES, "images"}
    assert (folder / "images" / "traversal_c2_uni.png").exists()
    assert [*tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize("change", ["card", "file", "picture", "foreign", "no card"])
def test_what_somebody_has_added_stays(small_run, hub, tmp_path, capsys, change):
    folder = shutil.copytree(hub, tmp_path / "infogan")
    text = (folder / "README.md").read_text()
    says = "README.md is not as an export wrote it; move it away"
    if change == "card":
        (folder / "README.md").write_text(text.replace("# license: ", "license: mit  # "))
    elif change == "no card":
        (folder / "README.md").unlink()
    elif change == "foreign":
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "README.md").write_text("mine\n")
    else:
        name = {"file": ".git/config", "picture": "images/mine.jpg"}[change]
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        says = f"{name} in it is not of an export; --output names another place"
    before = everything(folder)
    code, out, err = export(small_run, folder, capsys)
    assert (code, out) == (2, "") and says in err
    assert everything(folder) == before


@pytest.mark.parametrize("output", ["nowhere/hub", "file"])
def test_a_folder_that_can_not_be_is_refused_before_any_work(small_run, tmp_path, capsys, output):
    (tmp_path / "file").write_text("mine")
    code, _, err = export(small_run, tmp_path / output, capsys)
    assert code == 2 and f"--output {tmp_path / output}: name a folder to make" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_without_output_it_lies_in_the_run(small_run, tmp_path, capsys):
    run = shutil.copytree(small_run, tmp_path / "run")
    assert main(["export", str(run), "--format", "hub"]) == 0
    assert capsys.readouterr().out == f"{run / 'hub'}\n"
    assert load_run(run).export(format="hub") == run / "hub"
    assert {path.name for path in (run / "hub").iterdir()} == {*FILES, "images"}


def test_the_marked_line_tells_an_edited_card():
    text = b"text\n"
    ours = text + card._mark(text)
    assert card.is_as_written(ours)
    for other in (text, b"", b"more " + ours, ours + b"more", ours.replace(b"text", b"test")):
        assert not card.is_as_written(other)


@pytest.mark.parametrize("fails_at", ["content", "move"])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch, fails_at):
    folder = tmp_path / "f"
    write_folder(folder, {"a": b"1", "b/c": b"2"})
    left = tmp_path / ".f.4194999.parts"  # a process that isn't there any more
    left.mkdir()
    files = {"a": b"3", "d": b"4"}

    def fail(source, target):
        if Path(target) == folder and Path(source).name == "new":
            raise OSError(28, "No space left on device")
        rename(source, target)

    rename = os.rename
    with monkeypatch.context() as patch:
        if fails_at == "move":
            patch.setattr(os, "replace", fail)
        else:
            files["e"] = None
        with pytest.raises((OSError, TypeError)) as failed:
            write_folder(folder, files)
    if fails_at == "move":
        assert failed.value.filename == str(folder)
    assert {str(p.relative_to(folder)): c for p, c in everything(folder).items()} == {
        "a": b"1", "b/c": b"2",
    }  # fmt: skip
    assert [*tmp_path.iterdir()] == [folder]
    del files["e" if fails_at == "content" else "d"]
    write_folder(folder, files)
    assert {path.name for path in folder.iterdir()} == set(files)


def test_what_can_not_be_exported_is_said_in_one_line(small_run, tmp_path):
    run = load_run(small_run)
    with torch.no_grad():
        next(run.generator.parameters()).fill_(float("nan"))
    for format in ("onnx", "hub", "safetensors"):
        with pytest.raises(UserError, match="is not written: tensor .* NaN"):
            run.export(tmp_path / "x", format)
    with pytest.raises(UserError, match="format 'pt': safetensors, onnx, onnx-latents, hub work"):
        run.export(format="pt")
    assert not [*tmp_path.iterdir()]
