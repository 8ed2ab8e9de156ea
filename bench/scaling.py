"""Several ranks: what they exchange, what that would cost on other machines, how two scale here.

    python -m bench.scaling --preset mnist --rounds 15         # 1 and 2 ranks, a thread each
    python -m bench.scaling --count                            # bytes and the model alone

Weak scaling has the preset's batch on each rank, strong scaling shares one among them. The kinds
take turns, in the same two processes. Writes bench/results/scaling-DEVICE.json.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench import machine
from bench.harness import RESULTS, presets, read_results, spread, write_results
from bench.runner import data_of
from fastinfogan.config import TrainConfig, preset_config
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.plan import make_plan
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.joining import joined
from fastinfogan.ranks.place import Place
from fastinfogan.ranks.several import Several

PRESETS = ("mnist", "celeba", "chairs-rotation", "digits")
ITERATIONS = 2  # of each kind in a round
# On paper: what a link moves one way in a second (nominal), and what a collective takes at least.
LINKS = {
    "NVLink, within a machine": (450e9, 15e-6),
    "InfiniBand, 400 Gb/s a GPU": (50e9, 30e-6),
    "Ethernet, 100 Gb/s a machine of 8": (12.5e9 / 8, 60e-6),
}
SIZES = (8, 64, 512)


class Traffic(NamedTuple):
    """What each of two ranks sends the other in an iteration.

    Attributes:
        gradients: bytes of gradients, and ``updates`` the collectives that average them.
        sums: bytes of batchnorm's sums, of one part each, as on a GPU; ``exchanges`` collectives.
        sums_here: the same in as many parts as this CPU makes.
        parameters: bytes of all parameters.
    """

    gradients: int
    updates: int
    sums: int
    sums_here: int
    exchanges: int
    parameters: int


class Counting(Several):
    """The first of two ranks, of which the other says the same; what it sends is counted."""

    def __init__(self) -> None:
        Ranks.__init__(self, Place(0, 2, 0, 2))  # without a process group
        self.sent: list[tuple[str, int, int]] = []  # what, bytes, and parts

    def connect(self, device: torch.device) -> None:
        pass

    def gather(self, sums: Tensor) -> Tensor:
        everyone = super().gather(sums)
        self.sent[-1] = ("sums", sums.nbytes, len(sums))
        return everyone

    def _all_reduce(self, tensor: Tensor) -> None:
        self.sent.append(("gradients", tensor.nbytes, 1))  # half of it to sum up, half as sums
        tensor.mul_(2)

    def _all_gather(self, everyone: Tensor, own: Tensor) -> None:
        self.sent.append(("gradients", own.nbytes, 1))
        everyone.view(2, -1).copy_(own.view(1, -1))

    def _all_to_all(self, got: Tensor, sent: Tensor) -> None:
        self.sent.append(("gradients", sent.nbytes // 2, 1))
        got.view(2, -1).copy_(sent.view(2, -1)[:1])


def iterating(config: TrainConfig, ranks: Ranks) -> tuple[Callable[[], None], int]:
    """An iteration on the CPU, drawing included, and the bytes of all parameters."""
    config = replace(config, run=replace(config.run, device="cpu"))
    plan = make_plan(config.run, ranks)
    engine = build_engine(config, plan)
    size, output_range = config.optim.batch_size, config.architecture.output_range
    data = data_of(config)
    batches = Batches(size, 0, output_range, plan.device, torch.float32, ranks.rank, ranks.size)
    fill = fill_of(data, output_range, plan.device)
    draws = Draws(config, ResidentFeed(data, batches), torch.float32, fill, batches.slice)
    networks = engine.generator, engine.discriminator
    parameters = sum(p.nbytes for network in networks for p in network.parameters())
    return lambda: engine.step(draws.next()) and None, parameters


def count(config: TrainConfig) -> Traffic:
    """What each of two ranks of a configuration sends the other in an iteration."""
    ranks = Counting()
    iterate, parameters = iterating(config, ranks)
    iterate()

    def total(what: str, number: Callable[[int, int], int]) -> int:
        return sum(number(*sizes) for kind, *sizes in ranks.sent if kind == what)

    return Traffic(
        total("gradients", lambda size, _: size),
        total("gradients", lambda *_: 1),
        total("sums", lambda size, parts: size // parts),
        total("sums", lambda size, _: size),
        total("sums", lambda *_: 1),
        parameters,
    )


def predicted(
    traffic: Traffic, ranks: int, bandwidth: float, latency: float
) -> tuple[float, float]:
    """Seconds of an iteration's collectives on paper: of gradients alone, and with batchnorm's.

    A ring passes each number on 2 (n - 1) / n times to average and every rank's sums to all n - 1
    others; nothing of it is hidden behind computing.
    """
    gradients = 2 * (ranks - 1) / ranks * traffic.gradients / bandwidth + traffic.updates * latency
    sums = (ranks - 1) * traffic.sums / bandwidth + traffic.exchanges * latency
    return gradients, gradients + sums


def measure(config: TrainConfig, rounds: int) -> dict[str, list[float]]:
    """Seconds of an iteration by kind, on this rank of two; the first's alone are alone."""
    torch.set_num_threads(1)
    doubled = replace(config, optim=replace(config.optim, batch_size=2 * config.optim.batch_size))
    with joined() as ranks:
        kinds = {
            "one": iterating(config, ALONE)[0],
            "strong": iterating(config, ranks)[0],
            "weak": iterating(doubled, ranks)[0],
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(1 + rounds):
            for kind, iterate in kinds.items():
                ranks.most([0])
                began = time.perf_counter()
                for _ in range(ITERATIONS if kind != "one" or ranks.is_first else 0):
                    iterate()
                if turn:
                    times[kind].append((time.perf_counter() - began) / ITERATIONS)
            ranks.most([0])
        return times if ranks.is_first else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--preset", default="mnist")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", action="store_true", help="measure nothing")
    parser.add_argument("--tiny", action="store_true", help="narrow networks, 8 images: a check")
    parser.add_argument("--second", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    with presets(options.tiny):
        if options.count:
            _count_all()
            return 0
        config = preset_config("narrow-" * options.tiny + options.preset)
        if options.tiny:
            config = replace(config, optim=replace(config.optim, batch_size=8))
        if options.second:
            measure(config, options.rounds)
            return 0
        times = _measured(config, options.rounds, list(arguments or sys.argv[1:]))
    one = times["one"]
    found: dict[str, Any] = {kind: spread(seconds) for kind, seconds in times.items()}
    for kind, ideal in (("strong", 0.5), ("weak", 1.0)):
        pairs = zip(one, times[kind], strict=True)
        found[f"{kind}_efficiency"] = spread([ideal * a / b for a, b in pairs])
    for name, numbers in found.items():
        print(f"{name:<18}{numbers['median']:8.3f} ({numbers['q1']:.3f} to {numbers['q3']:.3f})")
    if not options.tiny:
        on = machine.describe(torch.device("cpu"))
        path = RESULTS / f"scaling-{machine.slug(on['hardware'])}.json"
        content = read_results(path)
        content |= {"on": on, "presets": {**content.get("presets", {}), options.preset: found}}
        write_results(path, content)
        print(path)
    return 0


def _measured(config: TrainConfig, rounds: int, arguments: list[str]) -> dict[str, list[float]]:
    """As the first of two ranks, with the second started beside it."""
    torch.set_num_threads(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    place |= {"MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    common = {name: str(value) for name, value in place.items()}
    second = subprocess.Popen(
        [sys.executable, "-m", "bench.scaling", *arguments, "--second"],
        cwd=machine.ROOT, env={**os.environ, **common, "RANK": "1", "LOCAL_RANK": "1"},
    )  # fmt: skip
    try:
        os.environ.update({**common, "RANK": "0", "LOCAL_RANK": "0"})
        return measure(config, rounds)
    finally:
        second.wait()


def _count_all() -> None:
    for preset in PRESETS:
        config = preset_config(preset)
        config = replace(config, optim=replace(config.optim, batch_size=4))
        for sent_in in ("float32", "bfloat16"):
            traffic = count(replace(config, run=replace(config.run, reduce_dtype=sent_in)))
            print(
                f"{preset}, {sent_in}: gradients {traffic.gradients / 1e6:.2f} MB in "
                f"{traffic.updates} collectives ({traffic.gradients / traffic.parameters:.4f} x "
                f"parameters), sums {traffic.sums / 1e3:.1f} kB in {traffic.exchanges}"
            )
            for link, (bandwidth, latency) in LINKS.items():
                shown = [
                    " / ".join(f"{1e3 * s:.2f}" for s in predicted(traffic, n, bandwidth, latency))
                    for n in SIZES
                ]
                print(f"  {link:<36}" + "   ".join(shown) + " ms")


if __name__ == "__main__":
    sys.exit(main())
