"""examples/: every loader gives the golden images, in the language that it is written in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from chromium import MISSING, PROGRAM, Page
from explorers import NO_NODE, NODE, in_node
from PIL import Image
from safetensors.torch import load_file
from tolerances import GOLDEN

from examples import EXAMPLES, GOLDEN_FILES, example, golden
from fastinfogan import load_generator
from fastinfogan.results.generator_file import metadata_of
from fastinfogan.results.pictures import to_uint8

FILE = GOLDEN_FILES / "generator.safetensors"
SAID = golden()
LATENTS = np.array(SAID["latents"], np.float32)
IMAGES = np.array(SAID["images"], np.float32).reshape(SAID["shape"])
PIXELS = np.array(SAID["pixels"], np.int64).reshape(SAID["pixels_shape"])
CODES = {name: np.array(values) for name, values in SAID["codes"].items()}
needs_node = pytest.mark.skipif(NODE is None, reason=NO_NODE)


def close(images):
    np.testing.assert_allclose(images, IMAGES, rtol=0, atol=GOLDEN)


def test_fastinfogan_itself_gives_the_golden_images():
    generator = load_generator(FILE)
    with torch.no_grad():
        images = generator.generator(torch.from_numpy(LATENTS))
    close(images.numpy())
    assert np.abs(to_uint8(images, generator.output_range).astype(int) - PIXELS).max() <= 1


def test_numpy_gives_the_golden_images():
    numpy = example("load_generator_numpy")
    tensors, header = numpy.read(FILE)
    latents = numpy.latents_of(SAID["noise"], CODES, header["latent_spec"])
    np.testing.assert_array_equal(latents, LATENTS)
    images = numpy.generate(latents, header["architecture"], tensors)
    assert images.dtype == np.float32
    close(images)


def test_pytorch_gives_the_golden_images():
    torch_example = example("load_generator")
    tensors, header = torch_example.read(FILE)
    images = torch_example.generate(torch.from_numpy(LATENTS), header["architecture"], tensors)
    close(images.numpy())


def test_onnxruntime_gives_the_golden_images():
    pytest.importorskip("onnxruntime", reason="pip install 'fastinfogan[onnx]'")
    onnx = example("load_generator_onnx")
    session, said = onnx.read(GOLDEN_FILES / "generator.onnx")
    assert said["image_shape"] == SAID["shape"][1:]
    inputs = {"noise": np.array(SAID["noise"], np.float32)}
    for item in said["inputs"][1:]:
        inputs[item["name"]] = CODES[item["name"]].astype(item["dtype"])
    (images,) = session.run(["images"], inputs)
    close(images * 2 - 1)
    session, _ = onnx.read(GOLDEN_FILES / "generator_latents.onnx")
    (images,) = session.run(["images"], {"latents": LATENTS})
    close(images * 2 - 1)


@needs_node
def test_javascript_gives_the_golden_images_in_node():
    program = """
        const fs = require("node:fs"), [folder, script] = process.argv.slice(1);
        const own = require(script), said = JSON.parse(fs.readFileSync(`${folder}/images.json`));
        const file = new Uint8Array(fs.readFileSync(`${folder}/generator.safetensors`));
        const generator = own.readGenerator(file);
        const out = { latents: [], images: [], pixels: [], labels: generator.labels };
        said.noise.forEach((noise, n) => {
          const values = Object.fromEntries(
            Object.entries(said.codes).map(([name, own]) => [name, own[n]]));
          const latents = own.latentsOf(generator.spec, noise, values);
          const image = own.generate(generator, latents);
          out.latents.push([...latents]);
          out.images.push([...image]);
          out.pixels.push([...own.toPixels(generator, image)]);
        });
        console.log(JSON.stringify(out));
    """
    script = EXAMPLES / "load_generator.js"
    done = subprocess.run(
        [NODE, "-e", program, str(GOLDEN_FILES), str(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(said["latents"], np.float32), LATENTS)
    close(np.array(said["images"], np.float32).reshape(IMAGES.shape))
    pixels = np.array(said["pixels"]).reshape(*PIXELS.shape[:3], 4)
    assert (pixels[..., 3] == 255).all() and np.abs(pixels[..., :3] - PIXELS).max() <= 1
    assert said["labels"] == {"c1_cat4": ["circle", "Größe <b>", None, "4"]}


@needs_node
def test_the_explorers_own_programs_give_the_images_of_this_file():
    """Sides of two lengths, and every activation: no preset has them."""
    (answer,) = in_node({"file": FILE, "seed": 2, "count": 5, "set": [None] * 5})
    images = np.array(answer["pixels"]).reshape(5, 16, 12, 3)
    assert np.abs(images - load_generator(FILE).sample(5, seed=2)).max() <= 1


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_the_page_draws_the_golden_images(tmp_path):
    garbage = tmp_path / "<b>garbage.safetensors"
    garbage.write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    read = "document.querySelector('#image').toDataURL().split(',')[1]"
    message = "document.querySelector('#message').textContent"
    with Page(EXAMPLES / "browser" / "index.html", tmp_path / "profile") as page:
        page.choose_file("#file", garbage)
        page.until(f"{message}.includes('can\\'t be used')")
        page.choose_file("#file", FILE)
        page.until(f"{message} === 'generator.safetensors: images of 3 x 16 x 12'")
        for n, noise in enumerate(SAID["noise"]):
            page.run(f"noise = {json.dumps(noise)}")  # a page has no other way to say which
            for name, values in SAID["codes"].items():
                page.run(
                    f"(() => {{ const input = document.getElementById('{name}');"
                    f"input.value = {values[n]}; input.dispatchEvent(new Event('input')); }})()"
                )
            drawn = page.run(read)
            with Image.open(BytesIO(base64.b64decode(drawn))) as picture:
                pixels = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(pixels - PIXELS[n]).max() <= 1
            label = page.run("document.querySelector('#codes output').textContent")
            assert label == ["circle", "Größe <b>", "2", "4", "4", "circle"][n]
        page.run("document.querySelector('#again').click()")
        assert page.run(read) != drawn
        page.screenshot(tmp_path / "page.png")
        assert page.complaints == []


# -- As they are started ---------------------------------------------------------------------------


def started(*words, where):
    return subprocess.run(
        [str(word) for word in words], cwd=where, capture_output=True, text=True, timeout=300
    )


def grid(pixels):
    """64 images as the examples lay them out."""
    return pixels.reshape(8, 8, 16, 12, 3).swapaxes(1, 2).reshape(128, 96, 3)


def test_numpy_draws_a_category(tmp_path):
    script = EXAMPLES / "load_generator_numpy.py"
    without = "import runpy, sys; sys.modules.update(torch=None, safetensors=None)"
    code = f"{without}; runpy.run_path({str(script)!r}, run_name='__main__')"
    words = (sys.executable, "-c", code, FILE, "--category")
    done = started(*words, "1", "--seed", "3", where=tmp_path)
    assert (done.returncode, done.stdout) == (0, "category 1 shows Größe <b>\n"), done.stderr
    numpy, trained = example("load_generator_numpy"), load_generator(FILE)
    _, header = numpy.read(FILE)
    drawn = numpy.draw(64, header["latent_spec"], np.random.default_rng(3), {"c1": 1})
    latents = torch.from_numpy(numpy.latents_of(*drawn, header["latent_spec"]))
    with torch.no_grad():
        expected = to_uint8(trained.generator(latents), trained.output_range).astype(int)
    assert (latents[:, 5:9] == torch.eye(4)[1]).all() and latents[:, 9].abs().max() <= 1
    assert latents[:, :5].std() > 0.8 and set(latents[:, 10].tolist()) == {0.0, 1.0}
    with Image.open(tmp_path / "samples.png") as file:
        assert np.abs(np.asarray(file).astype(int) - grid(expected)).max() <= 1
    done = started(*words, "4", where=tmp_path)
    assert done.returncode == 2 and "--category 4: 0 to 3 work" in done.stderr


def test_onnxruntime_draws_with_codes_set_by_hand(tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'fastinfogan[onnx]'")
    script, file = EXAMPLES / "load_generator_onnx.py", GOLDEN_FILES / "generator.onnx"
    by_hand = ("--set", "c1=1", "--set", "c2=-1.5", "--set", "c3=1")
    done = started(sys.executable, script, file, *by_hand, "--seed", "3", where=tmp_path)
    assert (done.returncode, done.stdout) == (0, "c1=1 shows Größe <b>\n"), done.stderr
    onnx, trained = example("load_generator_onnx"), load_generator(FILE)
    _, said = onnx.read(file)
    chosen = {"c1": 1.0, "c2": -1.5, "c3": 1.0}
    drawn = onnx.draw(64, said["latent_spec"], np.random.default_rng(3), chosen)
    values = torch.tensor(np.stack([drawn[f"c{i}"] for i in range(1, 6)], 1), dtype=torch.float32)
    assert (values[:, :3] == torch.tensor([1.0, -1.5, 1.0])).all() and values[:, 3].std() > 0.8
    with torch.no_grad():
        images = trained.generator(trained.spec.assemble(torch.tensor(drawn["noise"]), values))
    expected = to_uint8(images, trained.output_range).astype(int)
    with Image.open(tmp_path / "samples.png") as picture:
        assert np.abs(np.asarray(picture).astype(int) - grid(expected)).max() <= 1
    for wrong, says in (("c1=4", "whole numbers from 0 to 3"), ("c9=1", "the codes are c1, c2")):
        done = started(sys.executable, script, file, "--set", wrong, where=tmp_path)
        assert done.returncode == 2 and f"--set {wrong}: {says}" in done.stderr


@needs_node
@pytest.mark.parametrize(
    ("loader", "what"),
    [
        ("load_generator.py", "README.md"),  # it waits for torch
        *(("load_generator_numpy.py", what) for what in (".", "nowhere.safetensors", "README.md")),
    ],
)
def test_loaders_refuse_what_is_no_generator_in_a_line(loader, what):
    command = [sys.executable, EXAMPLES / loader, what]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: {what}: not read as a generator.safetensors (" in done.stderr


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (".", "not read as a generator.onnx ("),
        ("nowhere.onnx", "not read as a generator.onnx ("),
        ("README.md", "not read as a generator.onnx ("),
        ("golden/generator_latents.onnx", "it takes whole vectors; what --format onnx writes"),
    ],
)
def test_the_loader_for_onnxruntime_refuses_what_it_can_not_use_in_a_line(what, says):
    pytest.importorskip("onnxruntime", reason="pip install 'fastinfogan[onnx]'")
    command = [sys.executable, EXAMPLES / "load_generator_onnx.py", what]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: {what}: {says}" in done.stderr.splitlines()[-1]


def test_javascript_draws_a_category(tmp_path):
    (tmp_path / "chance.js").write_text("Math.random = () => 0.25;")
    words = (NODE, "-r", "./chance.js", EXAMPLES / "load_generator.js", FILE, "--category")
    done = started(*words, "1", where=tmp_path)
    assert (done.returncode, done.stdout) == (0, "category 1 shows Größe <b>\n"), done.stderr
    trained = load_generator(FILE)
    # The quantiles at 0.25, but for normal numbers, of which a quarter turn makes 0.
    values = torch.tensor([[1.0, -0.5, 0.0, 0.0, 0.0]])
    with torch.no_grad():
        images = trained.generator(trained.spec.assemble(torch.zeros(1, 5), values))
    expected = to_uint8(images, trained.output_range).astype(int).repeat(64, axis=0)
    with Image.open(tmp_path / "samples.png") as file:
        assert file.mode == "RGBA"
        assert np.abs(np.asarray(file)[..., :3].astype(int) - grid(expected)).max() <= 1
    for wrong, says in (("4", "0 to 3 work"), ("x", "0 to 3 work")):
        done = started(*words, wrong, where=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: --category {wrong}: {says}\n"


@needs_node
def test_javascript_refuses_what_it_does_not_know(tmp_path):
    content = FILE.read_bytes()
    (tmp_path / "own.js").write_text(f"""
        const own = require({json.dumps(str(EXAMPLES / "load_generator.js"))});
        for (const name of process.argv.slice(2)) try {{
          const generator = own.readGenerator(new Uint8Array(require("fs").readFileSync(name)));
          own.generate(generator, new Float32Array(generator.spec.width));
        }} catch (error) {{ console.log(error.message); }}
    """)
    for name, old, new in (
        ("a", b'"format_version": "1"', b'"format_version": "2"'),
        ("b", b'"kind\\": \\"sigmoid', b'"kind\\": \\"sigmund'),
        ("c", b'"kind\\": \\"upconv', b'"kind\\": \\"unconv'),
    ):
        assert old in content
        (tmp_path / name).write_bytes(content.replace(old, new))
    done = started(NODE, "own.js", "a", "b", "c", where=tmp_path)
    assert done.stdout.splitlines() == [
        "format_version 2, not 1", "an activation of kind sigmund", "a layer of kind unconv",
    ]  # fmt: skip


def test_the_loaders_need_nothing_of_ours():
    for path in [*EXAMPLES.glob("load_generator*"), *(EXAMPLES / "browser").iterdir()]:
        assert not re.search(r"^\s*(import|from) fastinfogan", path.read_text("utf-8"), re.M)


# -- The golden files ------------------------------------------------------------------------------


def test_the_golden_files_are_what_their_script_makes(tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'fastinfogan[onnx]'")
    example("golden/make").make(tmp_path)
    before, after = load_file(FILE), load_file(tmp_path / "generator.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0)
    said, now = (metadata_of((d / FILE.name).read_bytes()) for d in (GOLDEN_FILES, tmp_path))
    for key in ("architecture", "latent_spec", "image_shape", "output_range", "code_to_label"):
        assert said[key] == now[key]
    again = json.loads((tmp_path / "images.json").read_text())
    for key in ("noise", "codes", "latents", "shape", "pixels_shape"):
        assert again[key] == SAID[key]
    np.testing.assert_allclose(again["images"], SAID["images"], rtol=0, atol=2e-7)  # its digits
    import onnx

    for name in ("generator.onnx", "generator_latents.onnx"):
        kept, made = (onnx.load(d / name) for d in (GOLDEN_FILES, tmp_path))
        nodes = [[(n.op_type, n.input, n.output) for n in m.graph.node] for m in (kept, made)]
        assert nodes[0] == nodes[1] and kept.opset_import == made.opset_import


def test_the_golden_files_are_small_and_belong_together():
    sizes = {path.name: path.stat().st_size for path in GOLDEN_FILES.iterdir() if path.is_file()}
    assert sum(sizes.values()) < 200_000
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SAID["generator_sha256"]


def test_the_golden_generator_has_everything_that_a_file_can_have():
    header = metadata_of(FILE.read_bytes())
    layers, spec = json.loads(header["architecture"]), json.loads(header["latent_spec"])
    assert {layer["kind"] for layer in layers} == {"fc", "upconv"}
    assert {layer.get("stride") for layer in layers} == {None, 1, 2}
    activations = {layer["activation"]["kind"] for layer in layers}
    assert activations == {"linear", "sigmoid", "relu", "lrelu", "tanh"}
    for kind in ("fc", "upconv"):
        own = [layer for layer in layers if layer["kind"] == kind]
        assert {layer["bias"] for layer in own} == {True, False}
        assert {layer["norm"] is None for layer in own} == {True, False}
    kinds = {code["kind"] for code in spec["codes"]}
    assert kinds == {"categorical", "uniform", "bernoulli", "gaussian"}
    assert len({*SAID["shape"][1:]}) == 3  # channels, height and width differ
    assert IMAGES.std() > 0.2 and np.abs(IMAGES[1:] - IMAGES[0]).max(axis=(1, 2, 3)).min() > 0.3
