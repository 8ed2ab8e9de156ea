"""A configuration made in Python: whatever a command line couldn't have said is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fastinfogan.config import (
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    from_dict,
    resolve,
    to_dict,
)
from fastinfogan.errors import UserError

PARTS = {"data": DataConfig, "model": ModelConfig, "optim": OptimConfig, "run": RunConfig}


@pytest.mark.parametrize(
    ("part", "given", "message"),
    [
        ("optim", dict(objective="InfoGAN"), "--objective 'InfoGAN': infogan, gan work"),
        ("optim", dict(update="both"), "--update 'both': alternating, simultaneous work"),
        ("run", dict(engine="Fast"), "--engine 'Fast': fast, reference work"),
        ("run", dict(feed="resdent"), "--feed 'resdent': auto, resident, streamed, encoded work"),
        ("optim", dict(iterations=2.5), "--iterations 2.5: a whole number works"),
        ("optim", dict(iterations="30"), "--iterations '30': a whole number works"),
        ("optim", dict(batch_size=8.0), "--batch-size 8.0: a whole number works"),
        ("optim", dict(lr_d="1e-3"), "--lr-d '1e-3': a number works"),
        ("optim", dict(beta1=None), "--beta1 None: a number works"),
        ("optim", dict(augment="no"), "--augment 'no': True and False work"),
        ("model", dict(separate_q="False"), "--separate-q 'False': True and False work"),
        ("run", dict(amp=1), "--amp 1: True and False work"),
        ("run", dict(seed=True), "--seed True: a whole number works"),
        ("model", dict(codes=("cat10", "uni")), "--codes ('cat10', 'uni'): a text works"),
        ("data", dict(dataset=None), "--dataset None: a text works"),
    ],
)
def test_what_a_field_cannot_hold_is_refused(part, given, message):
    with pytest.raises(UserError) as refused:
        resolve(TrainConfig(**{part: PARTS[part](**given)}))
    assert str(refused.value) == message


def test_a_part_of_another_type_is_refused():
    with pytest.raises(UserError, match="optim={'iterations': 3}: an instance of OptimConfig work"):
        resolve(TrainConfig(optim={"iterations": 3}))


def test_numbers_of_numpy_and_whole_ones_stand_for_those_of_a_field():
    optim = OptimConfig(
        iterations=np.int64(5), batch_size=np.uint8(32), beta1=np.float32(0.5), lambda_disc=1
    )
    config = resolve(TrainConfig(optim=optim, run=RunConfig(out="runs/one", seed=np.int32(3))))
    assert config.optim.iterations == 5 and config.optim.batch_size == 32
    assert config.optim.beta1 == 0.5 and config.optim.lambda_disc == 1.0 and config.run.seed == 3
    assert from_dict(to_dict(config)) == config  # as a run's file is read back
