"""One training iteration of the engine proper: losses, backward passes, both updates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.codes import Latents
from fastinfogan.config import ADAM_EPS, TrainConfig
from fastinfogan.kernels.mi_loss import mi_loss_reference
from fastinfogan.networks import Discriminator, Generator, frozen


class Batch(NamedTuple):
    """What one iteration consumes. A simultaneous update uses ``latents_d`` alone."""

    real: Tensor  # (B, C, H, W) in the architecture's output range
    latents_d: Latents
    latents_g: Latents | None


class Losses(NamedTuple):
    """What one iteration reports, as tensors on the device: reading them is the caller's choice."""

    d_loss: Tensor  # (), nats: -log D(x) - log(1 - D(G))
    g_loss: Tensor  # (), nats: -log D(G)
    nll: Tensor  # (codes,), nats, of the codes of D's update under Q; L_I = H(c) - nll


class FastEngine:
    """D and Q learn in one pass over [real; fake]; then G learns through a frozen D.

    The halves of D's batch are normalised apart (``groups=2``), so the pass gives what two passes
    would, with matrix products twice as tall.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        spec, optim = config.spec, config.optim
        self.spec, self.lambdas = spec, config.lambdas
        self.informed = optim.objective == "infogan"
        self.generator = Generator(config.architecture, spec).to(device)
        self.discriminator = Discriminator(config.architecture, spec, config.model.separate_q).to(
            device
        )
        self.adam_d, self.adam_g = (
            torch.optim.Adam(
                network.parameters(), lr, (optim.beta1, optim.beta2), ADAM_EPS, fused=True
            )
            for network, lr in ((self.discriminator, optim.lr_d), (self.generator, optim.lr_g))
        )
        self.step = self._alternating if optim.update == "alternating" else self._simultaneous

    def _alternating(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.generator(self.spec.assemble(*batch.latents_d))
        d_loss, information, nll, _ = self._d_losses(batch.real, fake, batch.latents_d.values)
        self.adam_d.zero_grad()
        (d_loss + information).backward()
        self.adam_d.step()

        d = self.discriminator
        with frozen(d):
            fake = self.generator(self.spec.assemble(*batch.latents_g))
            features = d.features(fake)
            g_loss = F.softplus(-d.logits(features)).mean()
            total = g_loss
            if self.informed:
                q_params = d.q_params(fake, features)
                total = total + self._information(q_params, batch.latents_g.values)[0]
            self.adam_g.zero_grad()
            total.backward()
        self.adam_g.step()
        return Losses(d_loss.detach(), g_loss.detach(), nll)

    def _simultaneous(self, batch: Batch) -> Losses:
        fake = self.generator(self.spec.assemble(*batch.latents_d))
        d_loss, information, nll, logits_fake = self._d_losses(
            batch.real, fake, batch.latents_d.values
        )
        g_loss = F.softplus(-logits_fake).mean()
        g_total = g_loss + information if self.informed else g_loss
        # Both gradients come from the weights before either update.
        for network, total, keep in (
            (self.discriminator, d_loss + information, True),
            (self.generator, g_total, False),
        ):
            parameters = list(network.parameters())
            grads = torch.autograd.grad(total, parameters, retain_graph=keep)
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad
        self.adam_d.step()
        self.adam_g.step()
        return Losses(d_loss.detach(), g_loss.detach(), nll)

    def _d_losses(
        self, real: Tensor, fake: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """D's loss, the weighted NLL, the NLL per code, and D's logits on the fakes."""
        d = self.discriminator
        features = d.features(torch.cat([real, fake]), groups=2)
        logits_real, logits_fake = d.logits(features).chunk(2)
        d_loss = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
        features_fake = features.chunk(2)[1]
        if not self.informed:  # Q watches: no gradient of its loss reaches the trunk or G
            features_fake, fake = features_fake.detach(), fake.detach()
        information, nll = self._information(d.q_params(fake, features_fake), values)
        return d_loss, information, nll, logits_fake

    def _information(self, q_params: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return mi_loss_reference(q_params, values, self.spec.codes, self.lambdas)
