"""What every iteration consumes: real images and latents, as functions of the iteration alone."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.config.jitter import AUGMENT_SHARE
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Feed
from fastinfogan.engine.pairs import Pairs
from fastinfogan.engine.step import FastEngine
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.latents import latents
from fastinfogan.kernels.philox import STREAM_COPY, STREAM_FAKE, STREAM_REAL
from fastinfogan.kernels.warp import draw_maps, warp
from fastinfogan.model.reference import Batch, Inputs, ReferenceEngine

ALIGNED = 16  # bytes: kernels load as many at once where they know that they may


def fill_of(data: ImageData, output_range: tuple[float, float], device: torch.device) -> Tensor:
    """What lies beyond an image's border when it is changed: the data's background.

    Args:
        data: the images.
        output_range: what pixels 0 and 255 are to the networks.
        device: where it is wanted.

    Returns:
        (C,) float32.
    """
    low, high = output_range
    return torch.from_numpy(data.background).to(device).float() / 255 * (high - low) + low


class Draws:
    """The inputs of every iteration. Where the next ones begin is kept on the device.

    On a GPU the fast engine draws ahead, for the next iteration beside an iteration's last update
    (``beside``). What it draws is copied to where the first such batch was: a recorded iteration
    begins with what an earlier one has left, whether that was recorded as well or not.

    Args:
        config: resolved.
        feed: of real images; its device is where everything is drawn.
        dtype: of the latents.
        fill: (C,) float32: what lies beyond an image's border, where images are changed.
        share: of several ranks, this one's slice of a batch, as the feed's (``Batches.slice``): it
            draws what one rank would draw there. None: all of it.
    """

    def __init__(
        self,
        config: TrainConfig,
        feed: Feed,
        dtype: torch.dtype,
        fill: Tensor | None = None,
        share: tuple[int, int] | None = None,
    ) -> None:
        optim = config.optim
        self._spec, self._size, self._dtype = config.spec, optim.batch_size, dtype
        self._range = config.architecture.output_range
        self._per_iteration = 2 if optim.update == "alternating" else 1
        first, last = share or (0, self._size)
        self._first, self._share = first, last - first
        # Where in an iteration's samples lie those that one launch draws, and how many: D's and G's
        # lie side by side only where the share is all.
        self._pieces = [(0, self._per_iteration * self._size)]
        if self._share < self._size:
            self._pieces = [
                (update * self._size + first, self._share) for update in range(self._per_iteration)
            ]
        self._feed, self._fill = feed, fill
        self._copy = config.jitter if optim.consistency > 0 else None
        self._augment = config.jitter.times(AUGMENT_SHARE) if optim.augment else None
        self._codes, self._pairs = config.spec.codes, None
        if optim.contrastive > 0:
            samples = self.latent_offset(optim.gap_until)
            self._pairs = Pairs(config.spec, samples, feed.device)
            self._codes = self._pairs.codes
        self._seed = torch.tensor([config.run.seed], device=feed.device)
        # One launch moves both: the latents' counter and, if it has one on the device, the feed's,
        # each at an address that kernels know for aligned.
        self._counters = torch.zeros((2, 2), dtype=torch.int64, device=feed.device)
        self._offset, position = self._counters[0, :1], self._counters[1, :1]
        moves = self.latent_offset(1), feed.counted_by(position)
        self._moves = torch.tensor([[move, 0] for move in moves], device=feed.device)
        self._draws_ahead = False
        self._ahead: Batch | None = None  # what the next iteration consumes, if drawn already
        self._memory: Tensor | None = None  # where that lies

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""
        self._offset.fill_(self.latent_offset(iteration))
        self._feed.seek(iteration)
        if self._ahead is not None:
            self.draw_ahead()

    def beside(self, engine: FastEngine | ReferenceEngine) -> None:
        """From now on let the engine draw ahead, if it can: on a GPU, of images that are there.

        (A streamed feed's next images have yet to be handed over by the host.)
        """
        images_are_there = self._feed.prepare is None and self._feed.device.type != "cpu"
        if images_are_there and isinstance(engine, FastEngine):
            engine.meanwhile, self._draws_ahead = self.draw_ahead, True

    def next(self) -> Batch:
        """What the next iteration consumes. It lasts until ``draw_ahead`` is called."""
        if self._ahead is None and self._draws_ahead:  # the first, too, lies where all do
            self.draw_ahead()
        return self._drawn() if self._ahead is None else self._ahead

    def draw_ahead(self) -> None:
        """Draw what ``next`` returns from now on."""
        batch = self._drawn()
        if self._ahead is None:
            self._ahead, self._memory = _together(batch)
        else:
            torch.cat(_bits(batch), out=self._memory)

    def _drawn(self) -> Batch:
        inputs = self._inputs()
        real, copy, own = self._feed.next(), None, (self._first, self._share)
        if self._copy is not None:
            copy = self._changed(real, self._maps(self._copy, STREAM_COPY, *own))
        if self._augment is not None:
            real = self._changed(real, self._maps(self._augment, STREAM_REAL, *own))
        self._counters += self._moves
        return Batch(real, inputs[0], inputs[1] if inputs[1:] else None, copy, self._fill)

    def latent_offset(self, iteration: int) -> int:
        """Latent samples drawn before ``iteration``."""
        return iteration * self._per_iteration * self._size

    def _inputs(self) -> list[Inputs]:
        """Of each update with a draw of its own: D's, then G's. Alone, one launch draws both."""
        found, noise, share = [], self._spec.noise, self._share
        for shift, samples in self._pieces:
            drawn = latents(
                noise, self._codes, samples, self._seed, self._offset, shift=shift,
                dtype=self._dtype,
            )  # fmt: skip
            updates = samples // share
            maps = shared = [None] * updates
            if self._pairs is not None:
                *drawn, chosen = self._pairs(*drawn, self._offset)
                shared = chosen.split(share // 2)
            if self._augment is not None:
                maps = self._maps(self._augment, STREAM_FAKE, shift, samples).split(share)
            parts = zip(*(numbers.split(share) for numbers in drawn), maps, shared, strict=True)
            found += [Inputs(*part) for part in parts]
        return found

    def _maps(self, jitter: Jitter, stream: int, shift: int, samples: int) -> Tensor:
        return draw_maps(
            jitter, samples, self._seed, self._offset, stream, shift=shift,
            output_range=self._range,
        )  # fmt: skip

    def _changed(self, images: Tensor, maps: Tensor) -> Tensor:
        return warp(images, maps, self._fill, self._range)


def _bits(batch: Batch) -> list[Tensor]:
    """The same as integers of one dtype in the order of memory, which a single launch copies.

    Each is followed by what fills the last ``ALIGNED`` bytes.
    """
    tensors = _tensors(batch)
    shortest = min(tensor.element_size() for tensor in tensors)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[shortest]
    filling, found = _filling(batch.real.device).view(integers), []
    for tensor in tensors:
        flat = tensor.as_strided((tensor.numel(),), (1,)).view(integers)
        found += [flat, filling[: -len(flat) % len(filling)]]
    return [bits for bits in found if len(bits)]


@functools.cache
def _filling(device: torch.device) -> Tensor:
    return torch.zeros(ALIGNED, dtype=torch.uint8, device=device)


def _together(batch: Batch) -> tuple[Batch, Tensor]:
    """The same in one piece of memory, and that."""
    memory = torch.cat(_bits(batch))
    bytes_, place, there = memory.view(torch.uint8), 0, {}
    for tensor in _tensors(batch):
        size = tensor.numel() * tensor.element_size()
        numbers = bytes_[place : place + size].view(tensor.dtype)
        there[id(tensor)] = numbers.as_strided(tensor.shape, tensor.stride())
        place += size + -size % ALIGNED

    def moved(inputs: Inputs | None) -> Inputs | None:
        return inputs and Inputs(*(there.get(id(tensor)) for tensor in inputs))

    real, copy = (there.get(id(tensor)) for tensor in (batch.real, batch.copy))
    inputs = moved(batch.inputs_d), moved(batch.inputs_g)
    return batch._replace(real=real, copy=copy, inputs_d=inputs[0], inputs_g=inputs[1]), memory


def _tensors(batch: Batch) -> list[Tensor]:
    """What of a batch is drawn anew each time."""
    inputs = [inputs for inputs in (batch.inputs_d, batch.inputs_g) if inputs is not None]
    found = [batch.real, batch.copy, *(tensor for drawn in inputs for tensor in drawn)]
    return [tensor for tensor in found if tensor is not None]
