"""Load a generator.safetensors with numpy alone, and draw samples (Pillow writes the picture).

    python load_generator_numpy.py generator.safetensors --category 3 --out samples.png

Read it to load a generator in another language: docs/generator-format.md has the same formulas.
"""

import argparse
import json
import struct

import numpy as np


def read(path):
    """The file's tensors by name, and its header as Python values."""
    with open(path, "rb") as file:
        content = file.read()
    begins = 8 + struct.unpack("<Q", content[:8])[0]
    places, data = json.loads(content[8:begins]), content[begins:]
    header = places.pop("__metadata__", {})
    if header.get("format_version") != "1":
        raise SystemExit(f"{path}: format_version {header.get('format_version')}, not 1")
    tensors = {}
    for name, place in places.items():
        begin, end = place["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(place["shape"])
    wanted = ("architecture", "latent_spec", "image_shape", "output_range", "code_to_label")
    return tensors, {name: json.loads(header.get(name, "{}")) for name in wanted}


def generate(latents, layers, tensors):
    """Latents (N, width) -> images (N, channels, height, width)."""
    x = latents
    for layer in layers:
        name, weight = layer["name"], tensors[layer["name"] + ".op.weight"]
        x = x @ weight.T if layer["kind"] == "fc" else upconv(x, weight, layer)
        per_channel = (1, -1) + (1,) * (x.ndim - 2)
        if layer["bias"]:
            x = x + tensors[name + ".op.bias"].reshape(per_channel)
        if layer["norm"]:
            gamma, beta, mean, var = (
                tensors[f"{name}.norm.{part}"].reshape(per_channel)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            x = (x - mean) / np.sqrt(var + np.float32(layer["norm"]["eps"])) * gamma + beta
        activation = layer["activation"]
        if activation["kind"] in ("relu", "lrelu"):
            x = np.where(x > 0, x, np.float32(activation["slope"]) * x)
        elif activation["kind"] == "sigmoid":
            x = (1 + np.tanh(x / 2)) / 2  # 1 / (1 + exp(-x)) without its overflow
        elif activation["kind"] == "tanh":
            x = np.tanh(x)
        if "reshape" in layer:  # features are in (height, width, channel) order
            shape = layer["reshape"]
            x = x.reshape(-1, shape["height"], shape["width"], shape["channels"])
            x = x.transpose(0, 3, 1, 2)
    return x


def upconv(x, weight, layer):
    """Transposed convolution: every pixel adds its kernel, and the result is cropped."""
    count, _, height, width = x.shape
    k, s = layer["kernel"], layer["stride"]
    full = (count, weight.shape[1], (height - 1) * s + k, (width - 1) * s + k)
    full = np.zeros(full, np.float32)
    for i in range(k):
        for j in range(k):
            added = np.einsum("nchw,co->nohw", x, weight[:, :, i, j], optimize=True)
            full[:, :, i : i + height * s : s, j : j + width * s : s] += added
    before, after = layer["padding"]
    return full[:, :, before : full.shape[2] - after, before : full.shape[3] - after]


def latents_of(noise, values, spec):
    """G's input (N, width) from noise (N, noise) and each code's values (N,) by its name."""
    parts = [np.asarray(noise, np.float32)]
    for code in spec["codes"]:
        value = np.asarray(values[code["name"].split("_")[0]])
        if code["encoding"] == "one-hot":
            parts.append(np.eye(code["width"], dtype=np.float32)[value])
        else:
            parts.append(value.astype(np.float32)[:, None])
    return np.concatenate(parts, axis=1)


def draw(count, spec, random, chosen):
    """Noise and code values from their priors; ``chosen`` sets codes by hand: name -> value."""
    values = {}
    for code in spec["codes"]:
        name, kind = code["name"].split("_")[0], code["kind"]
        if name in chosen:
            values[name] = np.full(count, chosen[name])
        elif kind in ("categorical", "bernoulli"):
            values[name] = random.integers(max(2, code["width"]), size=count)
        elif kind == "uniform":
            values[name] = random.uniform(-1, 1, count)
        else:
            values[name] = random.standard_normal(count)
    return random.standard_normal((count, spec["noise"]["width"])), values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="generator.safetensors")
    parser.add_argument("--category", type=int, help="of the first categorical code")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="samples.png", help="PNG of 8 x 8 images")
    options = parser.parse_args()

    try:
        tensors, header = read(options.file)
    except (OSError, ValueError, struct.error) as error:  # no such file, or none of this kind
        parser.error(f"{options.file}: not read as a generator.safetensors ({error})")
    spec, chosen = header["latent_spec"], {}
    if options.category is not None:
        code = next((c for c in spec["codes"] if c["kind"] == "categorical"), None)
        if code is None:
            parser.error("--category: this generator has no categorical code")
        if not 0 <= options.category < code["width"]:
            parser.error(f"--category {options.category}: 0 to {code['width'] - 1} work")
        chosen[code["name"].split("_")[0]] = options.category
        labels = header["code_to_label"].get(code["name"])
        if labels is not None:
            print(f"category {options.category} shows {labels[options.category]}")

    noise, values = draw(64, spec, np.random.default_rng(options.seed), chosen)
    images = generate(latents_of(noise, values, spec), header["architecture"], tensors)
    low, high = header["output_range"]
    pixels = np.clip(np.round((images - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    channels, height, width = header["image_shape"]
    grid = pixels.reshape(8, 8, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(8 * height, 8 * width, channels)
    from PIL import Image

    Image.fromarray(grid[:, :, 0] if channels == 1 else grid).save(options.out)


if __name__ == "__main__":
    main()
