"""Choosing one of a study's runs by how much it resembles the others (ModelCentrality)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import combinations
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from narrow import narrow_presets
from training_runs import Killed, few_digits, small

from fastinfogan.config import DataConfig, ModelConfig, OptimConfig, TrainConfig, resolve
from fastinfogan.data import progress
from fastinfogan.kernels.codes import Code
from fastinfogan.lock import holder
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results.run import load_run
from fastinfogan.study import centrality, comparing
from fastinfogan.study import row as rows_of_runs
from fastinfogan.study.choice import CENTRALITY, NEIGHBOURHOOD, choice_of
from fastinfogan.study.collect import collect, looked_at
from fastinfogan.study.folder import open_study, read_study
from fastinfogan.study.report import table
from fastinfogan.training.directory import LOCK
from fastinfogan.training.trainer import train

SPEC = make_spec(1, "3xuni,gauss")


class Stripes(torch.nn.Module):
    """G whose image is four pixels, which codes mix as a matrix says."""

    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, latents):
        return torch.sigmoid(latents[:, 1:] @ self.mix.T).view(-1, 1, 2, 2)


class Unmix(torch.nn.Module):
    """The Q that inverts it."""

    def __init__(self, mix):
        super().__init__()
        self.back = torch.linalg.inv(mix)

    def forward(self, images):
        pixels = images.flatten(1).clamp(1e-3, 1 - 1e-3)
        return pixels[:, 0], torch.logit(pixels) @ self.back.T


def run_of(mix):
    architecture = SimpleNamespace(output_range=(0.0, 1.0))
    config = SimpleNamespace(spec=SPEC, architecture=architecture)
    mix = torch.as_tensor(mix, dtype=torch.float32)
    return SimpleNamespace(config=config, generator=Stripes(mix), discriminator=Unmix(mix))


HALVES = np.array([[1, 1], [1, -1]]) / 2**0.5
FOUR = np.kron(HALVES, HALVES)  # mixes all codes
TWO = np.kron(HALVES, np.eye(2))  # mixes pairs of codes


def test_the_runs_that_found_the_same_factors_are_the_central_ones():
    """Of five, three have them, up to order and sign; two mix them, each in its own way."""
    runs = {
        0: run_of(FOUR),
        1: run_of(np.eye(4)),
        2: run_of(np.diag([1.0, -1.0, 1.0, -1.0])),
        4: run_of(TWO),
        7: run_of(np.eye(4)[[2, 0, 3, 1]]),
    }
    found = dict(centrality.similarities(combinations(runs, 2), runs.__getitem__))
    assert list(found) == sorted(combinations(runs, 2), key=lambda pair: pair[::-1])
    for (a, b), similarity in found.items():
        alike = {a, b} <= {1, 2, 7}
        assert similarity == 1.0 if alike else similarity < 0.9 or {a, b} == {0, 4}
    scores = centrality.centralities([*runs], found)
    assert min(scores[seed] for seed in (1, 2, 7)) > max(scores[seed] for seed in (0, 4))
    assert scores[0] == pytest.approx(np.mean([found[0, seed] for seed in (1, 2, 4, 7)]))


def test_each_run_is_loaded_once_and_only_what_is_asked_for_is_compared():
    runs = dict(enumerate(map(run_of, (np.eye(4), TWO, FOUR, FOUR.T))))
    loaded = []

    def load(seed):
        loaded.append(seed)
        return runs[seed]

    whole = dict(centrality.similarities(combinations(runs, 2), load))
    assert loaded == [0, 1, 2, 3] and whole.keys() == {*combinations(runs, 2)}
    loaded.clear()
    assert dict(centrality.similarities([(1, 3), (1, 2)], load)) == {
        pair: whole[pair] for pair in ((1, 2), (1, 3))
    }
    assert loaded == [1, 2, 3]
    assert not dict(centrality.similarities([], load)) and loaded == [1, 2, 3]
    without = dict(centrality.similarities(whole, lambda seed: None if seed == 1 else runs[seed]))
    assert without == {pair: whole[pair] for pair in whole if 1 not in pair}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_fewer_than_three_none_is_central(count):
    assert centrality.centralities(range(count), {(0, 1): 1.0}) == {}


def test_continuous_codes_have_ten_values_each_as_probable():
    _, values = SPEC.sample(20_000, 3, 0)
    for column, code in ((0, SPEC.codes[0]), (3, SPEC.codes[3])):
        moved = centrality.on_grid(values[:, column], code)
        found, counts = moved.unique(return_counts=True)
        assert len(found) == 10 and (counts / 2000 - 1).abs().max() < 0.1
        torch.testing.assert_close(found, -found.flip(0))
        assert torch.corrcoef(torch.stack([moved, values[:, column]]))[0, 1] > 0.97
    edges = torch.tensor([-1.0, 1.0])
    assert centrality.on_grid(edges, Code("uniform")).tolist() == pytest.approx([-0.9, 0.9])


@pytest.mark.parametrize(
    ("codes", "contrastive", "by"),
    [
        ("cat10,2xuni", 0.0, NEIGHBOURHOOD),
        ("cat10,2xuni", 1.0, CENTRALITY),
        ("5xuni", 0.0, CENTRALITY),
        ("2xbern", 0.0, CENTRALITY),
        ("uni,cat10:free", 0.0, None),
    ],
)
def test_which_study_is_chosen_from_by_what(codes, contrastive, by):
    optim = OptimConfig(consistency=0.0, contrastive=contrastive)
    config = TrainConfig(DataConfig("digits"), ModelConfig("mnist", codes), optim)
    assert choice_of(resolve(config)) is by


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of three seeds; don't write."""
    folder = tmp_path_factory.mktemp("studies") / "a"
    with few_digits(), narrow_presets():
        config = small(folder, 4, log_every=4, checkpoint_every=4)
        model, optim = replace(config.model, codes="2xuni"), replace(config.optim, contrastive=1.0)
        study = open_study(folder, replace(config, model=model, optim=optim), (0, 1, 2))
        for seed in study.seeds:
            train(study.run_config(seed))
        collect(study)
        yield folder


def test_a_study_chooses_its_medoid_and_compares_no_pair_twice(finished, monkeypatch):
    study, found = read_study(finished), json.loads((finished / "study.json").read_text())["found"]
    rows = found["seeds"]
    scores = {int(seed): row["numbers"]["centrality"] for seed, row in rows.items()}
    assert found["chosen_by"] == "centrality"
    assert found["chosen"] == max(scores, key=scores.get)
    for seed, row in rows.items():
        assert row["similarity"].keys() == rows.keys() - {seed}
        mean = np.mean(list(row["similarity"].values()))
        assert row["numbers"]["centrality"] == pytest.approx(mean)
    assert f"chosen without labels, by centrality: seed {found['chosen']}" in table(study, found)
    monkeypatch.setattr(centrality, "_score", None)
    assert json.loads(json.dumps(collect(study))) == found


def test_a_run_that_has_gone_is_left_out_of_the_comparison_with_a_word(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    content = json.loads((folder / "study.json").read_text())
    for row in content["found"]["seeds"].values():
        row["similarity"] = {"x": 1.0}
    (folder / "study.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "seed-1" / "checkpoints")
    told = []
    found = collect(read_study(folder), told.append)
    assert [line.split(":")[0] for line in told] == ["seed 1 isn't compared"]
    assert found["seeds"]["0"]["similarity"].keys() == {"2"}
    assert found["chosen"] is None  # of two there is no medoid


# -- How a study compares -----------------------------------------------------------------------


@pytest.fixture
def forgetful(finished, tmp_path):
    """The study, of which study.json knows its configuration and seeds."""
    folder = shutil.copytree(finished, tmp_path / "forgetful")
    path = folder / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "found": {}}))
    return folder


@pytest.fixture
def scored(monkeypatch):
    """How many comparisons were made; a test may have more happen at each."""
    made = SimpleNamespace(count=0, then=lambda: None)
    score = centrality._score

    def counted(reader, source):
        made.count += 1
        made.then()
        return score(reader, source)

    monkeypatch.setattr(centrality, "_score", counted)
    return made


def pairs_in(folder):
    rows = json.loads((folder / "study.json").read_text())["found"].get("seeds", {})
    return {seed: {*row["similarity"]} for seed, row in rows.items()}


def test_each_run_is_loaded_once_and_none_of_those_that_are_known(forgetful, scored, monkeypatch):
    loaded = []

    def load(folder, tell):
        loaded.append(folder.name)
        return load_run(folder, tell=tell)

    monkeypatch.setattr(comparing, "load_run", load)
    monkeypatch.setattr(rows_of_runs, "load_run", None)
    found = json.loads(json.dumps(collect(read_study(forgetful))))
    assert loaded == ["seed-0", "seed-1", "seed-2"] and scored.count == 6
    told = []
    assert looked_at(read_study(forgetful), told.append) == found
    path = forgetful / "study.json"
    content = json.loads(path.read_text())
    del content["found"]["seeds"]["0"]["similarity"]  # the others' rows have it as well
    path.write_text(json.dumps(content))
    assert json.loads(json.dumps(collect(read_study(forgetful), told.append))) == found
    assert len(loaded) == 3 and scored.count == 6 and not told


def test_seeds_join_and_others_read_while_runs_are_compared(forgetful, scored):
    study = read_study(forgetful)
    there = []

    def join():
        there.append(holder(forgetful / LOCK))
        with narrow_presets():
            open_study(forgetful, study.config, (5,))

    scored.then = join
    collect(study)
    assert there == [None] * 6 and read_study(forgetful).seeds == (0, 1, 2, 5)
    assert pairs_in(forgetful) == {"0": {"1", "2"}, "1": {"0", "2"}, "2": {"0", "1"}}


def test_of_two_who_look_at_once_one_waits_for_what_the_other_finds(forgetful, scored):
    study, begun, told, found = read_study(forgetful), Event(), [], []
    waits = Event()

    def tell(line):
        told.append(line)
        waits.set()

    def pause():
        begun.set()
        waits.wait(30)

    scored.then = pause
    threads = [Thread(target=lambda: found.append(collect(study)))]
    threads[0].start()
    assert begun.wait(30)
    threads.append(Thread(target=lambda: found.append(collect(study, tell))))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert json.loads(json.dumps(found[0])) == json.loads(json.dumps(found[1]))
    assert scored.count == 6
    assert told == [f"another process looks at the runs in {forgetful}; waiting for what it finds"]


def test_what_is_compared_is_kept_on_the_way(forgetful, scored, monkeypatch):
    monkeypatch.setattr(comparing, "KEPT_EVERY", 0.0)

    def end():
        if scored.count == 5:
            raise Killed

    scored.then = end
    with pytest.raises(Killed):
        collect(read_study(forgetful))
    assert pairs_in(forgetful) == {"0": {"1", "2"}, "1": {"0"}, "2": {"0"}}
    content = json.loads((forgetful / "study.json").read_text())["found"]
    assert content["chosen"] is None and "centrality" not in content["seeds"]["0"]["numbers"]
    scored.count, scored.then = 0, lambda: None
    assert collect(read_study(forgetful))["chosen"] is not None and scored.count == 2


def test_who_only_looks_is_shown_what_is_compared_for_it(forgetful, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    before, told = (forgetful / "study.json").read_bytes(), []
    looked_at(read_study(forgetful), told.append)
    assert (forgetful / "study.json").read_bytes() == before
    assert told == [
        f"{forgetful}: 3 runs looked at, 3 pairs of runs compared now, which study.json doesn't "
        "have; it stays as it is"
    ]
    assert "comparing pairs of runs: 1 of 3" in capsys.readouterr().err
