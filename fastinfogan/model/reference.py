"""InfoGAN in plain eager PyTorch, on one page: the oracle, and the best place to learn the method.

Nothing here is fast, and nothing is hidden: read it from top to bottom. It imports the rows of the
paper's tables, what a code is, and a second page with what isn't in the paper
(``reference_additions.py``), and nothing else of this package. The engine proper
(``engine/step.py``) must give the same losses, gradients and weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastinfogan.config import ADAM_EPS, LEAK, Layer, Shape, TrainConfig
from fastinfogan.kernels.codes import Code
from fastinfogan.model.reference_additions import (
    changed,
    contrast,
    crossing,
    disagreement,
    keep_statistics,
)

# -- 0. What an iteration takes in, and what it reports -------------------------------------


class Inputs(NamedTuple):
    """One draw of noise and codes."""

    latents: Tensor  # (B, input_width): G's input, categorical codes one-hot
    values: Tensor  # (B, codes) float32: what Q has to find; a category as its index
    maps: Tensor | None = None  # (B, 8): how G's images change before D sees them (--augment)
    shared: Tensor | None = None  # (B / 2,): the one continuous code of each pair (--contrastive)


class Batch(NamedTuple):
    """What one iteration consumes. A simultaneous update uses ``inputs_d`` alone."""

    real: Tensor  # (B, C, H, W) in the architecture's output range
    inputs_d: Inputs
    inputs_g: Inputs | None
    copy: Tensor | None = None  # like real: changed copies of the real images (--consistency)
    fill: Tensor | None = None  # (C,) float32: what lies beyond an image's border


class Losses(NamedTuple):
    """What one iteration reports, as tensors on the device: reading them is the caller's choice."""

    d_loss: Tensor  # (), nats: -log D(x) - log(1 - D(G))
    g_loss: Tensor  # (), nats: -log D(G)
    nll: Tensor  # (codes,), nats, of the codes of D's update under Q; L_I = H(c) - nll
    consistency: Tensor | None = None  # (), nats: L_cons, if it takes part
    contrastive: Tensor | None = None  # (), nats: L_contr, if it takes part
    orthogonal: Tensor | None = None  # (), 0 to 1: L_orth, if it takes part


# -- 1. The networks ----------------------------------------------------------------------


class Block(nn.Module):
    """Linear map -> batchnorm -> activation, for one row of the paper's tables."""

    def __init__(self, row: Layer, inputs: Shape) -> None:
        super().__init__()
        self.row = row
        inputs = row.reads(inputs)
        if row.spectral is not None:  # one number per output, see `scale`
            self.register_buffer("left", torch.ones(row.features))
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
        if row.coordinates and row.kind == "fc":  # every position's, a row each
            place = coordinates(x, *row.shape[1:]).permute(0, 2, 3, 1).flatten(1, 2)
            x = torch.cat([x[:, None].expand(-1, place.shape[1], -1), place], dim=2).flatten(0, 1)
        elif row.coordinates:
            x = torch.cat([x, coordinates(x, *x.shape[2:])], dim=1)
        if row.kind == "conv" and row.stride == 1:
            x = F.pad(x, (1, 2, 1, 2))  # "same" for a 4x4 kernel: one zero before, two after
        if row.spectral is not None:
            scaled = {"weight": self.op.weight * self.scale()}
            x = torch.func.functional_call(self.op, scaled, x)
        else:
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

    def scale(self) -> Tensor:
        """What makes the weight's largest singular value the row's: spectral / |W' u|."""
        return self.row.spectral / (self.op.weight.flatten(1).T @ self.left).norm()


def coordinates(x: Tensor, height: int, width: int) -> Tensor:
    """Where each position is, once for each of a batch: x from the left, y from the top."""
    across = torch.linspace(-1.0, 1.0, width, device=x.device, dtype=x.dtype)
    down = torch.linspace(-1.0, 1.0, height, device=x.device, dtype=x.dtype)
    place = torch.stack([across.expand(height, width), down[:, None].expand(height, width)])
    return place.expand(len(x), 2, height, width)


def sequence(rows: list[tuple[Layer, Shape, Shape]]) -> nn.Sequential:
    return nn.Sequential(*(Block(row, inputs) for row, inputs, _ in rows))


class Generator(nn.Module):
    """G: noise and codes in, images out."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.layers = sequence(config.rows["generator"])

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


class Discriminator(nn.Module):
    """D and Q: one trunk, two heads (or a second trunk for Q); and who compares (--contrastive)."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        rows = config.rows
        self.trunk = sequence(rows["trunk"])
        self.d_head = sequence(rows["d_head"])
        self.q_trunk = sequence(rows["trunk"]) if config.model.separate_q else None
        self.q_head = sequence(rows["q_head"])
        self.contrast = sequence(rows["contrast"]) if "contrast" in rows else None

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
    keep_statistics(network, frozen)


@torch.no_grad()
def turn(network: nn.Module) -> None:
    """Bring each u of ``Block.scale`` nearer to its singular vector: a step of power iteration."""
    for block in network.modules():
        if isinstance(block, Block) and block.row.spectral is not None:
            matrix = block.op.weight.flatten(1)
            block.left.copy_(F.normalize(matrix @ (matrix.T @ block.left), dim=0))


class ReferenceEngine:
    """Updates D and Q, then G, once per call."""

    loss_scale = None  # no mixed precision here

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.codes = config.spec.codes
        self.lambdas = torch.tensor(config.lambdas, dtype=torch.float64, device=device)
        self.generator = Generator(config).to(device)
        self.discriminator = Discriminator(config).to(device)
        optim = config.optim
        betas, self.rates = (optim.beta1, optim.beta2), (optim.lr_d, optim.lr_g)
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), optim.lr_d, betas, ADAM_EPS)
        self.adam_g = torch.optim.Adam(self.generator.parameters(), optim.lr_g, betas, ADAM_EPS)

        self.consistency, self.contrastive = optim.consistency, optim.contrastive
        self.orthogonal, self.spec = optim.orthogonal, config.spec
        self.growth = 1.0  # of the orthogonal weight
        self.middle = sum(config.architecture.output_range) / 2
        self.informed = optim.objective == "infogan"  # False: a plain GAN that Q only watches
        self.step = self.alternating if optim.update == "alternating" else self.simultaneous

    def scale_rates(self, share: float) -> None:
        """From now on learn at this share of both learning rates (--decay)."""
        for adam, rate in zip((self.adam_d, self.adam_g), self.rates, strict=True):
            adam.param_groups[0]["lr"] = share * rate

    def scale_orthogonal(self, share: float) -> None:
        """From now on give L_orth this share of its weight."""
        self.growth = share

    def alternating(self, batch: Batch) -> Losses:
        """D and Q learn from one draw of codes, then G from another."""
        d = self.discriminator
        turn(d)

        # D and Q: tell real from fake, and read the codes off the fakes.
        with torch.no_grad():
            fake = self.fakes(batch.inputs_d, batch)
        d_loss, nll, consistency, _ = self.d_losses(batch, fake)
        contrastive = self.contrast(fake, batch.inputs_d)  # its network learns, D and Q don't
        self.adam_d.zero_grad()
        total = d_loss + self.weighted(nll) + self.consistency * consistency + contrastive
        total.backward()
        self.adam_d.step()

        # G: fool the new D, and make the codes readable. Nothing of D or Q changes.
        freeze(d, True)
        fake = self.fakes(batch.inputs_g, batch)
        g_loss, information = self.g_losses(batch, fake)
        total = g_loss + information + self.contrastive * self.contrast(fake, batch.inputs_g)
        orthogonal = self.crossing(batch.inputs_g)
        total = total + self.growth * self.orthogonal * orthogonal
        self.adam_g.zero_grad()
        total.backward()
        freeze(d, False)
        self.adam_g.step()
        return self.report(batch, d_loss, g_loss, nll, consistency, contrastive, orthogonal)

    def simultaneous(self, batch: Batch) -> Losses:
        """One draw of codes and one pass through D serve both updates."""
        g, d = self.generator, self.discriminator
        turn(d)
        fake = self.fakes(batch.inputs_d, batch)
        d_loss, nll, consistency, logits_fake = self.d_losses(batch, fake)
        g_loss = F.softplus(-logits_fake).mean()
        information = self.weighted(nll)
        contrastive = self.contrast(fake, batch.inputs_d)
        d_total = d_loss + information + self.consistency * consistency + contrastive
        g_total = g_loss + information * self.informed + self.contrastive * contrastive
        orthogonal = self.crossing(batch.inputs_d)
        g_total = g_total + self.growth * self.orthogonal * orthogonal
        d_grads = torch.autograd.grad(d_total, list(d.parameters()), retain_graph=True)
        g_grads = torch.autograd.grad(g_total, list(g.parameters()))
        for p, grad in zip([*d.parameters(), *g.parameters()], d_grads + g_grads, strict=True):
            p.grad = grad
        self.adam_d.step()
        self.adam_g.step()
        return self.report(batch, d_loss, g_loss, nll, consistency, contrastive, orthogonal)

    def fakes(self, inputs: Inputs, batch: Batch) -> Tensor:
        """G's images as D and Q get to see them."""
        images = self.generator(inputs.latents)
        if inputs.maps is None:
            return images
        return changed(images, inputs.maps, batch.fill, self.middle)

    def contrast(self, fake: Tensor, inputs: Inputs) -> Tensor:
        """L_contr of generated images; 0 where it takes no part."""
        if inputs.shared is None:
            return fake.new_zeros(())
        return contrast(self.discriminator.contrast, fake, inputs.shared)

    def crossing(self, inputs: Inputs) -> Tensor:
        """L_orth of G; 0 where it takes no part."""
        if not self.orthogonal:
            return inputs.latents.new_zeros(())
        return crossing(self.generator, inputs.latents, inputs.values, self.spec)

    def d_losses(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """D's loss, the NLL of each code under Q, L_cons, and D's logits on the fakes."""
        d, real, values = self.discriminator, batch.real, batch.inputs_d.values
        features_real = d.trunk(real)
        logits_real = d.logits(features_real)
        features = d.trunk(fake)
        logits_fake = d.logits(features)
        # -log D(x) = softplus(-logit) and -log(1 - D(x)) = softplus(logit)
        d_loss = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
        if self.informed:
            q_params = d.q_params(fake, features)
        else:  # Q learns, but no gradient of its loss reaches D's trunk or the images
            q_params = d.q_params(fake.detach(), features.detach())
        consistency = d_loss.new_zeros(())
        if batch.copy is not None:  # neither look of Q leaves a trace in the running statistics
            keep_statistics(d, True)
            with torch.no_grad():
                q_image = d.q_params(real, features_real)
            q_copy = d.q_params(batch.copy, d.trunk(batch.copy))
            keep_statistics(d, False)
            consistency = disagreement(q_image, q_copy, self.codes)
        return d_loss, code_nlls(q_params, values, self.codes), consistency, logits_fake

    def g_losses(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """G's loss, and the weighted NLL of the codes under Q; 0 where G doesn't care."""
        features = self.discriminator.trunk(fake)
        # non-saturating: -log D(G(z, c))
        g_loss = F.softplus(-self.discriminator.logits(features)).mean()
        if not self.informed:
            return g_loss, g_loss.new_zeros(())
        q_params = self.discriminator.q_params(fake, features)
        return g_loss, self.weighted(code_nlls(q_params, batch.inputs_g.values, self.codes))

    def report(self, batch: Batch, *losses: Tensor) -> Losses:
        """What the iteration reports."""
        *paper, consistency, contrastive, orthogonal = (loss.detach() for loss in losses)
        return Losses(
            *paper,
            None if batch.copy is None else consistency,
            None if batch.inputs_d.shared is None else contrastive,
            orthogonal if self.orthogonal else None,
        )

    def weighted(self, nll: Tensor) -> Tensor:
        """The codes' NLLs, each times its lambda."""
        return (nll * self.lambdas.to(nll.dtype)).sum()
