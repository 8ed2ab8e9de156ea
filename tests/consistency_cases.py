"""What the tests of consistency share: codes to try, inputs, and how to run one."""

from __future__ import annotations

import torch

from fastinfogan.kernels.consistency import consistency
from fastinfogan.model.latent_spec import parse_codes

# Why each case is here: codes, batch.
CASES = {
    "one code": ("cat10", 37),
    "celeba: the categories share nothing": ("10xcat10", 20),
    "mnist: continuous codes take no part": ("cat10,2xuni", 17),
    "every kind, and a code without columns": ("cat3,bern,uni,gauss:learned,cat4:free", 19),
    "continuous columns come first": ("gauss:learned,uni,cat7,bern", 9),
    "a single image": ("cat10,bern,uni", 1),
    "no categorical code": ("2xbern,uni", 5),
    "whole vectors of categories": ("cat64,uni,cat16", 6),
    "the most categories": ("cat1024,bern", 3),
}
NAMES = ("loss", "dq_copy")


def inputs(spec, batch, dtype, seed=0, scale=2.0):
    """q_image, q_copy, codes; the numbers as rounded to ``dtype``."""
    random, codes = torch.Generator().manual_seed(seed), parse_codes(spec)
    shape = 2, batch, sum(code.q_width for code in codes)
    q_image, q_copy = (scale * torch.randn(shape, generator=random)).to(dtype)
    return q_image, q_copy, codes


def outputs(tensors, impl, device="cpu", dtype=None, incoming=1.0):
    """The loss and q_copy's gradient, in ``dtype`` if given."""
    q_image, q_copy, codes = tensors
    q_image, q_copy = (t.to(device, dtype, copy=True) for t in (q_image, q_copy))
    q_image.requires_grad_()
    q_copy.requires_grad_()
    loss = consistency(q_image, q_copy, codes, impl=impl)
    loss.backward(torch.full_like(loss, incoming))
    assert q_image.grad is None
    return [loss.detach(), q_copy.grad]
