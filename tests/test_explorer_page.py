"""explorer.html: one file that holds all it needs, written by ``fastinfogan explore``."""

from __future__ import annotations

import base64
import json
import re
import shutil
import webbrowser

import pytest
import torch
from explorers import FAMILIES
from generator_files import exported
from pages import Elements
from safetensors.torch import load

from fastinfogan.cli import main
from fastinfogan.results.explorer.packed import MOST_CHANGE, packed
from fastinfogan.results.explorer.page import explorer_page
from fastinfogan.results.generator_file import export_generator, load_generator

pytestmark = pytest.mark.usefixtures("narrow_presets")


def test_the_page_asks_for_nothing_outside_itself(tmp_path):
    path, _, _ = exported(tmp_path, "narrow-mnist")
    page = explorer_page(path.read_bytes(), load_generator(path), "a run", "runs/a")
    elements = Elements(page)
    assert not [
        (tag, name)
        for tag, attributes in elements.found
        for name in ("src", "href", "srcset", "action")
        if name in attributes
    ]
    assert {tag for tag, _ in elements.found} & {"link", "iframe", "object", "form"} == set()
    text = page.decode()
    assert "@import" not in text and "url(" not in text
    assert re.findall(r"https?://\S+", text) == []
    (policy,) = (a["content"] for _, a in elements.found if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.replace("'wasm-unsafe-eval'", "") and "connect-src" not in policy
    inside, _ = packed(path.read_bytes(), load_generator(path))
    assert base64.b64decode(elements.text("generator")) == inside


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<!--<script>", "{{generator}}", 'a"b\\c', "ü ☃"]
)
def test_a_name_is_text_and_nothing_else(tmp_path, name):
    path, _, _ = exported(tmp_path, "narrow-mnist")
    content, trained = path.read_bytes(), load_generator(path)
    plain = Elements(explorer_page(content, trained, "a run", "runs/a"))
    odd = Elements(explorer_page(content, trained, name, name))
    assert odd.found == plain.found
    settings = json.loads(odd.text("settings"))
    assert (settings["name"], settings["source"]) == (name, name)


@pytest.mark.parametrize("preset", FAMILIES)
def test_weights_take_two_bytes_where_nobody_sees_it(tmp_path, preset):
    path, _, _ = exported(tmp_path, preset)
    trained, content = load_generator(path), path.read_bytes()
    short, precision = packed(content, trained)
    assert packed(content, trained) == (short, precision)
    tensors, whole = load(short), load(content)
    for name, weight in whole.items():
        if not name.endswith("op.weight"):
            torch.testing.assert_close(tensors.pop(name), weight, rtol=0, atol=0)
            continue
        scale = tensors.pop(f"{name}.scale")
        assert tensors[name].dtype == torch.int16 and scale.dtype == torch.float32
        output = 0 if weight.dim() == 2 else 1
        beside = scale.view([-1 if d == output else 1 for d in range(weight.dim())])
        apart = (tensors.pop(name).double() * beside - weight.double()).abs() / beside
        assert apart.max() <= 0.501  # rounded to the nearest, the quotient in single precision
    assert not tensors
    said = float(re.search(r"by more than ([0-9.]+) of 255 levels", precision)[1])
    assert 0 < said <= MOST_CHANGE


def test_weights_stay_as_they_are_where_one_would_see_it(tmp_path):
    path, generator, config = exported(tmp_path, "narrow-mnist")
    with torch.no_grad():  # a digit's edge becomes so steep that a rounded weight moves it
        generator.layers[-1].op.weight.mul_(1000.0)
    export_generator(path, generator, config, iteration=7)
    content, precision = packed(path.read_bytes(), load_generator(path))
    assert content == path.read_bytes() and precision.startswith("as exact as the file")
    page = Elements(explorer_page(content, load_generator(path), "a run", "runs/a"))
    assert json.loads(page.text("settings"))["precision"] == precision


def test_explore_writes_into_the_run_and_opens_what_it_wrote(
    small_run, tmp_path, capsys, monkeypatch
):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":7")
    run = tmp_path / "a run"
    shutil.copytree(small_run, run)
    assert main(["explore", str(run)]) == 0
    page = run / "explorer.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert opened == [page.as_uri()]
    settings = json.loads(Elements(page.read_bytes()).text("settings"))
    assert (settings["name"], settings["source"]) == ("a run", f"'{run}'")
    assert main(["explore", str(run / "generator.safetensors"), "--no-open"]) == 0
    assert len(opened) == 1
    other = tmp_path / "x.html"
    assert main(["explore", str(run), "--no-open", "--output", str(other)]) == 0
    assert capsys.readouterr().out.endswith(f"{other}\n")
    assert Elements(other.read_bytes()).found == Elements(page.read_bytes()).found


def test_without_a_desktop_nothing_is_opened(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("opened"))
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["explore", str(small_run), "--output", str(tmp_path / "x.html")]) == 0


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["RUN", "--output", "x.png"], "--output x.png: names ending in .html work"),
        (["RUN", "--output", "missing/x.html"], "name a file in a folder that exists"),
        (["missing"], "missing"),
        (["RUN/config.json"], "is no generator file"),
    ],
)
def test_mistakes_take_one_line(small_run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("RUN", str(small_run)) for word in arguments]
    assert main(["explore", *words, "--no-open"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
