"""A network's parameters in one buffer, with a half-precision copy of them and Adam's moments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastinfogan.config import ADAM_EPS
from fastinfogan.engine.beside import Beside
from fastinfogan.engine.loss_scale import LossScale
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.adam.prepared import Prepared
from fastinfogan.ranks.alone import Ranks

_MOMENTS = ("exp_avg", "exp_avg_sq")
WORTHWHILE = 1 << 20  # numbers whose update is worth a launch of its own


class _Part(NamedTuple):
    """What one launch updates: these parameters, numbers of the buffer, and the count of steps."""

    parameters: slice
    numbers: slice
    step: Tensor


class FlatAdam:
    """Adam over one flat buffer: one launch updates a network and writes its half-precision copy.

    The network's parameters become views of the buffer, each in its own memory format. Moments
    are buffers of the same layout. ``half`` adds a copy of the buffer in that dtype, and
    ``compute`` is then a twin of the network whose weights are views of the copy: it is what
    forward and backward passes run on, so that no weight is ever cast. Batchnorm's parameters and
    statistics stay in float32 and are shared. Without ``half`` the twin is the network itself.

    Speaks ``torch.optim.Adam``'s language where checkpoints need it: ``state``, ``state_dict``,
    ``load_state_dict``.

    Args:
        network: on its device, in its dtype (float32, or float64 for tests).
        lr: learning rate.
        betas: decay rates.
        half: None, torch.bfloat16 or torch.float16.

    Attributes:
        compute: what forward and backward passes run on.
        trained: its parameters, which gradients are taken of.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float,
        betas: tuple[float, float],
        half: torch.dtype | None = None,
    ) -> None:
        self._parameters = list(network.parameters())
        self._betas = betas
        first = self._parameters[0]
        places, total = offsets([parameter.numel() for parameter in self._parameters])
        self._places = places
        self._flat = torch.zeros(total, dtype=first.dtype, device=first.device)
        self._moments = {name: torch.zeros_like(self._flat) for name in _MOMENTS}
        self._half = None if half is None else torch.zeros_like(self._flat, dtype=half)
        step = torch.zeros(1, dtype=torch.int64, device=first.device)
        self._parts = [_Part(slice(0, len(places)), slice(0, total), step)]
        self._average: Callable[[], None] | None = None  # of one process nothing is averaged
        self._stream: torch.cuda.Stream | None = None
        self._arrived, self._early = 0, None
        self._whole_rate = lr
        self._lr = torch.full((1,), lr, dtype=first.dtype, device=first.device)
        for parameter, place in zip(self._parameters, places, strict=True):
            view = _view(self._flat, parameter, place)
            parameter.data = view.copy_(parameter.data)
        self.compute = network if half is None else self._twin(network)
        self.trained = list(self.compute.parameters())
        self.state: dict[Tensor, dict[str, Tensor]] = {
            parameter: {
                **{name: _view(self._moments[name], parameter, place) for name in _MOMENTS},
                "step": step[0],
            }
            for parameter, place in zip(self._parameters, places, strict=True)
        }

    def _twin(self, network: nn.Module) -> nn.Module:
        """The network with linear maps' parameters in half precision and all else shared."""
        shared = {
            id(module): module
            for module in network.modules()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        } | _buffers(network)
        twin = copy.deepcopy(network, shared)  # deepcopy takes what its memo knows as it is
        own = dict(zip(network.parameters(), self._places, strict=True))
        for name, parameter in network.named_parameters():
            module_name, _, leaf = name.rpartition(".")
            if isinstance(network.get_submodule(module_name), nn.BatchNorm1d | nn.BatchNorm2d):
                continue
            view = _view(self._half, parameter, own[parameter])
            setattr(twin.get_submodule(module_name), leaf, nn.Parameter(view))
        return twin

    def publish(self) -> None:
        """Bring the half-precision copy up to date after weights were set from outside."""
        if self._half is not None:
            self._half.copy_(self._flat)

    def apart(self) -> nn.Module:
        """``compute`` once more: the same weights in memory, with gradients of their own."""
        own = {id(p): nn.Parameter(p.detach()) for p in self.trained} | _buffers(self.compute)
        return copy.deepcopy(self.compute, own)  # as in _twin

    def share(self, ranks: Ranks, sent_in: torch.dtype | None = None) -> None:
        """From now on update with the mean of all ranks' gradients.

        They are collected in a buffer laid out as the parameters', in their dtype whatever the
        gradients' is, and averaged at once.

        Args:
            ranks: all of them.
            sent_in: what gradients are rounded to on their way; None: nothing.
        """
        self._gradients = torch.zeros_like(self._flat)
        self._average = ranks.averaging(self._gradients, sent_in)
        self._collected = [
            _view(self._gradients, parameter, place)
            for parameter, place in zip(self._parameters, self._places, strict=True)
        ]

    def update_beside(self, stream: torch.cuda.Stream | None) -> None:
        """Let an update begin before its backward pass is over, on a stream; None: no longer.

        A backward pass brings the last parameters' gradients first. From the largest parameter on
        they are updated in a launch of their own, which begins when the last of these gradients is
        there: nothing that comes after it reads these weights. Then there must be one backward pass
        between ``zero_grad`` and ``step``.
        """
        self._stream = stream
        sizes = [parameter.numel() for parameter in self._parameters]
        first = sizes.index(max(sizes))
        if len(self._parts) == 2 or stream is None or first == 0:
            return
        ((parameters, numbers, step),) = self._parts
        place = self._places[first]
        if numbers.stop - place < WORTHWHILE:
            return
        late = _Part(slice(0, first), slice(0, place), step)
        early = _Part(slice(first, parameters.stop), slice(place, numbers.stop), step.clone())
        self._parts = [late, early]
        for parameter in self._parameters[first:]:
            self.state[parameter]["step"] = early.step[0]
        for parameter in self.trained[first:]:
            parameter.register_post_accumulate_grad_hook(self._arrive)

    def _arrive(self, _: Tensor) -> None:
        self._arrived += 1
        early = self._parts[1]
        if self._stream is not None and self._arrived == len(self.trained[early.parameters]):
            self._early = Beside(self._stream, lambda: self._update(early))

    def scale_rate(self, share: float) -> None:
        """From now on learn at this share of the rate."""
        self._lr.fill_(self._whole_rate * share)

    def zero_grad(self) -> None:
        """Forget the gradients; the next backward pass brings tensors of its own."""
        self._arrived, self._early = 0, None  # a recording that failed may have left one
        for parameter in self.trained:
            parameter.grad = None

    def step(self, loss_scale: LossScale | None = None) -> None:
        """One update from the gradients of ``compute``'s parameters, if these are finite.

        Without a loss scale a gradient that is not finite spoils its weight, as in torch.
        """
        early, self._early = self._early, None
        for part in self._parts[: 1 if early else None]:
            self._update(part, loss_scale)
        if early:
            early.result()

    def _update(self, part: _Part, loss_scale: LossScale | None = None) -> None:
        if self._average is not None:
            gradients = self._averaged()
        else:
            gradients = [_laid_out_as(p, p.grad) for p in self.trained[part.parameters]]
        if loss_scale is not None:
            loss_scale.check(gradients)
        adam(
            self._flat[part.numbers],
            gradients,
            self._moments["exp_avg"][part.numbers],
            self._moments["exp_avg_sq"][part.numbers],
            part.step,
            self._lr,
            beta1=self._betas[0],
            beta2=self._betas[1],
            eps=ADAM_EPS,
            copy=None if self._half is None else self._half[part.numbers],
            inverse_scale=None if loss_scale is None else loss_scale.inverse,
            found_inf=None if loss_scale is None else loss_scale.found_inf,
        )

    @property
    def whole(self) -> bool:
        """Whether one launch updates all, and not a part of it early."""
        return len(self._parts) == 1

    def prepared(self, gradients: Sequence[Tensor]) -> Prepared:
        """``step`` on a CPU, alone, with gradients that lie in the same memory each time.

        Args:
            gradients: one for each of ``trained``, in its parameter's memory order.
        """
        exp_avg, exp_avg_sq = (self._moments[name] for name in _MOMENTS)
        ((_, _, step),) = self._parts
        return Prepared(
            self._flat, gradients, exp_avg, exp_avg_sq, step, self._lr,
            beta1=self._betas[0], beta2=self._betas[1], eps=ADAM_EPS,
        )  # fmt: skip

    def _averaged(self) -> list[Tensor]:
        """All gradients, averaged over the ranks."""
        for collected, parameter in zip(self._collected, self.trained, strict=True):
            collected.copy_(parameter.grad)
        self._average()
        return self._collected

    def state_dict(self) -> dict[str, Any]:
        """Moments and step per parameter, in the form of ``torch.optim.Adam``'s."""
        return {"state": {i: self.state[p] for i, p in enumerate(self._parameters)}}

    def load_state_dict(self, packed: dict[str, Any]) -> None:
        """Take moments and step from what ``state_dict`` gave, and the weights as they are now."""
        for index, saved in packed["state"].items():
            for name, tensor in self.state[self._parameters[index]].items():
                tensor.copy_(saved[name])
        self.publish()


def _buffers(network: nn.Module) -> dict[int, Tensor]:
    """What a copy of a network shares with it beside its weights, as ``deepcopy``'s memo."""
    return {id(buffer): buffer for buffer in network.buffers()}


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in its parameter's memory order, which is how Adam walks both."""
    if parameter.stride() == gradient.stride():
        return gradient
    steps = zip(parameter.shape, parameter.stride(), gradient.stride(), strict=True)
    if all(size == 1 or a == b for size, a, b in steps):
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _view(flat: Tensor, like: Tensor, place: int) -> Tensor:
    return flat.as_strided(like.shape, like.stride(), place)
