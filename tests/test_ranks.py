"""Several ranks compute what one process would, to rounding."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from narrow import narrow_presets
from rank_cases import averaged, cases, evaluated, numbers, started, trained
from safetensors.torch import load_file
from tolerances import TRAJECTORY_64

from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.joining import agreed
from fastinfogan.ranks.place import Place
from fastinfogan.ranks.several import Several

HERE = Path(__file__).resolve().parent
RANKS = 2

with narrow_presets():
    CASES = cases()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two ranks have left of all cases: one start for all."""
    found = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HERE / "rank_cases.py"), str(found)]
    with started(command, RANKS, HERE) as processes:
        for process in processes:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    return found


def test_ranks_hear_each_other_and_take_turns(folder):
    """Only one rank of a machine does what the others then find done."""
    for rank in range(RANKS):
        assert json.loads((folder / f"said-{rank}.json").read_text()) == [
            ["rank 0", "rank 1"], [1, 0], "of rank 0", rank, "2 ranks over Gloo",
        ]  # fmt: skip
    turns = (folder / "turns").read_text().splitlines()
    assert turns == ["0 begins", "0 ends", "1 begins", "1 ends"]


@pytest.mark.usefixtures("narrow_presets")
def test_ranks_share_out_an_evaluation_whose_numbers_are_those_of_one_bit_for_bit(folder):
    """Each batch is seen by one of them, and all have the numbers, the first's statistics too."""
    alone = evaluated(ALONE)
    generated, real, last, once = [16, 16, 16, 2], [16] * 5 + [10], [16] * 5 + [10], [90]
    assert alone["seen"] == generated + real + last + once
    for rank in range(RANKS):
        found = json.loads((folder / f"evaluated-{rank}.json").read_text())
        assert found["found"] == alone["found"] and found["row"] == alone["row"]
        shares = (sizes[rank::RANKS] for sizes in (generated, real, last, once))
        assert found["seen"] == [size for share in shares for size in share]
    assert alone["found"]["disentanglement"]["information"] != [[0, 0]] * 3


def test_an_average_in_bfloat16_is_rounded_where_it_is_sent_and_summed_up_in_float32(folder):
    for rank in range(RANKS):
        sent, rounded = json.loads((folder / f"averaged-{rank}.json").read_text())
        assert torch.equal(torch.tensor(sent), (numbers(0) + numbers(1)) / 2)
        assert torch.equal(torch.tensor(rounded), mean_in_bfloat16(RANKS))
    # Of two ranks a sum in bfloat16 would be the same one.
    meeting = Meeting(3)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda rank: averaged(InThread(rank, meeting)), range(3)):
            assert torch.equal(torch.tensor(found[1]), mean_in_bfloat16(3))


def mean_in_bfloat16(ranks):
    sent = torch.stack([numbers(rank) for rank in range(ranks)]).bfloat16()
    return (sent.float().sum(0) * (1 / ranks)).bfloat16().float()


class Meeting:
    """Where threads leave tensors for each other."""

    def __init__(self, size):
        self.left, self.barrier = [None] * size, threading.Barrier(size)


class InThread(Several):
    """One of several ranks that are threads; its collectives have no process group."""

    def __init__(self, rank, meeting):
        Ranks.__init__(self, Place(rank, len(meeting.left)))
        self.meeting = meeting

    def heard(self, tensor):
        """What all have said."""
        self.meeting.barrier.wait()
        self.meeting.left[self.rank] = tensor.clone()
        self.meeting.barrier.wait()
        return list(self.meeting.left)

    def _all_reduce(self, tensor):
        tensor.copy_(sum(self.heard(tensor)))

    def _all_gather(self, everyone, own):
        everyone.copy_(torch.cat(self.heard(own)))

    def _all_to_all(self, got, sent):
        got.copy_(torch.cat([other.chunk(self.size)[self.rank] for other in self.heard(sent)]))


def test_ranks_that_send_gradients_in_bfloat16_stay_alike(folder):
    """After the same first iteration they go another way than in float32, together."""
    one, two = (load_file(folder / f"bfloat16-{rank}.safetensors") for rank in range(RANKS))
    whole = load_file(folder / "mnist-alternating-0.safetensors")
    assert one.keys() == two.keys() == whole.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    assert one["losses"][0][0] == whole["losses"][0][0]
    weight = next(name for name in one if name.endswith("weight"))
    assert 0 < (one[weight] - whole[weight]).abs().max() < 0.1


def test_the_first_sends_its_state_once_all_are_there(monkeypatch):
    """One may have been loading images; a large tensor, or NCCL, would wait with a limit."""
    ranks, happened = InThread(0, Meeting(1)), []
    monkeypatch.setattr(ranks, "_tensors", None, raising=False)
    monkeypatch.setattr(ranks, "barrier", lambda: happened.append("all there"))
    monkeypatch.setattr(dist, "broadcast", lambda *_, **__: happened.append("sent"))
    ranks.copy_from_first([torch.zeros(2), torch.zeros(3)])
    assert happened == ["all there", "sent", "sent"]


def test_ranks_that_start_again_meet_where_others_have_met_before():
    """In torchrun's store, whichever comes first: machines don't count restarts alike."""
    store, names = dist.HashStore(), set()
    with ThreadPoolExecutor(RANKS) as pool:
        for early in (0, 1, 1, 0):
            one = pool.submit(agreed, Place(early, RANKS), store, 30)
            time.sleep(0.2)
            other = pool.submit(agreed, Place(1 - early, RANKS), store, 30)
            one, other = one.result(), other.result()
            assert one == other and one not in names
            names.add(one)


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_are_one_in_float64(folder, case):
    """Losses of 12 iterations, then weights, statistics, moments and averages."""
    alone = trained(CASES[case], ALONE)
    for rank in range(RANKS):
        together = load_file(folder / f"{case}-{rank}.safetensors")
        assert together.keys() == alone.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(
                together[name],
                tensor,
                rtol=TRAJECTORY_64,
                atol=TRAJECTORY_64,
                msg=lambda text, name=name, rank=rank: f"rank {rank}, {name}: {text}",
            )
