"""Make the files beside this one: a small generator, what goes into it, and the images it gives.

    python examples/golden/make.py

It has every kind of layer, activation and code, images that are not square, and labels that are not
ASCII; its weights are random, so its images show nothing. This needs fastinfogan, with its extra
`onnx`; who loads the files needs neither.
"""

import argparse
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import torch

from fastinfogan.config import PRESETS, Architecture, fc, preset_config, upconv
from fastinfogan.model.networks import Generator
from fastinfogan.model.reference import Generator as Reference
from fastinfogan.model.weights import weights
from fastinfogan.results.export.onnx_file import write_onnx
from fastinfogan.results.generator_file import export_generator
from fastinfogan.results.pictures import to_uint8

LAYERS = (
    fc(16, "linear", bn=True),
    fc(24, "sigmoid"),
    fc((8, 4, 3), "relu", bn=True),
    upconv(8, "lrelu", bn=True, stride=1),
    upconv(6, "lrelu", bn=True),
    upconv(3, "tanh"),
)
LABELS = {"c1_cat4": ["circle", "Größe <b>", None, "4"]}
CODES = {  # of six images
    "c1": [0, 1, 2, 3, 3, 0],
    "c2": [-2.0, -0.5, 0.0, 0.75, 1.0, 2.0],
    "c3": [0, 1, 0, 1, 1, 0],
    "c4": [0.0, 1.25, -0.5, 2.0, -1.75, 0.25],
    "c5": [2, 1, 0, 2, 1, 0],
}


def random_weights(generator: torch.nn.Module) -> None:
    """Weights that carry a signal to the image, and statistics that matter."""
    random = torch.Generator().manual_seed(0)

    def drawn(shape: torch.Size, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    with torch.no_grad():
        for name, tensor in weights(generator).items():
            if name.endswith("op.weight"):
                fan_in = tensor.shape[1] if tensor.dim() == 2 else 4 * tensor.shape[0]
                bound = math.sqrt(6.0 / fan_in)  # He et al. 2015
                tensor.copy_(drawn(tensor.shape, -bound, bound))
            elif name.endswith(("norm.weight", "running_var")):
                tensor.copy_(drawn(tensor.shape, 0.5, 2.0))
            else:
                tensor.copy_(drawn(tensor.shape, -0.5, 0.5))


def make(folder: Path) -> None:
    """Write generator.safetensors, generator.onnx, generator_latents.onnx and images.json."""
    architecture = Architecture((3, 16, 12), LAYERS, trunk=(), q_hidden=())
    PRESETS["golden"] = replace(PRESETS["svhn"], architecture=architecture)
    config = preset_config("golden")
    model = replace(config.model, codes="cat4,uni,bern,gauss,cat3", noise=5)
    config = replace(config, model=model)
    generator, reference = Generator(architecture, config.spec), Reference(config)
    random_weights(generator.eval())
    file = folder / "generator.safetensors"
    export_generator(file, generator, config, iteration=0, code_to_label=LABELS)
    del PRESETS["golden"]
    write_onnx(folder / "generator.onnx", file.read_bytes())
    write_onnx(folder / "generator_latents.onnx", file.read_bytes(), latents=True)

    reference.load_state_dict(weights(generator), strict=False)
    noise = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).mul(1e4).round() / 1e4
    values = torch.tensor([list(map(float, row)) for row in zip(*CODES.values(), strict=True)])
    latents = config.spec.assemble(noise, values)
    with torch.no_grad():  # in float64: nobody's rounding but the last
        images = reference.double().eval()(latents.double())
    golden = {
        "about": "What goes into generator.safetensors and what comes out, in its output_range; "
        "float32 arithmetic gives the images to 1e-5, and the pixels to 1.",
        "generator_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "noise": [[round(x, 4) for x in row] for row in noise.tolist()],
        "codes": CODES,
        "latents": [[round(x, 4) for x in row] for row in latents.tolist()],
        "shape": list(images.shape),
        "images": [round(x, 7) for x in images.flatten().tolist()],
        "pixels_shape": [6, 16, 12, 3],
        "pixels": to_uint8(images, (-1.0, 1.0)).flatten().tolist(),
    }
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    (folder / "images.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    make(parser.parse_args().folder)
