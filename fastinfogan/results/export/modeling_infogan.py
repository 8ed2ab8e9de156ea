"""An InfoGAN generator in plain PyTorch, as config.json describes it.

It needs torch, safetensors and huggingface_hub, and nothing of the library that wrote it:

    generator = InfoGANGenerator.from_pretrained(FOLDER)  # or "USER/NAME", on the hub
    images = generator.sample(16, c1=3)

The words of config.json are those of the file's header in docs/generator-format.md of fastinfogan,
which wrote this file (MIT licence).
"""

from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(nn.Module):
    """A linear map, batchnorm if there is any, the activation, and the way from rows to maps."""

    def __init__(self, described: dict) -> None:
        super().__init__()
        self.described = described
        inputs, outputs, bias = described["inputs"], described["outputs"], described["bias"]
        if described["kind"] == "fc":
            self.op = nn.Linear(inputs[0], outputs[0], bias)
        else:  # upconv
            kernel, stride = described["kernel"], described["stride"]
            self.op = nn.ConvTranspose2d(inputs[0], outputs[0], kernel, stride, bias=bias)
        self.norm = None
        if described["norm"]:
            kind = nn.BatchNorm1d if described["kind"] == "fc" else nn.BatchNorm2d
            self.norm = kind(outputs[0], eps=described["norm"]["eps"])

    def forward(self, x: Tensor) -> Tensor:
        described = self.described
        x = self.op(x)
        if described["kind"] == "upconv":  # "same" padding: cropped
            before, after = described["padding"]
            x = x[:, :, before : x.shape[2] - after, before : x.shape[3] - after]
        if self.norm is not None:
            x = self.norm(x)
        activation = described["activation"]
        if activation["kind"] in ("relu", "lrelu"):
            x = F.leaky_relu(x, activation["slope"])
        elif activation["kind"] in ("sigmoid", "tanh"):
            x = getattr(torch, activation["kind"])(x)
        if "reshape" in described:  # features are in (height, width, channel) order
            shape = described["reshape"]
            x = x.view(-1, shape["height"], shape["width"], shape["channels"])
            x = x.permute(0, 3, 1, 2)
        return x


class InfoGANGenerator(nn.Module, PyTorchModelHubMixin):
    """Noise and codes in, images out.

    Attributes:
        codes: name (c1, c2, ...) -> what config.json says of the code.
        labels: name of a categorical code -> the label that each category shows, None where none
            fits; only of codes for which that is known.
    """

    def __init__(
        self,
        architecture: list,
        latent_spec: dict,
        image_shape: list,
        output_range: list,
        code_to_label: dict | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(described) for described in architecture)
        self.noise, self.image_shape = latent_spec["noise"]["width"], tuple(image_shape)
        self.low, self.high = output_range
        self.codes = {code["name"].split("_")[0]: code for code in latent_spec["codes"]}
        self.labels = {name.split("_")[0]: labels for name, labels in (code_to_label or {}).items()}
        self.eval()  # batchnorm's statistics are those of training; huggingface_hub 1.0 forgets it

    def forward(self, latents: Tensor) -> Tensor:
        """G's input, float32 (count, width), as ``latents`` gives it -> images.

        Returns:
            float32 (count, channels, height, width), black 0 and white 1.
        """
        x = latents
        for layer in self.layers:
            x = layer(x)
        return (x - self.low) / (self.high - self.low)

    @torch.no_grad()
    def sample(self, count: int, seed: int | None = None, **codes: float | Tensor) -> Tensor:
        """Images of random noise and codes: see ``latents`` and ``forward``."""
        return self(self.latents(count, seed, **codes))

    def latents(self, count: int, seed: int | None = None, **codes: float | Tensor) -> Tensor:
        """G's input: random, but for the codes that are given.

        Args:
            count: how many.
            seed: of the draw; None for another one each time.
            codes: by name, a number for all or a tensor of one for each; a category is its index.

        Returns:
            float32 (count, width).

        Raises:
            ValueError: there is no such code, or no such category.
        """
        if unknown := codes.keys() - self.codes.keys():
            raise ValueError(f"{min(unknown)}: no such code; there are {', '.join(self.codes)}")
        random = torch.Generator()
        random.seed() if seed is None else random.manual_seed(seed)
        parts = [torch.randn(count, self.noise, generator=random)]
        for name, code in self.codes.items():
            uniform = torch.rand(count, generator=random)
            value = {  # by the prior's quantile function
                "categorical": (uniform * code["width"]).floor(),
                "uniform": 2 * uniform - 1,
                "gaussian": torch.special.ndtri(uniform),
                "bernoulli": (uniform >= 0.5).float(),
            }[code["kind"]]
            if name in codes:
                value = torch.as_tensor(codes[name], dtype=torch.float32).expand(count)
            if code["encoding"] == "one-hot":
                if not set(value.tolist()) <= set(range(code["width"])):
                    raise ValueError(f"{name}: whole numbers from 0 to {code['width'] - 1} work")
                parts.append(F.one_hot(value.long(), code["width"]).float())
            else:
                parts.append(value.unsqueeze(1))
        device = next(self.parameters()).device
        return torch.cat(parts, dim=1).to(device)
