"""A collapsed GAN doesn't read as success: it is noticed, said, and in the summary."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import small

from fastinfogan.config import ModelConfig, OptimConfig, TrainConfig, resolve
from fastinfogan.data import ImageData
from fastinfogan.engine.build import build_engine
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.plan import Plan
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.training.collapse import Watch, blind_information, spread, variety
from fastinfogan.training.trainer import train

HEALTHY = {"d_loss": 1.2, "mi": 1.8}  # of the digits, whose L_I is at most 1.85


class Watched:
    """A watch over a run of so many iterations, and what it said."""

    def __init__(self, tmp_path, iterations=1000, rows=(), **optim):
        self.config = resolve(TrainConfig(optim=OptimConfig(iterations=iterations, **optim)))
        images = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1) * 3
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        self.said: list[str] = []
        data = ImageData("x", images, None, None)
        self.watch = Watch(self.config, data, path, self.said.append)

    def see(self, first, last, **row):
        for iteration in range(first, last + 1, 20):
            self.watch.see({"iteration": iteration, **HEALTHY, **row})

    @property
    def kinds(self):
        return [sign.kind for sign in self.watch.signs]


def test_a_healthy_run_is_left_alone(tmp_path):
    run = Watched(tmp_path)
    for iteration, mi in zip(range(20, 1001, 20), np.linspace(-0.6, 1.8, 50), strict=True):
        run.watch.see({"iteration": iteration, "d_loss": 1.3 - 0.5 * (iteration < 200), "mi": mi})
    assert run.said == [] and run.kinds == []


def test_a_discriminator_that_is_never_wrong_is_said_once_and_again_when_it_is_over(tmp_path):
    run = Watched(tmp_path)
    run.see(20, 400)
    run.see(420, 440, d_loss=0.001)  # two bad lines are no collapse
    assert run.said == []
    run.see(460, 700, d_loss=0.001)
    assert len(run.said) == 1 and run.kinds == ["discriminator"]
    assert run.said[0].startswith("warning: ") and "--lr-d" in run.said[0]
    run.see(720, 900)
    assert len(run.said) == 2 and "no longer" in run.said[1] and run.kinds == []


def test_information_that_is_lost_is_said(tmp_path):
    run = Watched(tmp_path)
    run.see(20, 500)
    run.see(520, 700, mi=0.1)
    assert run.kinds == ["information"] and "1.800" in run.said[0] and "--lr-g" in run.said[0]


def test_codes_that_were_never_read_are_said_but_not_of_the_baseline(tmp_path):
    run = Watched(tmp_path)
    run.see(20, 480, mi=-0.7)
    assert run.said == []
    run.see(500, 1000, mi=-0.7)
    assert run.kinds == ["information"] and len(run.said) == 1
    baseline = Watched(tmp_path, objective="gan")
    baseline.see(20, 1000, mi=-0.7)
    assert baseline.kinds == []


def test_a_continued_run_knows_what_it_had_and_says_nothing_twice(tmp_path):
    whole = {"g_loss": 0.8, "mi_per_code": {"c1_cat10": 1.8}, **HEALTHY}
    rows = [{"iteration": i, **whole} for i in range(20, 501, 20)]
    run = Watched(tmp_path, rows=rows)
    run.see(520, 700, mi=0.1)
    assert run.kinds == ["information"]
    rows += [{"iteration": i, **whole, "mi": 0.1} for i in range(520, 701, 20)]
    again = Watched(tmp_path, rows=rows)
    assert again.said == [] and again.kinds == ["information"]


@pytest.mark.parametrize("codes", ["cat10,bern", "uni,gauss", "uni:learned,gauss:learned,cat3"])
def test_what_q_can_say_without_looking(codes):
    """The best constant answer for many samples."""
    spec = make_spec(0, codes)
    values = spec.sample(200_000, 0, 0).values.double()
    best = 0.0
    for i in spec.regularized:
        code, value = spec.codes[i], values[:, i]
        if code.is_discrete:
            continue
        sigma = value.std() if code.std == "learned" else torch.tensor(1.0)
        best += code.entropy + torch.distributions.Normal(0.0, sigma).log_prob(value).mean().item()
    assert blind_information(spec) == pytest.approx(best, abs=0.01)


# -- Images --------------------------------------------------------------------------------------


class Drawn(torch.nn.Module):
    """Images of one number: of the noise, of the code, of both, or of neither."""

    def __init__(self, noise, code):
        super().__init__()
        self.noise, self.code = noise, code

    def forward(self, z):
        grey = self.noise * z[:, :1] + self.code * z[:, 1:]
        return grey.sigmoid().view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


@pytest.mark.parametrize(
    ("noise", "code", "says"),
    [
        (1.0, 1.0, ""),
        (0.0, 0.0, "all generated images are alike"),
        (0.001, 0.001, "all generated images are alike"),
        (1.0, 0.0, "no code changes"),
        (0.0, 1.0, "noise changes no"),
    ],
)
def test_images_that_are_alike_are_said(tmp_path, noise, code, says):
    spec = make_spec(1, "uni")
    drawn = Drawn(noise, code)
    run = Watched(tmp_path)
    run.config = replace(run.config, model=ModelConfig("mnist", "uni", 1, False))
    run.watch._config = run.config
    run.watch.look(drawn)
    assert run.said == []  # too early to say
    run.see(20, 200)
    run.watch.look(drawn)
    assert len(run.said) == bool(says) and (not says or says in run.said[0])
    with in_eval_mode(drawn):
        assert min(variety(drawn, spec, (0.0, 1.0))) < 1.0 or not says


def test_spread_is_that_of_a_pixel():
    images = np.zeros((2, 3, 3, 1), np.uint8)
    images[1] = 200
    assert spread(images) == 100.0 and spread(images[:1]) == 0.0


# -- In a run ------------------------------------------------------------------------------------


def test_a_run_that_collapses_says_so_at_the_end_and_in_its_summary(tmp_path, capsys, spoil):
    spoil(after=lambda engine, call, losses: losses._replace(d_loss=losses.d_loss * 0.001))
    run = train(small(tmp_path / "run"))
    out = capsys.readouterr().out
    assert "warning: " in out and "trained, but collapsed" in out
    summary = json.loads((run.folder / "summary.json").read_text())
    assert [sign["kind"] for sign in summary["collapse"]] == ["discriminator"]
    assert "--lr-d" in summary["collapse"][0]["says"] and run.collapse[0].since <= 12


def test_watching_changes_no_weight(tmp_path, finished):
    """A run's networks are looked at in eval mode, and left as they were."""
    assert json.loads((finished.folder / "summary.json").read_text())["collapse"] == []
    config = resolve(small(tmp_path / "run"))
    engine = build_engine(config, Plan(torch.device("cpu")))
    before = {k: v.clone() for k, v in engine.generator.state_dict().items()}
    state = torch.get_rng_state()
    run = Watched(tmp_path)
    run.see(20, 200)
    run.watch.look(engine.generator)
    assert engine.generator.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in engine.generator.state_dict().items())
