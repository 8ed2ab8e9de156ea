"""d_loss and mi_loss with their gradients over the presets' codes, against plain torch.

    pytest bench/bench_mi_loss.py --benchmark-group-by=param:form,param:codes,param:dtype

Each timing follows a check of the results. "reference" is what one would write without the op;
"compiled" is Inductor's fusion of it.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as

from bench.harness import DEVICE, FUSED
from fastinfogan.device import wait
from fastinfogan.kernels.mi_loss import d_loss, d_loss_reference, mi_loss, mi_loss_reference
from fastinfogan.model.latent_spec import parse_codes

CODES = {
    "mnist": "cat10,2xuni",
    "svhn": "4xcat10,4xuni:learned",
    "celeba": "10xcat10",
    "faces": "5xuni:learned",
    "chairs": "3xcat20,uni:learned",
    "mnist-mlp": "cat10",
    "folder": "cat10,4xuni",
}
FORMS = {"mi_loss": (mi_loss, mi_loss_reference), "d_loss": (d_loss, d_loss_reference)}
WARMUP = 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", ["reference", "compiled", FUSED])
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("form", FORMS)
def bench_loss(benchmark, batch, form, codes, impl, dtype):
    if impl == "compiled" and batch < 128:
        pytest.skip("compiling takes longer than everything else here")
    spec = parse_codes(CODES[codes])
    weights = (1.0,) * len(spec)
    torch.manual_seed(0)
    leaves = [torch.randn(batch, sum(code.q_width for code in spec), device=DEVICE).to(dtype)]
    if form == "d_loss":
        leaves.insert(0, torch.randn(2 * batch, device=DEVICE).to(dtype))
    columns = [
        torch.randint(code.categories, (batch,)).float()
        if code.kind == "categorical"
        else torch.rand(batch)
        for code in spec
    ]
    values = torch.stack(columns, dim=1).to(DEVICE)
    fused, reference = FORMS[form]
    call = fused if impl == FUSED else reference
    if impl == "compiled":
        torch._dynamo.reset()  # else earlier specs count against the limit of recompilations
        call = torch.compile(reference, fullgraph=True)

    leaves = [t.requires_grad_() for t in leaves]
    doubles = [t.detach().double().requires_grad_() for t in leaves]

    def run(call=call, leaves=leaves):
        total, terms = call(*leaves, values, spec, weights)
        grads = torch.autograd.grad(total, leaves)
        wait(DEVICE)
        return total.detach(), terms, *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    results = zip(run(), run(reference), run(reference, doubles), strict=True)
    for i, (got, plain, truth) in enumerate(results):
        assert_as_close_as(got, plain, truth.cpu(), f"{impl}, result {i}")

    benchmark.pedantic(run, rounds=300 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
