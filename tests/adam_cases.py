"""What adam's tests share: the shapes, a network's state, and gradients for it."""

from __future__ import annotations

import torch

from fastinfogan.config import ADAM_EPS
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.adam.layout import ALIGN

# The gradients' shapes: why each is here.
SHAPES = {
    "one number": [(1,)],
    "no multiple of any vector": [(37,), (5, 7)],
    "a block, one number less, one more": [(ALIGN,), (ALIGN - 1,), (ALIGN + 1,)],
    "channels-last weights": [(8, 6, 3, 3), (6,), (4, 1, 5, 5)],
    "many segments": [(size,) for size in range(1, 25)],
}
SETTINGS = dict(beta1=0.5, beta2=0.999, eps=ADAM_EPS)
NAMES = ("params", "exp_avg", "exp_avg_sq", "copy")


class State:
    """A flat buffer of random parameters and what goes with it, at a step."""

    def __init__(self, shapes, dtype=torch.float32, copy=None, device="cpu", step=0, lr=1e-3):
        self.sizes = [torch.Size(shape).numel() for shape in shapes]
        self.starts, total = offsets(self.sizes)
        random = torch.Generator().manual_seed(0)
        params = torch.zeros(total)
        for start, size in zip(self.starts, self.sizes, strict=True):
            params[start : start + size] = torch.randn(size, generator=random)
        self.params = params.to(device, dtype)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.params), torch.zeros_like(self.params)
        self.copy = None if copy is None else torch.zeros_like(self.params, dtype=copy)
        self.step = torch.full((), step, dtype=torch.int64, device=device)
        lr_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.lr = torch.full((1,), lr, dtype=lr_dtype, device=device)

    def update(self, grads, **changed):
        adam(
            *(self.params, grads, self.exp_avg, self.exp_avg_sq, self.step, self.lr),
            **(SETTINGS | dict(copy=self.copy) | changed),
        )

    def tensors(self):
        return [self.params, self.exp_avg, self.exp_avg_sq, self.copy]

    def clone(self):
        twin = object.__new__(State)
        for name, value in vars(self).items():
            setattr(twin, name, value.clone() if isinstance(value, torch.Tensor) else value)
        return twin


def gradients(shapes, dtype=torch.float32, device="cpu", seed=0, mixed=False):
    """Of ``dtype``, 4-D ones channels-last; mixed: every other one is float32."""
    random = torch.Generator().manual_seed(seed)
    grads = []
    for i, shape in enumerate(shapes):
        grad = torch.randn(*shape, generator=random).to(dtype)
        if grad.dim() == 4:
            grad = grad.contiguous(memory_format=torch.channels_last)
        if mixed and i % 2:
            grad = grad.float()
        grads.append(grad.to(device))
    return grads


def assert_same_bits(first: State, second: State) -> None:
    assert torch.equal(first.step, second.step)
    for a, b, name in zip(first.tensors(), second.tensors(), NAMES, strict=True):
        assert (a is None and b is None) or torch.equal(a, b), name
