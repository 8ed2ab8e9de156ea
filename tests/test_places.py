"""What a process makes of the environment that torchrun gives it, and the device that it takes."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from rank_places import places

from fastinfogan import device, plan
from fastinfogan.config import RunConfig, preset_config
from fastinfogan.errors import UserError
from fastinfogan.kernels import triton_needs
from fastinfogan.model.networks import Discriminator, exchange_sums
from fastinfogan.plan import make_plan
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.place import Place, only_the_first_speaks, place_of, several
from fastinfogan.training.alike import check_batch

NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)


def test_without_torchrun_or_with_one_process_a_rank_is_alone():
    for environment in ({}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "0"}):
        assert place_of(environment) == Place(0, 1, 0, 1)
        assert not several(environment)


def test_a_place_is_what_torchrun_says():
    assert [place_of(place) for place in places(2)] == [Place(0, 2, 0, 2), Place(1, 2, 1, 2)]
    assert all(several(place) for place in places(2))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"RANK": None}, "RANK isn't set; start it with torchrun, or set RANK; of Slurm's srun"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR isn't set; start it with torchrun, or set MASTER"),
        (
            {"LOCAL_RANK": None},
            r"WORLD_SIZE=2, but LOCAL_RANK isn't set; .* of Slurm's srun it is \$SLURM_LOCALID$",
        ),
        ({"LOCAL_WORLD_SIZE": None}, r"srun it is \$SLURM_NTASKS_PER_NODE$"),
        ({"RANK": "one"}, "RANK=one: a whole number works"),
        ({"RANK": "2"}, "RANK=2: WORLD_SIZE=2, so 0 to 1 work"),
        ({"LOCAL_WORLD_SIZE": "1"}, "LOCAL_RANK=1: LOCAL_WORLD_SIZE=1, so 0 works"),
    ],
)
def test_half_an_environment_is_refused(changed, says):
    environment = {**places(2)[1], **changed}
    with pytest.raises(UserError, match=says):
        place_of({name: value for name, value in environment.items() if value is not None})


def test_only_the_first_speaks(monkeypatch, capsys):
    for place in places(2):
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with only_the_first_speaks():
            print(f"rank {place['RANK']}")
            print(f"rank {place['RANK']}", file=sys.stderr)
    assert capsys.readouterr() == ("rank 0\n", "rank 0\n")


def test_a_batch_must_be_divisible_and_leave_two_images_where_statistics_are_apart():
    config = preset_config("mnist")  # 128
    for size in (1, 2, 128):
        check_batch(config, Ranks(Place(0, size)))
    with pytest.raises(UserError, match="--batch-size 128: 3 ranks don't divide it; 126 and 129"):
        check_batch(config, Ranks(Place(0, 3)))
    with pytest.raises(UserError, match="--batch-size 128: 200 ranks don't divide it; 200 works"):
        check_batch(config, Ranks(Place(0, 200)))
    object.__setattr__(config.run, "sync_batchnorm", False)
    check_batch(config, Ranks(Place(0, 64)))
    with pytest.raises(UserError, match="--no-sync-batchnorm: 128 ranks have 1 image each"):
        check_batch(config, Ranks(Place(0, 128)))


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(device, "pick_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(triton_needs, "MISSING", "")
    monkeypatch.setattr(plan, "_advice", lambda device: "")  # it asks a GPU what it has


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_each_rank_takes_the_gpu_of_its_number_on_the_machine(asked):
    found = [
        make_plan(RunConfig(device=asked), Ranks(Place(6 + i, 8, i, 2))).device for i in (0, 1)
    ]
    assert found == [torch.device("cuda", 0), torch.device("cuda", 1)]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("run", "place", "says"),
    [
        ({}, Place(2, 4, 2, 4), "--nproc-per-node 4: this machine shows 2 GPUs, and each rank"),
        ({"device": "cuda:1"}, Place(0, 2, 0, 2), "--device cuda:1: each of several ranks"),
        ({"engine": "reference"}, Place(0, 2, 0, 2), "--engine reference: it knows no ranks"),
    ],
)
def test_what_ranks_can_not_share_is_refused(run, place, says):
    with pytest.raises(UserError, match=says):
        make_plan(RunConfig(**run), Ranks(place))


def test_several_need_tritons_batchnorm_on_a_gpu(two_gpus, monkeypatch):
    monkeypatch.setattr(triton_needs, "MISSING", "there is no C compiler")
    with pytest.raises(UserError, match="no C compiler, and ranks need Triton's batchnorm"):
        make_plan(RunConfig(), Ranks(Place(0, 2, 0, 2)))


def test_a_plan_exchanges_sums_only_with_others_and_if_it_is_to():
    for ranks, sync, exchanged in (
        (ALONE, True, False), (Ranks(Place(0, 2)), True, True), (Ranks(Place(0, 2)), False, False),
    ):  # fmt: skip
        plan = make_plan(RunConfig(device="cpu", sync_batchnorm=sync), ranks)
        assert (plan.exchange is not None) == exchanged


def test_sums_are_exchanged_by_every_batchnorm_of_a_network():
    config = preset_config("svhn")
    network = Discriminator(config.architecture, config.spec)
    asked = []

    def exchange(sums):
        asked.append(sums)
        return sums

    exchange_sums(network, exchange)
    with torch.no_grad():
        copy.deepcopy(network)(torch.rand(4, *config.architecture.image_shape))
    norms = [m for m in network.modules() if isinstance(m, NORMS)]
    assert len(asked) == len(norms) > 0
