"""explorer.html in a browser, opened from disk: what is on the canvas is what ``sample`` draws."""

from __future__ import annotations

import base64
import json
import struct
from io import BytesIO

import numpy as np
import pytest
import torch
from chromium import MISSING, PROGRAM, Page
from explorers import FAMILIES
from generator_files import exported
from PIL import Image

from fastinfogan.cli import main
from fastinfogan.model.latent_spec import Latents
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.pictures import generate, to_uint8

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
    pytest.mark.usefixtures("narrow_presets"),
]
ALLOWED = 2  # of 255
READY = "document.body.dataset.busy === 'false'"
PIXELS = """JSON.stringify([...document.querySelectorAll("#grid canvas")].map((canvas) =>
    [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]))"""


def shown(page, trained_shape):
    """The images of the grid, int64 (count, height, width, channels)."""
    page.until(READY)
    channels, height, width = trained_shape
    pixels = np.array(json.loads(page.run(PIXELS)), np.int64).reshape(-1, height, width, 4)
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :channels]


def move(page, selector, value):
    """As a user's hand would: the new value, and the event."""
    page.run(
        f"(() => {{ const input = document.querySelector({json.dumps(selector)});"
        f"input.value = {json.dumps(str(value))};"
        "input.dispatchEvent(new Event('input', {bubbles: true}));"
        "input.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def opened(tmp_path, preset, **options):
    path, _, config = exported(tmp_path, preset, **options)
    html = tmp_path / "explorer.html"
    assert main(["explore", str(path), "--no-open", "--output", str(html)]) == 0
    return Page(html, tmp_path / "profile"), load_generator(path), config


@pytest.mark.parametrize("preset", FAMILIES)
def test_the_canvas_shows_what_sample_draws(tmp_path, preset):
    opening, trained, config = opened(tmp_path, preset)
    shape, spec = config.architecture.image_shape, config.spec
    middle = {i: 0.0 for i, code in enumerate(spec.codes) if not code.is_discrete}
    with opening as page:
        before = shown(page, shape)
        assert np.abs(before - trained.sample(16, fixed=middle)).max() <= ALLOWED

        page.run("document.querySelectorAll('#codes .chips input')[4].click()")  # any, 0, 1, 2, 3
        pressed = shown(page, shape)
        fixed = {**middle, 0: 3}
        assert np.abs(pressed - trained.sample(16, fixed=fixed)).max() <= ALLOWED
        assert np.abs(pressed - before).max() > ALLOWED

        if middle:
            move(page, "#codes input[type=range]", -1.25)
            fixed = {**fixed, min(middle): -1.25}
            moved = shown(page, shape)
            assert np.abs(moved - trained.sample(16, fixed=fixed)).max() <= ALLOWED
            assert np.abs(moved - pressed).max() > ALLOWED

        move(page, "#seed", 77)
        again = shown(page, shape)
        assert np.abs(again - trained.sample(16, seed=77, fixed=fixed)).max() <= ALLOWED
        said = page.run("document.querySelector('#command').textContent")
        assert said.startswith("fastinfogan sample /") and " --count 16 --seed 77 " in said
        text = said.split("--set ")[1]
        assert trained.parse_codes(text) == fixed
        assert page.complaints == []


def test_a_code_varies_along_the_columns(tmp_path):
    labels = {"c1_cat10": ["seven", *"012345689"]}
    opening, trained, config = opened(tmp_path, "narrow-mnist", code_to_label=labels)
    shape, spec = config.architecture.image_shape, config.spec
    with opening as page:
        page.until(READY)
        page.run("document.querySelector('#views input[value=vary]').click()")
        move(page, "#varied", 0)
        images = shown(page, shape)
        heads = page.run("[...document.querySelectorAll('#grid .head')].map((h) => h.textContent)")
        assert heads == [*"012345689", "seven"]
        noise, values = spec.sample(5, seed=0, offset=0)
        values[:, 1:] = 0.0
        values = values.repeat_interleave(10, dim=0)
        values[:, 0] = values.new_tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 0]).repeat(5)
        latents = Latents(noise.repeat_interleave(10, dim=0), values)
        expected = generate(trained.generator, spec, latents, trained.output_range)
        assert np.abs(images - expected).max() <= ALLOWED
        said = page.run("document.querySelector('#command').textContent")
        assert " --code c1 --rows 5 --seed 0 --set c2=0,c3=0" in said
        assert page.complaints == []


def test_between_two_images_lie_others(tmp_path):
    opening, trained, config = opened(tmp_path, "narrow-celeba")
    shape = config.architecture.image_shape
    samples = trained.sample(16)
    with opening as page:
        page.until(READY)
        for index, point in ((3, "a"), (6, "b")):
            page.run(f"document.querySelectorAll('#grid .cell')[{index}].click()")
            page.run(f"document.querySelector('#keep-{point}').click()")
        page.run("document.querySelector('#views input[value=between]').click()")
        ways = []
        for way in (0, 0.5, 1):
            move(page, "#way", way)
            ways.append(shown(page, shape)[0])
        assert np.abs(ways[0] - samples[3]).max() <= ALLOWED
        assert np.abs(ways[2] - samples[6]).max() <= ALLOWED
        noise = trained.latents(7).noise.numpy().astype(np.float64)
        a, b = noise[3], noise[6]
        angle = np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))
        middle = (a + b) * np.sin(angle / 2) / np.sin(angle)
        codes = trained.spec.assemble(*trained.latents(7))[:, trained.spec.noise :].numpy()
        inputs = np.concatenate([middle, (codes[3] + codes[6]) / 2]).astype(np.float32)
        with torch.no_grad():
            image = trained.generator(torch.from_numpy(inputs)[None])
        expected = to_uint8(image, trained.output_range)[0]
        assert np.abs(ways[1] - expected).max() <= ALLOWED
        page.run("document.querySelector('#play').click()")
        page.until("document.querySelector('#way').value !== '1'")  # it goes on by itself
        page.run("document.querySelector('#play').click()")
        page.run("document.querySelector('#views input[value=samples]').click()")
        assert np.abs(shown(page, shape) - samples).max() <= ALLOWED
        assert page.complaints == []


def test_keys_move_sliders_choose_images_and_draw_new_noise(tmp_path):
    opening, _, config = opened(tmp_path, "narrow-mnist")
    shape = config.architecture.image_shape
    with opening as page:
        before = shown(page, shape)
        page.run("document.querySelector('#codes input[type=range]').focus()")
        page.press("ArrowRight", 39)
        slid = shown(page, shape)
        assert page.run("document.querySelector('#codes output').textContent") == "any"
        assert page.run("document.querySelectorAll('#codes output')[1].textContent") == "0.05"
        assert (slid != before).any()
        page.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
        page.press("ArrowDown", 40)
        page.press("ArrowRight", 39)
        page.until(READY)
        chosen = "[...document.querySelectorAll('#grid .cell')].findIndex("
        assert page.run(f"{chosen}(c) => c.getAttribute('aria-selected') === 'true')") == 5
        assert page.run(f"{chosen}(c) => c === document.activeElement)") == 5
        page.press("n", 78)
        assert (shown(page, shape) != slid).any()
        page.press("r", 82)
        assert (shown(page, shape) == before).all()
        assert page.complaints == []


def test_another_generator_can_be_opened_and_a_bad_one_is_refused(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    script = "<img src=x onerror='document.title=1'>"
    labels = {"c1_cat10": [script, *"012345678"]}
    good, _, config = exported(other, "mnist-mlp", code_to_label=labels)
    odd = other / "<img src=x onerror=alert(1)>.safetensors"
    odd.write_bytes(good.read_bytes()[:-3])
    nonsense = other / "nonsense.safetensors"
    nonsense.write_bytes(struct.pack("<Q", 2**40) + b"[" * 500_000)
    opening, _, before = opened(tmp_path, "narrow-celeba")
    message = "document.querySelector('#message')"
    with opening as page:
        first = shown(page, before.architecture.image_shape)
        for bad in (odd, nonsense):
            page.choose_file("#open", bad)
            page.until(f"{message}.textContent.startsWith({json.dumps(bad.name)})")
            assert page.run(f"{message}.hidden === false && {message}.children.length === 0")
            # What was there stays, and goes on.
            assert (shown(page, before.architecture.image_shape) == first).all()
        page.run("document.querySelector('#new-noise').click()")
        assert (shown(page, before.architecture.image_shape) != first).any()
        page.choose_file("#open", good)
        page.until("document.querySelector('#about').textContent.includes('28\\u00d728')")
        images = shown(page, config.architecture.image_shape)
        assert np.abs(images - load_generator(good).sample(16)).max() <= ALLOWED
        assert page.run(f"{message}.hidden")
        assert script in page.run("document.querySelector('#codes').textContent")
        assert page.run("document.querySelectorAll('img').length") == 0
        assert page.complaints == []


DROP = """(() => {
    const data = new DataTransfer(), bytes = Uint8Array.from(atob(%s), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], %s));
    for (const type of ["dragover", "drop"]) {
        dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        if (document.querySelector("#drop").hidden !== (type === "drop")) throw Error(type);
    }
})()"""


def test_a_generator_can_be_dropped_and_so_can_garbage(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    file, _, config = exported(other, "mnist-mlp")
    opening, _, before = opened(tmp_path, "narrow-mnist")
    with opening as page:
        first = shown(page, before.architecture.image_shape)
        for name, content in (("garbage.bin", b"\x00\xff" * 99), ("o.safetensors", None)):
            content = file.read_bytes() if content is None else content
            text = base64.b64encode(content).decode()
            page.run(DROP % (json.dumps(text), json.dumps(name)))
            if name == "garbage.bin":
                page.until("!document.querySelector('#message').hidden")
                said = page.run("document.querySelector('#message').textContent")
                assert said.startswith("garbage.bin is no generator file that this page can show")
                assert (shown(page, before.architecture.image_shape) == first).all()
        page.until("document.querySelector('#about').textContent.startsWith('o.safetensors')")
        images = shown(page, config.architecture.image_shape)
        assert np.abs(images - load_generator(file).sample(16)).max() <= ALLOWED
        assert page.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset, most", [("mnist", 100), ("celeba", 400), ("chairs-rotation", 1000)]
)
def test_sixteen_images_come_at_once(tmp_path, preset, most):
    """Milliseconds from a press to sixteen images; for chairs to the first. Of three, the best.

    What is asserted leaves room for a machine that others use; what was measured is printed.
    """
    opening, trained, config = opened(tmp_path, preset)
    size = (tmp_path / "explorer.html").stat().st_size
    first = "true" if preset == "chairs-rotation" else "false"
    with opening as page:
        before = shown(page, config.architecture.image_shape)
        middle = {i: 0.0 for i, code in enumerate(config.spec.codes) if not code.is_discrete}
        assert np.abs(before - trained.sample(16, fixed=middle)).max() <= ALLOWED
        times = [
            page.run(
                f"""new Promise((done) => {{
                    const began = performance.now(), cells = {first} ? 1 : 16;
                    const paint = grid.paint;
                    grid.paint = function (from, count, pixels) {{
                        paint.call(this, from, count, pixels);
                        if (from + count < cells) return;
                        grid.paint = paint;
                        done(performance.now() - began);
                    }};
                    document.querySelectorAll("#codes .chips input")[{category}].click();
                }})"""
            )
            for category in (2, 3, 4)
            if page.until(READY) is None
        ]
        print(f"{preset}: {size >> 20} MiB, {[round(time) for time in times]} ms")
        assert min(times) < 5 * most
        assert size < {"mnist": 20e6, "celeba": 10e6, "chairs-rotation": 60e6}[preset]


def test_the_png_is_what_is_shown(tmp_path):
    opening, trained, _ = opened(tmp_path, "mnist-mlp")
    downloads = tmp_path / "downloads"
    with opening as page:
        page.until(READY)
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        page.run("document.querySelector('#download').click()")
        file = downloads / "samples_seed0.png"
        for _ in range(200):
            if file.exists():
                break
            page.run("new Promise((done) => setTimeout(done, 50))")
        picture = np.asarray(Image.open(BytesIO(file.read_bytes())).convert("L"), np.int64)
        assert picture.shape == (4 * 116 + 4, 4 * 116 + 4)
        inside = picture.reshape(-1)  # every image four times as large, 4 pixels between them
        tiles = [
            inside.reshape(picture.shape)[4 + 116 * r : 116 * (r + 1), 4 + 116 * c : 116 * (c + 1)]
            for r in range(4)
            for c in range(4)
        ]
        images = np.stack([tile[::4, ::4] for tile in tiles])
        assert np.abs(images - trained.sample(16)[..., 0]).max() <= ALLOWED
        assert page.complaints == []
