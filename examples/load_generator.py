"""Load a generator.safetensors with PyTorch, safetensors and Pillow alone, and draw samples.

    python load_generator.py generator.safetensors --category 3 --out samples.png

The file says how its tensors go together; docs/generator-format.md explains its words.
"""

import argparse
import json

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch.nn import functional as F


def read(path):
    """The file's tensors by name, and its header as Python values."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        if header.get("format_version") != "1":
            raise SystemExit(f"{path}: format_version {header.get('format_version')}, not 1")
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    wanted = ("architecture", "latent_spec", "image_shape", "output_range", "code_to_label")
    return tensors, {name: json.loads(header.get(name, "{}")) for name in wanted}


def generate(latents, layers, tensors):
    """Latents (N, width) -> images (N, channels, height, width)."""
    x = latents
    for layer in layers:
        own = {
            name.removeprefix(layer["name"] + "."): tensor
            for name, tensor in tensors.items()
            if name.startswith(layer["name"] + ".")
        }
        weight, bias = own["op.weight"], own.get("op.bias")
        if layer["kind"] == "fc":
            x = F.linear(x, weight, bias)
        else:  # upconv: the whole transposed convolution, then the crop
            before, after = layer["padding"]
            x = F.conv_transpose2d(x, weight, bias, layer["stride"])
            x = x[:, :, before : x.shape[2] - after, before : x.shape[3] - after]
        if layer["norm"]:
            mean, var = own["norm.running_mean"], own["norm.running_var"]
            gamma, beta = own["norm.weight"], own["norm.bias"]
            x = F.batch_norm(x, mean, var, gamma, beta, eps=layer["norm"]["eps"])
        activation = layer["activation"]
        if activation["kind"] in ("relu", "lrelu"):
            x = F.leaky_relu(x, activation["slope"])
        elif activation["kind"] == "sigmoid":
            x = torch.sigmoid(x)
        elif activation["kind"] == "tanh":
            x = torch.tanh(x)
        if "reshape" in layer:  # features are in (height, width, channel) order
            shape = layer["reshape"]
            x = x.view(-1, shape["height"], shape["width"], shape["channels"])
            x = x.permute(0, 3, 1, 2)
    return x


def draw_latents(count, spec, chosen):
    """Random inputs (count, width); ``chosen`` sets codes by hand: name -> value."""
    parts = [torch.randn(count, spec["noise"]["width"])]
    u = torch.rand(count, len(spec["codes"]))
    for i, code in enumerate(spec["codes"]):
        value = {  # each prior's quantile function
            "categorical": (u[:, i] * code["width"]).floor(),
            "uniform": 2 * u[:, i] - 1,
            "gaussian": torch.special.ndtri(u[:, i]),
            "bernoulli": (u[:, i] >= 0.5).float(),
        }[code["kind"]]
        if code["name"] in chosen:
            value = torch.full_like(value, chosen[code["name"]])
        if code["encoding"] == "one-hot":
            parts.append(F.one_hot(value.long(), code["width"]).float())
        else:
            parts.append(value.unsqueeze(1))
    return torch.cat(parts, dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="generator.safetensors")
    parser.add_argument("--category", type=int, help="of the first categorical code")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="samples.png", help="PNG of 8 x 8 images")
    options = parser.parse_args()

    try:
        tensors, header = read(options.file)
    except (OSError, SafetensorError) as error:  # no such file, or none of this kind
        parser.error(f"{options.file}: not read as a generator.safetensors ({error})")
    spec, chosen = header["latent_spec"], {}
    if options.category is not None:
        code = next((c for c in spec["codes"] if c["kind"] == "categorical"), None)
        if code is None:
            parser.error("--category: this generator has no categorical code")
        if not 0 <= options.category < code["width"]:
            parser.error(f"--category {options.category}: 0 to {code['width'] - 1} work")
        chosen[code["name"]] = options.category
        labels = header["code_to_label"].get(code["name"])
        if labels is not None:
            print(f"category {options.category} shows {labels[options.category]}")

    torch.manual_seed(options.seed)
    with torch.no_grad():
        images = generate(draw_latents(64, spec, chosen), header["architecture"], tensors)
    low, high = header["output_range"]
    pixels = ((images - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8)
    channels, height, width = header["image_shape"]
    grid = pixels.view(8, 8, channels, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(8 * height, 8 * width, channels).numpy()
    Image.fromarray(grid[:, :, 0] if channels == 1 else grid).save(options.out)


if __name__ == "__main__":
    main()
