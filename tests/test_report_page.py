"""report.html: what is in it is what was measured, and nothing that is in it runs by mistake."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from pages import Elements
from reports import facts, row

from fastinfogan.cli import main
from fastinfogan.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, resolve
from fastinfogan.results import environment
from fastinfogan.results.clustering import cluster
from fastinfogan.results.factors.correlation import FactorCorrelation
from fastinfogan.results.factors.measure import SCORES, Disentanglement
from fastinfogan.results.report.charts import MOST_POINTS, charts
from fastinfogan.results.report.matrix import MOST, matrix, sorted_by_match
from fastinfogan.results.report.page import report_page
from fastinfogan.results.report.settings import command, settings
from fastinfogan.training import trainer
from fastinfogan.training.collapse import Sign
from fastinfogan.training.metrics import read_metrics

SHOWN = 1e-4  # relative: numbers in the page have five digits

# -- At the end of a run ---------------------------------------------------------------------------


def test_a_run_ends_with_its_report_and_the_explorer_beside_it(small_run):
    page = Elements((small_run / "report.html").read_bytes())
    assert {a["href"] for tag, a in page.found if tag == "a" and a["href"][0] != "#"} == {
        "explorer.html"
    }
    assert (small_run / "explorer.html").read_bytes().startswith(b"<!doctype html>")
    pictures = [a["src"] for tag, a in page.found if tag == "img"]
    names = ["traversal_c1_cat10", "traversal_c2_uni", "traversal_c3_uni", "samples"]
    assert [base64.b64decode(source.split(",")[1]) for source in pictures] == [
        (small_run / f"{name}.png").read_bytes() for name in names
    ]
    summary = json.loads((small_run / "summary.json").read_text())
    text = (small_run / "report.html").read_text()
    for code in summary["evaluation"]["codes"]:
        assert f">{code['mi']:.3f}<" in text
    (clustering,) = summary["evaluation"]["clusterings"]
    for cell in np.unique(clustering["contingency"]):
        assert f">{cell:,}<" in text
    assert f"{clustering['error_hungarian']:.1%}" in text
    for value in (summary["device"], *summary["versions"].values()):
        assert value in text
    data = json.loads(page.text("data"))
    rows = read_metrics(small_run / "metrics.jsonl")
    for chart in data["charts"]:
        assert chart["x"] == [row["iteration"] for row in rows]


def test_a_finished_run_without_one_is_finished_again(small_run, tmp_path, narrow_presets, capsys):
    """As those are that an earlier version trained."""
    copy = shutil.copytree(small_run, tmp_path / "run")
    assert main(["train", "--resume", str(copy)]) == 2
    assert "the run is finished, with 6 iterations; --iterations" in capsys.readouterr().err
    (copy / "report.html").unlink()
    (copy / "explorer.html").unlink()
    assert main(["train", "--resume", str(copy)]) == 0
    old, new = ((run / "report.html").read_text() for run in (small_run, copy))
    assert re.findall(r"<article.*</article>", old) == re.findall(r"<article.*</article>", new)
    assert (copy / "explorer.html").exists()


# -- A page that asks for nothing, and runs nothing but its own ------------------------------------


def test_the_page_is_one_file(narrow_presets):
    page = Elements(report_page(facts()))
    sources = [a["src"] for _, a in page.found if "src" in a]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert {tag for tag, _ in page.found} & {"link", "iframe", "object", "form", "base"} == set()
    assert not [name for _, a in page.found for name in a if name.startswith("on")]
    (policy,) = (a["content"] for _, a in page.found if "http-equiv" in a)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("default-src") == "'none'"
    assert directives.pop("img-src") == "data:"
    assert directives.keys() == {"script-src", "style-src"}
    assert all(re.fullmatch(r"'sha256-\S+'", value) for value in directives.values())
    assert not [tag for tag, a in page.found if "style" in a]  # the policy would drop it


def without_titles(page):
    """Its elements and their attributes, but for what is told of a name under the pointer."""
    return [(tag, {k: v for k, v in a.items() if k != "title"}) for tag, a in page.found]


HOSTILE = (
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--<script>",
    "&lt;b&gt;", "{{script}}", "a\"b'c\\", "\u202eü ☃", "\udcff\x00", "${1}`",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_and_nothing_else(name):
    def of(name):
        made = facts(labels=(name, *"123456789"), name=name, command=name)
        sign = Sign("images", 9, f"{name}; help")
        return Elements(
            report_page(
                replace(made, trained_on=name, device=name, collapse=(sign,),
                        environment={**made.environment, "commit": name})
            )
        )  # fmt: skip

    plain, odd = of("plain"), of(name)
    assert without_titles(odd) == without_titles(plain)
    if name.isprintable():
        assert sum(name in text for _, text in odd.texts) == sum(
            "plain" in text for _, text in plain.texts
        )


# -- Curves ----------------------------------------------------------------------------------------


def test_curves_are_the_rows():
    made = facts()
    spec, found = made.config.spec, {chart["title"]: chart for chart in charts(
        made.metrics, made.config.spec)}  # fmt: skip
    assert list(found) == [
        "L_I of categories", "L_I of continuous codes", "Losses", "What D believes",
        "Error against labels, Hungarian", "Speed",
    ]  # fmt: skip
    rows, measured = made.metrics, [row for row in made.metrics if "evaluation" in row]
    expected = {
        "L_I of continuous codes": {
            name: [row["mi_per_code"][name] for row in rows] for name in spec.names[1:]
        },
        "Losses": {"D": [r["d_loss"] for r in rows], "G": [r["g_loss"] for r in rows]},
        "What D believes": {
            "right, of real and generated images": [math.exp(-r["d_loss"] / 2) for r in rows],
            "real, of generated images": [math.exp(-r["g_loss"]) for r in rows],
        },
        "Error against labels, Hungarian": {
            "c1_cat10": [100 * r["evaluation"]["c1_cat10"]["error_hungarian"] for r in measured]
        },
    }
    for title, series in expected.items():
        chart = found[title]
        assert chart["x"] == [
            row["iteration"] for row in (measured if title.startswith("Error") else rows)
        ]
        assert {s["name"]: pytest.approx(s["y"], rel=SHOWN) for s in chart["series"]} == series
    assert found["L_I of categories"]["lines"] == [
        {"name": "H(c)", "y": pytest.approx(math.log(10), rel=SHOWN)}
    ]
    assert found["L_I of categories"]["log"] is None  # an information may be negative
    assert found["Losses"]["log"] is False and found["Error against labels, Hungarian"]["log"]


def test_of_many_rows_so_many_in_a_row_become_their_mean():
    spec = facts().config.spec
    rows = [row(i + 1, spec) for i in range(2 * MOST_POINTS + 1)]
    losses = next(chart for chart in charts(rows, spec) if chart["title"] == "Losses")
    assert losses["each"] == 3 and len(losses["x"]) == -(-len(rows) // 3)
    assert losses["x"][:2] == [3, 6] and losses["x"][-1] == len(rows)
    d = [r["d_loss"] for r in rows]
    means = [np.mean(d[i : i + 3]) for i in range(0, len(d), 3)]
    assert losses["series"][0]["y"] == pytest.approx(means, rel=SHOWN)


def test_rows_that_somebody_changed_leave_a_gap():
    made = facts()
    made.metrics[3]["d_loss"] = math.inf
    made.metrics[4]["g_loss"] = -1e308
    losses = next(c for c in charts(made.metrics, made.config.spec) if c["title"] == "Losses")
    assert losses["series"][0]["y"][3] is None
    json.loads(Elements(report_page(made)).text("data"))
    assert charts([], made.config.spec) == []
    assert report_page(replace(made, metrics=[]))


# -- Categories and labels -------------------------------------------------------------------------


def test_matched_pairs_are_on_the_diagonal_and_what_is_alone_comes_last():
    counts = np.array([[7, 0, 1, 5, 0], [0, 0, 8, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 9]])
    found = cluster("c1", counts, ("b", "10", "9", "a", "c"))
    categories, labels = sorted_by_match(found)
    # By label, numbers as numbers: 9 (category 1), b (0), c (3); then what nobody matches.
    assert categories.shown == (1, 0, 3, 2) and categories.others == ()
    assert labels.shown == (2, 0, 4, 3, 1) and labels.others == ()
    cells = [
        [(cell.text, cell.get("class")) for cell in line.iter("td")]
        for line in matrix(found).iter("tr")
    ][1:]
    assert [text for text, _ in cells[1]] == ["1", "7", "0", "5", "0", "13"]
    assert [[("match" in shade) for _, shade in line[:5]] for line in cells] == [
        [row == column and row < 3 for column in range(5)] for row in range(4)
    ]
    assert cells[1][1][1] == f"shade{round(20 * 7 / 13)} match"


def test_hundreds_of_labels_are_added_up():
    counts = np.random.default_rng(0).integers(0, 5, (60, 300))
    found = cluster("c1", counts, tuple(str(i) for i in range(300)))
    categories, labels = sorted_by_match(found)
    assert len(categories.shown) == len(labels.shown) == MOST - 1
    assert sorted((*labels.shown, *labels.others)) == list(range(300))
    lines = [[cell.text for cell in line.iter("td")] for line in matrix(found).iter("tr")][1:]
    assert len(lines) == MOST and {len(line) for line in lines} == {MOST + 1}
    total = sum(int(cell.replace(",", "")) for line in lines for cell in line[:-1])
    assert total == counts.sum()


# -- Settings, environment -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        TrainConfig(),
        TrainConfig(
            DataConfig("sprites"), ModelConfig(codes="cat3,uni:learned", noise=7),
            OptimConfig(lr_g=5e-4, beta1=0.25, augment=True, jitter="rotation=0.2,scale=0.1"),
            RunConfig(seed=9, device="cpu", compile=False, evaluate_every=5, feed="streamed"),
        ),
        TrainConfig(
            model=ModelConfig(preset="mnist", separate_q=True), optim=OptimConfig(augment=False)
        ),
        TrainConfig(optim=OptimConfig(objective="gan", augment=False, average=0)),
        TrainConfig(DataConfig("sprites", image_size=64)),
    ],
)  # fmt: skip
def test_the_command_trains_the_same_again(asked, monkeypatch):
    """What differs is marked, and the command asks for just that."""
    config, trained = resolve(asked), []

    def wanted(config, resume, or_start):
        trained.append(config)
        raise ZeroDivisionError

    monkeypatch.setattr(trainer, "train", wanted)
    with pytest.raises(ZeroDivisionError):
        main(shlex.split(command(config).replace("\\\n", " "))[1:])
    assert resolve(trained[0]) == config
    marked = {setting.flag for setting in settings(config) if setting.differs}
    typed = set(re.findall(r"--\S+", command(config).replace("--no-", "--")))
    assert marked == typed - {"--dataset", "--preset", "--seed"}


def test_a_report_names_no_path(tmp_path):
    config = resolve(
        TrainConfig(DataConfig("mnist", tmp_path / "images"), run=RunConfig(out=tmp_path / "run"))
    )
    page = report_page(replace(facts(), config=config)).decode()
    assert str(tmp_path) not in page and "--data-dir DIR" in page


def test_the_commit_is_that_of_our_own_checkout(tmp_path, monkeypatch):
    found = environment.versions()
    if "commit" in found:  # not where the package is installed
        assert re.fullmatch(r"[0-9a-f]{12,}(-dirty)?", found["commit"])
    (tmp_path / ".git").mkdir()  # an environment in somebody else's repository
    monkeypatch.setattr(environment, "_CHECKOUT", tmp_path)
    assert "commit" not in environment.versions()


def test_a_long_run_of_many_codes_is_written_soon():
    """A page without a label, of ten codes and 15,000 rows: it takes no image to be generated."""
    made = facts(labels=(), codes="10xcat10", rows=15_000)
    began = time.process_time()
    page = report_page(made)
    took = time.process_time() - began
    assert took < 3 and len(page) < 2e6
    elements = Elements(page)
    (labels,) = (a for _, a in elements.found if a.get("id") == "labels")
    assert "hidden" in labels
    assert f"{made.evaluation.totals['mi']:.2f}" in elements.text("b")


def test_known_factors_have_a_section_of_their_own():
    found = Disentanglement(
        points=100,
        test_points=50,
        seed=0,
        protocol="as in the <paper>",
        codes=("c1_cat10", "c2_uni"),
        factors=("shape", "<b>azimuth"),
        information=((1.0, 0.0), (0.1, 0.5)),
        entropies=(1.0, 2.0),
        scores={**dict.fromkeys(SCORES), "mig": 0.575},
        correlations=(FactorCorrelation("<b>azimuth", "c2_uni", "angle", 0.91),),
        notes=("nothing left out",),
    )
    made = facts()
    page = report_page(replace(made, evaluation=replace(made.evaluation, disentanglement=found)))
    elements, whole = Elements(page), page.decode()
    shown = dict(re.findall(r'class="(shade\d+ match)" title="[^"]*">(\d\.\d\d)<', whole))
    assert shown == {"shade20 match": "1.00", "shade5 match": "0.25"}
    assert "&lt;b&gt;azimuth" in whole and "<b>azimuth" not in whole
    assert "0.91 (c2, angle)" in whole and "0.575" in whole and "as in the &lt;paper&gt;" in whole
    (section,) = (a for _, a in elements.found if a.get("id") == "factors")
    assert "hidden" not in section
    (section,) = (a for _, a in Elements(report_page(made)).found if a.get("id") == "factors")
    assert "hidden" in section
