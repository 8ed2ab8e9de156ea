"""InfoGAN in plain eager PyTorch, on one page: the oracle, and the best place to learn the method.

Nothing here is fast, and nothing is hidden: read it from top to bottom. It imports the rows of the
paper's tables and what a code is, and nothing else of this package. The engine proper
(``engine/step.py``) must give the same losses, gradients and weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastinfogan.config import ADAM_EPS, LEAK, Layer, Shape, TrainConfig
from fastinfogan.kernels.codes import Code

# -- 0. What an iteration takes in, and what it reports -------------------------------------


class Inputs(NamedTuple):
    """One draw of noise and codes."""

    latents: Tensor  # (B, input_width): G's input, categorical codes one-hot
    values: Tensor  # (B, codes) float32: what Q has to find; a category as its index


class Batch(NamedTuple):
    """What one iteration consumes. A simultaneous update uses ``inputs_d`` alone."""

    real: Tensor  # (B, C, H, W) in the architecture's output range
    inputs_d: Inputs
    inputs_g: Inputs | None


class Losses(NamedTuple):
    """What one iteration reports, as tensors on the device: reading them is the caller's choice."""

    d_loss: Tensor  # (), nats: -log D(x) - log(1 - D(G))
    g_loss: Tensor  # (), nats: -log D(G)
    nll: Tensor  # (codes,), nats, of the codes of D's update under Q; L_I = H(c) - nll


# -- 1. The networks ----------------------------------------------------------------------


class Block(nn.Module):
    """Linear map -> batchnorm -> activation, for one row of the paper's tables."""

    def __init__(self, row: Layer, inputs: Shape) -> None:
        super().__init__()
        self.row = row
        if row.kind == "fc":
            self.op = nn.Linear(torch.Size(inputs).numel(), row.features, bias=row.bias)
            self.norm = nn.BatchNorm1d(row.features) if row.norm else nn.Identity()
        else:
            kind = nn.Conv2d if row.kind == "conv" else nn.ConvTranspose2d
            padding = 0 if row.kind == "conv" and row.stride == 1 else 1
            self.op = kind(inputs[0], row.features, 4, row.stride, padding, bias=row.bias)
            self.norm = nn.BatchNorm2d(row.features) if row.norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        row = self.row
        if row.kind == "fc" and x.dim() == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)  # features in (height, width, channel) order
        if row.kind == "conv" and row.stride == 1:
            x = F.pad(x, (1, 2, 1, 2))  # "same" for a 4x4 kernel: one zero before, two after
        x = self.op(x)
        if row.kind == "upconv" and row.stride == 1:
            x = x[..., :-1, :-1]  # padding=1 cropped one row each side; "same" crops two after
        x = self.norm(x)
        if row.activation in ("relu", "lrelu"):
            x = F.leaky_relu(x, LEAK if row.activation == "lrelu" else 0.0)
        elif row.activation in ("sigmoid", "tanh"):
            x = torch.sigmoid(x) if row.activation == "sigmoid" else torch.tanh(x)
        if row.shape is not None:
            channels, height, width = row.shape
            x = x.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return x


def sequence(rows: list[tuple[Layer, Shape, Shape]]) -> nn.Sequential:
    return nn.Sequential(*(Block(row, inputs) for row, inputs, _ in rows))


class Generator(nn.Module):
    """G: noise and codes in, images out."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.layers = sequence(config.architecture.rows(config.spec)["generator"])

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


class Discriminator(nn.Module):
    """D and Q: one trunk, two heads (or a second trunk for Q)."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        rows = config.architecture.rows(config.spec)
        self.trunk = sequence(rows["trunk"])
        self.d_head = sequence(rows["d_head"])
        self.q_trunk = sequence(rows["trunk"]) if config.model.separate_q else None
        self.q_head = sequence(rows["q_head"])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.logits(features), self.q_params(images, features)

    def logits(self, features: Tensor) -> Tensor:
        return self.d_head(features).squeeze(1)

    def q_params(self, images: Tensor, features: Tensor) -> Tensor:
        return self.q_head(features if self.q_trunk is None else self.q_trunk(images))


# -- 2. The information term: L_I = H(c) - NLL of the codes under Q -------------------------


def code_nlls(q_params: Tensor, values: Tensor, codes: tuple[Code, ...]) -> Tensor:
    """Mean negative log-likelihood of each code, in nats; 0 for a code that Q isn't asked for."""
    nlls, column = [], 0
    for code, value in zip(codes, values.unbind(1), strict=True):
        out = q_params[:, column : column + code.q_width]  # what Q says of this code
        column += code.q_width
        if not code.regularized:
            nlls.append(q_params.new_zeros(()))
        elif code.kind == "categorical":
            nlls.append(F.cross_entropy(out, value.long()))
        elif code.kind == "bernoulli":
            nlls.append(F.binary_cross_entropy_with_logits(out[:, 0], value))
        else:  # a Gaussian around Q's first number
            sigma = torch.ones_like(value)
            if code.std == "learned":  # exp(s) near s = 0, and bounded (docs/architecture.md)
                sigma = torch.exp(2.0 * torch.tanh(out[:, 1] / 2.0))
            gaussian = torch.distributions.Normal(out[:, 0], sigma, validate_args=False)
            nlls.append(-gaussian.log_prob(value).mean())
    return torch.stack(nlls)


# -- 3. One iteration ------------------------------------------------------------------------


def freeze(network: nn.Module, frozen: bool) -> None:
    """Stop a network from learning, its running statistics included, or let it learn again."""
    network.requires_grad_(not frozen)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.track_running_stats = not frozen  # it still normalises with the batch's own


class ReferenceEngine:
    """Updates D and Q, then G, once per call."""

    loss_scale = None  # no mixed precision here

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.codes = config.spec.codes
        self.lambdas = torch.tensor(config.lambdas, dtype=torch.float64, device=device)
        self.generator = Generator(config).to(device)
        self.discriminator = Discriminator(config).to(device)
        optim = config.optim
        betas = (optim.beta1, optim.beta2)
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), optim.lr_d, betas, ADAM_EPS)
        self.adam_g = torch.optim.Adam(self.generator.parameters(), optim.lr_g, betas, ADAM_EPS)

        self.informed = optim.objective == "infogan"  # False: a plain GAN that Q only watches
        self.step = self.alternating if optim.update == "alternating" else self.simultaneous

    def alternating(self, batch: Batch) -> Losses:
        """D and Q learn from one draw of codes, then G from another."""
        g, d = self.generator, self.discriminator

        # D and Q: tell real from fake, and read the codes off the fakes.
        with torch.no_grad():
            fake = g(batch.inputs_d.latents)
        d_loss, nll, _ = self.d_losses(batch.real, fake, batch.inputs_d.values)
        self.adam_d.zero_grad()
        (d_loss + self.weighted(nll)).backward()
        self.adam_d.step()

        # G: fool the new D, and make the codes readable. Nothing of D or Q changes.
        freeze(d, True)
        fake = g(batch.inputs_g.latents)
        features = d.trunk(fake)
        g_loss = F.softplus(-d.logits(features)).mean()  # non-saturating: -log D(G(z, c))
        total = g_loss
        if self.informed:
            q_params = d.q_params(fake, features)
            nll_g = code_nlls(q_params, batch.inputs_g.values, self.codes)
            total = total + self.weighted(nll_g)
        self.adam_g.zero_grad()
        total.backward()
        freeze(d, False)
        self.adam_g.step()
        return Losses(d_loss.detach(), g_loss.detach(), nll.detach())

    def simultaneous(self, batch: Batch) -> Losses:
        """One draw of codes and one pass through D serve both updates."""
        g, d = self.generator, self.discriminator
        fake = g(batch.inputs_d.latents)
        d_loss, nll, logits_fake = self.d_losses(batch.real, fake, batch.inputs_d.values)
        g_loss = F.softplus(-logits_fake).mean()
        information = self.weighted(nll)
        d_total, g_total = d_loss + information, g_loss + information * self.informed
        d_grads = torch.autograd.grad(d_total, list(d.parameters()), retain_graph=True)
        g_grads = torch.autograd.grad(g_total, list(g.parameters()))
        for p, grad in zip([*d.parameters(), *g.parameters()], d_grads + g_grads, strict=True):
            p.grad = grad
        self.adam_d.step()
        self.adam_g.step()
        return Losses(d_loss.detach(), g_loss.detach(), nll.detach())

    def d_losses(self, real: Tensor, fake: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """D's loss, the NLL of each code under Q, and D's logits on the fakes."""
        d = self.discriminator
        logits_real = d.logits(d.trunk(real))
        features = d.trunk(fake)
        logits_fake = d.logits(features)
        # -log D(x) = softplus(-logit) and -log(1 - D(x)) = softplus(logit)
        d_loss = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
        if self.informed:
            q_params = d.q_params(fake, features)
        else:  # Q learns, but no gradient of its loss reaches D's trunk or the images
            q_params = d.q_params(fake.detach(), features.detach())
        return d_loss, code_nlls(q_params, values, self.codes), logits_fake

    def weighted(self, nll: Tensor) -> Tensor:
        """The codes' NLLs, each times its lambda."""
        return (nll * self.lambdas.to(nll.dtype)).sum()
