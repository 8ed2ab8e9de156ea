"""What D with Q, and what G, minimise: the seam at which a loss is changed or added.

    D, Q    -log D(x) - log(1 - D(G(z, c))) - lambda L_I + weight L_cons
    G       -log D(G(z, c)) - lambda L_I + weight L_contr + weight L_orth

(Paper, eq. 6, and the non-saturating form.) L_cons is ours, and off in the paper's presets: Q's
categories must agree on a real image and on a slightly changed copy (``kernels/consistency``). It
reaches the trunk and Q, through a pass of the copy alone. With ``--augment`` D and Q see every
image, real or generated, slightly changed; G's gradient flows back through the change.

L_contr is InfoGAN-CR's (Lin, Thekumparampil, Fanti and Oh 2020), and off in the paper's presets as
well: of two generated images that share one continuous code (``engine/pairs.py``) a network of its
own tells which code that is. It learns in D's update, as nothing else does from L_contr there.
L_orth asks of G that no two codes change an image alike (``engine/nudges.py``); off there, too.

With ``--objective gan``, the baseline of the paper's Fig. 1, no gradient of L_I reaches the trunk
or G: Q only watches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.config import TrainConfig
from fastinfogan.kernels.consistency import consistency
from fastinfogan.kernels.mi_loss import d_loss, g_loss
from fastinfogan.kernels.mi_loss.prepared import Prepared
from fastinfogan.model.networks import Discriminator


class View(NamedTuple):
    """What D and Q put out on a batch; None where nobody asked."""

    logits: Tensor  # D's, (groups B,)
    q_params: Tensor | None  # Q's on the generated images, (B, q_width)
    q_image: Tensor | None = None  # Q's on the real images, without a gradient


class Objective:
    """The losses of one iteration, from what D and Q put out.

    Each takes a seed: the one number that its backward pass begins with, 1 or a loss scale. The
    launch that finds a loss multiplies its gradients by it. Without one, None, the backward pass
    begins as torch has it.

    Args:
        config: resolved.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._codes, self._lambdas = config.spec.codes, config.lambdas
        self.contrastive, self.orthogonal = config.optim.contrastive, config.optim.orthogonal
        self.informed = config.optim.objective == "infogan"

    def d_loss(
        self, view: View, values: Tensor, seed: Tensor | None, tally: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What D and Q minimise, L_cons left out; and its terms, as ``mi_loss.d_loss`` has them.

        Args:
            view: of the real images, then the generated ones.
            values: (B, codes), the codes that these were made from.
            seed: see the class.
            tally: what the terms are added to, as ``mi_loss.d_loss`` has it.
        """
        given = view.logits, view.q_params, values, self._codes, self._lambdas
        return d_loss(*given, seed=seed, tally=tally)

    def disagreement(self, q_image: Tensor, q_copy: Tensor, seed: Tensor | None) -> Tensor:
        """L_cons.

        Args:
            q_image, q_copy: (B, q_width), Q's output on real images and on their changed copies.
            seed: see the class; it has L_cons' weight in it.
        """
        return consistency(q_image, q_copy, self._codes, seed=seed)

    def contrast(self, logits: Tensor, shared: Tensor) -> Tensor:
        """L_contr, in nats.

        Args:
            logits: (pairs, continuous codes), from ``compare``.
            shared: int64 (pairs,), the code that each pair shares.
        """
        wide = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(logits.to(wide), shared)

    def g_loss(
        self, view: View, values: Tensor, seed: Tensor | None, tally: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What G minimises, and its terms as ``mi_loss.g_loss`` has them.

        Args:
            view: of the generated images; Q's isn't looked at where nothing of L_I reaches G.
            values: (B, codes), the codes that they were made from.
            seed, tally: as for ``d_loss``; the tally only where ``informed``.
        """
        logits = view.logits
        if self.informed:
            given = logits, view.q_params, values, self._codes, self._lambdas
            return g_loss(*given, seed=seed, tally=tally)
        loss = F.softplus(-logits.to(torch.promote_types(logits.dtype, torch.float32))).mean()
        return loss, loss.detach().view(1)

    def prepared(self, name: str, view: View) -> Prepared:
        """``d_loss`` or ``g_loss`` by hand, for outputs that lie where the view's lie.

        Args:
            name: which of the two.
            view: D's and Q's outputs.
        """
        return Prepared(name, view.logits, view.q_params, self._codes, self._lambdas)


def judge(
    d: Discriminator, images: Tensor, groups: int, informed: bool, look_at_real: bool = False
) -> View:
    """D's and Q's view of a batch.

    Args:
        d: the discriminator.
        images: (groups B, C, H, W): the real ones first if ``groups`` is 2.
        groups: parts of the batch that are normalised apart, 1 or 2.
        informed: let gradients of Q's loss reach the trunk and the images.
        look_at_real: let Q look at the real images as well, without a trace in the running
            statistics.
    """
    fake = images.chunk(groups)[-1]
    if d.q_trunk is None:
        whole = d.features if look_at_real else d.features_for_heads
        features = whole(images, groups)
        logits, features_fake = d.logits_and_tail(features, len(fake))
    else:  # Q reads the images, and nobody but D its trunk's output
        features, features_fake = images, fake
        logits = d.judged(images, groups)
    if not informed:
        fake, features_fake = fake.detach(), features_fake.detach()
    q_params = d.q_params(fake, features_fake)
    if not look_at_real:
        return View(logits, q_params)
    with torch.no_grad():
        q_image = d.q_params(images.chunk(groups)[0], features.chunk(groups)[0], statistics=False)
    return View(logits, q_params, q_image)


def look(d: Discriminator, copy: Tensor) -> Tensor:
    """Q's output on changed copies of real images, (B, q_width).

    It goes by the copies' own statistics and leaves no trace in the running ones.

    Args:
        d: the discriminator, or its like with gradients of its own (``FlatAdam.apart``).
        copy: (B, C, H, W).
    """
    return d.q_of(copy, statistics=False)


def compare(d: Discriminator, images: Tensor) -> Tensor:
    """Which code images 2 j and 2 j + 1 are thought to share, (B / 2, continuous codes).

    Args:
        d: the discriminator.
        images: (B, C, H, W), generated.
    """
    return d.contrast_logits(images)
