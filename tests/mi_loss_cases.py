"""What the tests of mi_loss, d_loss and g_loss share: codes to try, inputs, and how to run one."""

from __future__ import annotations

import torch

from fastinfogan.kernels.mi_loss import d_loss, g_loss, mi_loss
from fastinfogan.model.latent_spec import parse_codes

# Why each case is here: codes, batch.
CASES = {
    "mnist, an odd batch": ("cat10,2xuni", 37),
    "celeba: the categories share nothing": ("10xcat10", 20),
    "svhn: all kinds of columns side by side": ("4xcat10,4xuni:learned", 17),
    "chairs: more categories than lanes": ("3xcat20,uni:learned", 9),
    "every kind, and a code without columns": ("gauss,cat3,uni:free,bern,gauss:learned,cat7", 19),
    "a single image": ("cat10,uni", 1),
    "no categorical code": ("bern,uni", 5),
    "two categories, the fewest": ("cat2", 3),
    "whole vectors of categories": ("cat64,uni,cat16", 6),
    "the most categories": ("cat1024,bern", 5),
    "many codes": ("5xcat3,5xuni,5xbern,5xgauss:learned", 4),
    "a code that isn't regularised comes last": ("cat5:free,cat5,uni:free", 4),
}
FORMS = {"mi": mi_loss, "d": d_loss, "g": g_loss}
NAMES = ("total", "terms", "dlogits", "dq_params")


def inputs(spec, batch, dtype, form="mi", seed=0, scale=2.0):
    """logits (None for mi_loss), q_params, values, codes, weights; as rounded to ``dtype``."""
    random = torch.Generator().manual_seed(seed)
    codes = parse_codes(spec)

    def draw(*size):
        return (scale * torch.randn(*size, generator=random)).to(dtype)

    columns = {
        "categorical": lambda c: torch.randint(c.categories, (batch,), generator=random).float(),
        "bernoulli": lambda _: torch.randint(2, (batch,), generator=random).float(),
        "uniform": lambda _: 2.0 * torch.rand(batch, generator=random) - 1.0,
        "gaussian": lambda _: torch.randn(batch, generator=random),
    }
    values = torch.stack([columns[code.kind](code) for code in codes], dim=1)
    weights = tuple(0.5 + 0.25 * i for i in range(len(codes)))
    logits = None if form == "mi" else draw((2 if form == "d" else 1) * batch)
    return logits, draw(batch, sum(code.q_width for code in codes)), values, codes, weights


def outputs(tensors, impl, device="cpu", dtype=None, incoming=1.0):
    """The four results by the order of NAMES, in ``dtype`` if given; no dlogits for mi_loss."""
    logits, q_params, values, codes, weights = tensors
    leaves = [
        t.to(device, dtype, copy=True).requires_grad_() for t in (logits, q_params) if t is not None
    ]
    form = "mi" if logits is None else "d" if len(logits) > len(q_params) else "g"
    total, terms = FORMS[form](*leaves, values.to(device), codes, weights, impl=impl)
    assert not terms.requires_grad
    grads = torch.autograd.grad(total, leaves, torch.full_like(total, incoming))
    return [total.detach(), terms, *([None] * (2 - len(grads))), *grads]
