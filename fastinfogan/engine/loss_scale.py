"""Loss scaling, which float16 needs: its smallest number is 6e-8."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Loss scaling as torch.amp.GradScaler does it by default (Micikevicius et al. 2018, section 3.2).
FIRST_SCALE, GROWTH, BACKOFF, GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000


class LossScale:
    """The factor that keeps float16 gradients from vanishing; all of it lives on the device.

    ``value`` multiplies the loss, ``inverse`` the gradients inside Adam. A gradient that is not
    finite sets ``found_inf``: Adam then changes nothing, for the rest of the iteration, and the
    factor is halved. After 2,000 iterations without one it doubles.
    """

    def __init__(self, device: torch.device) -> None:
        self.value = torch.full((1,), FIRST_SCALE, device=device)
        self.inverse = self.value.reciprocal()
        self.found_inf = torch.zeros(1, device=device)
        self._calm = torch.zeros(1, dtype=torch.int32, device=device)  # iterations since the last
        self._one = torch.ones(1, device=device)

    def check(self, gradients: Iterable[Tensor]) -> None:
        """Set ``found_inf`` if a gradient has a number that is not finite."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for gradient in gradients:
            by_dtype.setdefault(gradient.dtype, []).append(gradient)
        for group in by_dtype.values():
            torch._amp_foreach_non_finite_check_and_unscale_(group, self.found_inf, self._one)

    def update(self) -> None:
        """End of an iteration: move the factor."""
        torch._amp_update_scale_(
            self.value, self._calm, self.found_inf, GROWTH, BACKOFF, GROWTH_INTERVAL
        )
        torch.reciprocal(self.value, out=self.inverse)
        self.found_inf.zero_()

    def state(self) -> Tensor:
        """(2,) float32: the factor, and the iterations since the last overflow."""
        return torch.cat([self.value, self._calm.float()])

    def restore(self, state: Tensor) -> None:
        """Go on from what ``state`` gave."""
        self.value.copy_(state[:1])
        self._calm.copy_(state[1:])
        torch.reciprocal(self.value, out=self.inverse)
