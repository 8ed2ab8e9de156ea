"""Run a generator.onnx with onnxruntime, and draw samples (Pillow writes the picture).

    fastinfogan export RUN --format onnx
    python load_generator_onnx.py RUN/generator.onnx --set c1=3 --set c2=-1.5 --out samples.png

The model's inputs are `noise`, float32 (count, noise), and each code under its name (c1, c2, ...),
one value per image: a category as int64, anything else as float32. Its metadata say what they mean.
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image


def read(path):
    """A session, and what the model says of its inputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    return session, {key: json.loads(said[key]) for key in ("latent_spec", "inputs", "image_shape")}


def draw(count, spec, random, chosen):
    """The model's inputs from their priors; ``chosen`` sets codes by hand: name -> value."""
    inputs = {}
    if spec["noise"]["width"]:
        inputs["noise"] = random.standard_normal((count, spec["noise"]["width"]), np.float32)
    for code in spec["codes"]:
        name, kind = code["name"].split("_")[0], code["kind"]
        if kind == "categorical":
            inputs[name] = random.integers(code["width"], size=count)  # int64
            inputs[name][:] = chosen.get(name, inputs[name])
            continue
        if kind == "uniform":
            value = random.uniform(-1, 1, count)
        elif kind == "gaussian":
            value = random.standard_normal(count)
        else:  # bernoulli
            value = random.integers(2, size=count)
        inputs[name] = np.full(count, chosen.get(name, value), np.float32)
    return inputs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="generator.onnx")
    parser.add_argument("--set", action="append", default=[], metavar="CODE=NUMBER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="samples.png", help="PNG of 8 x 8 images")
    options = parser.parse_args()

    try:
        session, said = read(options.file)
    except Exception as error:  # onnxruntime's have nothing else in common; or none of our metadata
        reason = " ".join(str(error).split())
        parser.error(f"{options.file}: not read as a generator.onnx ({reason})")
    if [item["name"] for item in said["inputs"]] == ["latents"]:
        parser.error(f"{options.file}: it takes whole vectors; what --format onnx writes works")
    described = {item["name"]: item for item in said["inputs"] if "code" in item}
    chosen = {}
    for text in options.set:
        name, _, number = text.partition("=")
        if name not in described:
            parser.error(f"--set {text}: the codes are {', '.join(described)}")
        count = described[name].get("categories")
        chosen[name] = float(number)
        if count is not None and chosen[name] not in range(count):
            parser.error(f"--set {text}: whole numbers from 0 to {count - 1} work")
        if "labels" in described[name]:
            print(f"{text} shows {described[name]['labels'][int(number)]}")

    inputs = draw(64, said["latent_spec"], np.random.default_rng(options.seed), chosen)
    (images,) = session.run(["images"], inputs)  # float32, black 0 and white 1
    pixels = np.clip(np.round(images * 255), 0, 255).astype(np.uint8)
    channels, height, width = said["image_shape"]
    grid = pixels.reshape(8, 8, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(8 * height, 8 * width, channels)
    Image.fromarray(grid[:, :, 0] if channels == 1 else grid).save(options.out)


if __name__ == "__main__":
    main()
