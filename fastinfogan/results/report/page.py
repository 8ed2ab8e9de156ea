"""Puts report.html together: the template, the style, the program, and what is known of a run."""

from __future__ import annotations

from pathlib import Path

from fastinfogan.results.report import origin, outcome
from fastinfogan.results.report.charts import charts
from fastinfogan.results.report.elements import element, html
from fastinfogan.results.report.factors import factors
from fastinfogan.results.report.facts import Facts
from fastinfogan.results.web.one_file import as_json, one_file, shared_script, source

_FOLDER = Path(__file__).parent
PROGRAMS = ("curves.js", "report.js")  # in the order in which they use each other


def report_page(facts: Facts) -> bytes:
    """The page, itself one file.

    Pictures are in it, the generator isn't: a page that runs it is ten times as large, has its own
    file beside this one, and would be loaded by everybody who only reads.
    """
    config = facts.config
    title = f"{config.data.dataset}, {facts.iteration:,} iterations"
    about = (
        f"{facts.name} · preset {config.model.preset}, codes {config.model.codes}, "
        f"seed {config.run.seed} · {facts.trained_on} · {facts.ended:%Y-%m-%d}"
    )
    marks = [{"x": sign.since, "name": sign.kind} for sign in facts.collapse]
    parts = {
        "title": html(element("title", f"{title} · {facts.name}")),
        "heading": html(element("h1", title), element("p", about, id="about")),
        "warnings": html(*outcome.warnings(facts)),
        "tiles": html(outcome.tiles(facts)),
        "codes": html(*outcome.codes(facts)),
        "samples": html(outcome.samples(facts)),
        "matrices": html(*outcome.matrices(facts)),
        "factors": html(*factors(facts.evaluation.disentanglement)),
        "numbers": html(*outcome.numbers(facts)),
        "settings": html(*origin.settings_table(facts), origin.networks(facts)),
        "environment": html(outcome.where_it_ran(facts)),
        "loading": html(*origin.loading(facts)),
        "citing": html(*origin.citing(facts)),
        "curves": as_json({"charts": charts(facts.metrics, config.spec), "marks": marks}),
        "labelled": "" if facts.evaluation.clusterings else "hidden",
        "known": "hidden" if facts.evaluation.disentanglement is None else "",
    }
    script = shared_script() + "".join(source(_FOLDER / name) for name in PROGRAMS)
    return one_file(_FOLDER, script, {"img-src": "data:"}, parts).encode()
