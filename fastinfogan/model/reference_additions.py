"""What an objective may have beside the paper's, in plain PyTorch: the second reference page.

All of it is off in the paper's presets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastinfogan.kernels.codes import Code
from fastinfogan.model.latent_spec import LatentSpec


def keep_statistics(network: nn.Module, keep: bool) -> None:
    """Keep the running statistics as they are, or let them learn again."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.track_running_stats = not keep  # it still normalises with the batch's own


# -- 1. Ours: small changes that make no difference ------------------------------------------


def changed(images: Tensor, maps: Tensor, fill: Tensor, middle: float) -> Tensor:
    """Each image as its map shows it: moved, then in another light."""
    maps, fill = maps.to(images.dtype), fill.to(images.dtype).view(1, -1, 1, 1)
    grid = F.affine_grid(maps[:, :6].reshape(-1, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images - fill, grid, align_corners=False) + fill
    gain, bias = maps[:, 6:].reshape(-1, 2, 1, 1, 1).unbind(1)
    return gain * (moved - middle) + middle + bias


def disagreement(q_image: Tensor, q_copy: Tensor, codes: tuple[Code, ...]) -> Tensor:
    """L_cons: KL(Q(c | x) || Q(c | T(x))), in nats, summed over the discrete codes.

    A continuous code may be what T changes: it takes no part.
    """
    total, column = q_copy.new_zeros(()), 0
    for code in codes:
        p, q = (out[:, column : column + code.q_width] for out in (q_image, q_copy))
        column += code.q_width
        if code.regularized and code.kind == "categorical":
            log_p, log_q = p.log_softmax(1), q.log_softmax(1)
            total = total + (log_p.exp() * (log_p - log_q)).sum(1).mean()
        elif code.regularized and code.kind == "bernoulli":
            for sign in (1.0, -1.0):  # log sigmoid(x) and log(1 - sigmoid(x)) = log sigmoid(-x)
                log_p, log_q = F.logsigmoid(sign * p), F.logsigmoid(sign * q)
                total = total + (log_p.exp() * (log_p - log_q)).mean()
    return total


# -- 2. Of InfoGAN-CR: which code do two images share? ---------------------------------------


def contrast(network: nn.Module, images: Tensor, shared: Tensor) -> Tensor:
    """L_contr, in nats: images 2 j and 2 j + 1 share one continuous code; which is it?"""
    pairs = torch.cat([images[0::2], images[1::2]], dim=1)  # as channels of one image
    return F.cross_entropy(network(pairs), shared)


# -- 3. Orthogonal Jacobians (Wei et al. 2021): do two codes change an image alike? -----------


def crossing(generator: nn.Module, latents: Tensor, values: Tensor, spec: LatentSpec) -> Tensor:
    """L_orth: mean cos^2 of the changes that two codes make to an image, each nudged by 0.2."""
    starts = [spec.noise + sum(c.input_width for c in spec.codes[:i]) for i in spec.continuous]
    nudged = [[], [], [], []]
    for sample in range(0, len(latents), 4):
        # Two codes: those that lie farthest out in the sample before, as good as drawn.
        out = values[sample - 1, list(spec.continuous)].abs()
        for two, code in enumerate(out.topk(2).indices.tolist()):
            drawn_in = latents[sample].clone()
            drawn_in[starts] *= 0.8  # so that none leaves [-1, 1]
            step = torch.zeros_like(drawn_in)
            step[starts[code]] = 0.2
            nudged[2 * two].append(drawn_in + step)
            nudged[2 * two + 1].append(drawn_in - step)
    keep_statistics(generator, True)
    images = generator(torch.stack([one for kind in nudged for one in kind]))
    keep_statistics(generator, False)
    up, down, up_too, down_too = images.flatten(1).chunk(4)
    u, v = up - down, up_too - down_too
    return ((u * v).sum(1) ** 2 / ((u * u).sum(1) * (v * v).sum(1) + 1e-12)).mean()
