"""What D with Q, and what G, minimise: the seam at which a loss is changed or added.

    D, Q    -log D(x) - log(1 - D(G(z, c))) - lambda L_I        (paper, eq. 6)
    G       -log D(G(z, c)) - lambda L_I                        (the non-saturating form)

With ``--objective gan``, the baseline of the paper's Fig. 1, no gradient of L_I reaches the trunk
or G: Q only watches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.config import TrainConfig
from fastinfogan.kernels.mi_loss import d_loss, g_loss
from fastinfogan.model.networks import Discriminator


class Objective:
    """The losses of one iteration, from what D and Q put out.

    Args:
        config: resolved.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._codes, self._lambdas = config.spec.codes, config.lambdas
        self.informed = config.optim.objective == "infogan"

    def d_loss(self, logits: Tensor, q_params: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What D and Q minimise, and its terms; arguments and results as ``mi_loss.d_loss``'s."""
        return d_loss(logits, q_params, values, self._codes, self._lambdas)

    def g_loss(
        self, logits: Tensor, q_params: Tensor | None, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What G minimises, and its terms; arguments and results as ``mi_loss.g_loss``'s.

        ``q_params`` isn't looked at where nothing of L_I reaches G.
        """
        if self.informed:
            return g_loss(logits, q_params, values, self._codes, self._lambdas)
        loss = F.softplus(-logits.to(torch.promote_types(logits.dtype, torch.float32))).mean()
        return loss, loss.detach().view(1)


def judge(d: Discriminator, images: Tensor, groups: int, informed: bool) -> tuple[Tensor, Tensor]:
    """D's and Q's view of a batch.

    Args:
        d: the discriminator.
        images: (groups B, C, H, W): the real ones first if ``groups`` is 2.
        groups: parts of the batch that are normalised apart, 1 or 2.
        informed: let gradients of Q's loss reach the trunk and the images.

    Returns:
        D's logits on all images, (groups B,), and Q's output on the last group, the generated
        ones, (B, q_width).
    """
    features = d.features(images, groups)
    logits = d.logits(features)
    fake, features_fake = images.chunk(groups)[-1], features.chunk(groups)[-1]
    if not informed:
        fake, features_fake = fake.detach(), features_fake.detach()
    return logits, d.q_params(fake, features_fake)
