"""What came of a run: warnings, the numbers that matter, pictures of every code, all numbers."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import Element

from fastinfogan.kernels.codes import Code
from fastinfogan.results.evaluate import CodeInformation
from fastinfogan.results.report.elements import Content, element, listed, table
from fastinfogan.results.report.facts import Facts
from fastinfogan.results.report.matrix import matrix

_EACH = 6  # codes, at most, that have a number each among the first; of more, their total


def warnings(facts: Facts) -> list[Element]:
    """What looks wrong, if anything does."""
    return [
        element(
            "p", element("b", "This run looks collapsed"), f" since iteration {sign.since:,}: ",
            sign.says, ".", class_="notice", role="alert",
        )
        for sign in facts.collapse
    ]  # fmt: skip


def tiles(facts: Facts) -> Element:
    """The numbers that one looks for first."""
    evaluation, found = facts.evaluation, []
    if (best := evaluation.best) is not None:
        note = f"{best.code}, best one-to-one matching, {evaluation.real_images}"
        found.append(("error against labels", f"{best.error_hungarian:.1%}", note))
    if len(evaluation.codes) <= _EACH:
        for code in evaluation.codes:
            found.append(_information(code))
    else:
        totals = evaluation.totals
        note = f"of at most {totals['best_mi']:.2f} nats, all {len(evaluation.codes)} codes"
        found.append(("L_I", f"{totals['mi']:.2f}", note))
    rate = facts.iteration * facts.config.optim.batch_size / max(facts.seconds, 1e-9)
    found.append(
        ("training took", in_words(facts.seconds), f"{rate:,.0f} images/s, {facts.device}")
    )
    return element(
        "ul",
        *(
            element("li", element("span", name), element("b", value), element("small", note))
            for name, value, note in found
        ),
        class_="tiles",
    )


def codes(facts: Facts) -> list[Element]:
    """A card for every code: what it is, how much of it can be read, what it changes."""
    measured = {code.name: code for code in facts.evaluation.codes}
    spec = facts.config.spec
    return [
        _card(facts, name, code, measured.get(name))
        for name, code in zip(spec.names, spec.codes, strict=True)
    ]


def samples(facts: Facts) -> Element:
    """Images with noise and codes as training draws them."""
    return _picture(facts, "samples", "samples of the generator")


def matrices(facts: Facts) -> list[Element]:
    """Heat maps: of the code that fits the labels best, and the others behind a click."""
    best, parts = facts.evaluation.best, []
    for clustering in sorted(facts.evaluation.clusterings, key=lambda c: c is not best):
        said = f"{clustering.code}: {clustering.error_hungarian:.1%} of the images are elsewhere"
        if clustering is best:
            parts += [element("h3", said), matrix(clustering)]
        else:
            parts.append(element("details", element("summary", said), matrix(clustering)))
    return parts


def numbers(facts: Facts) -> list[Element]:
    """All that was measured."""
    evaluation = facts.evaluation
    parts = [
        table(
            ["code", "L_I", "at most", "H(c)", "L_I, best σ", "correlation"],
            [
                [c.name, _number(c.mi), _number(c.best_mi), _number(c.entropy),
                 _number(c.mi_fitted), _number(c.correlation)]
                for c in evaluation.codes
            ]
            + [["total", *(_number(evaluation.totals[k]) for k in ("mi", "best_mi", "entropy")),
                "", ""]],
            "numbers",
        ),
        element(
            "p", f"In nats, on {evaluation.samples:,} generated images. At most: what this form of "
            "Q can reach; with σ fixed at 1 that is below 0 for a uniform code, however well it is "
            "recovered. Correlation: of the code and Q's mean.", class_="soft",
        ),
    ]  # fmt: skip
    if evaluation.clusterings:
        rows: list[list[Content]] = [
            [c.code, f"{c.error_hungarian:.2%}", f"{c.error_majority:.2%}", f"{c.nmi:.3f}",
             f"{c.ari:.3f}"]
            for c in evaluation.clusterings
        ]  # fmt: skip
        heads: list[Content] = ["code", "error, Hungarian", "error, majority", "NMI", "ARI"]
        said = f"Categories that Q sees in {evaluation.real_images}, against their labels."
        parts += [table(heads, rows, "numbers"), element("p", said, class_="soft")]
    return parts


def in_words(seconds: float) -> str:
    """A time as one says it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _information(code: CodeInformation) -> tuple[str, str, str]:
    short = code.name.split("_")[0]
    if code.correlation is None:
        return f"L_I of {short}", f"{code.mi:.3f}", f"of at most {code.entropy:.3f} nats"
    return f"correlation of {short}", f"{code.correlation:.2f}", "of the code and what Q reads"


def _card(facts: Facts, name: str, code: Code, measured: CodeInformation | None) -> Element:
    short, what = name.split("_")[0], code.prior
    if measured is None:
        share, said = None, "free: Q doesn't have to find it"
    elif measured.correlation is None:
        share = measured.mi / measured.entropy
        said = f"L_I {measured.mi:.3f} of {measured.entropy:.3f} nats"
    else:
        share = abs(measured.correlation)
        said = f"correlation with what Q reads {measured.correlation:.2f}"
    meter = None
    if share is not None:
        meter = element(
            "meter", min="0", max="1", value=f"{min(max(share, 0.0), 1.0):.3f}", aria_label=said
        )
    return element(
        "article",
        element("h3", element("b", short), " ", element("span", what, class_="soft")),
        element("p", meter, element("span", said), class_="measure"),
        _picture(facts, f"traversal_{name}", f"what {name} changes"),
        class_="card",
    )


def _picture(facts: Facts, name: str, says: str) -> Element:
    data = base64.b64encode(facts.pictures[name]).decode()
    image = Element("img", {"src": f"data:image/png;base64,{data}", "alt": says})
    return element("div", image, class_="picture")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def where_it_ran(facts: Facts) -> Element:
    """Device, machine, versions."""
    return listed([
        ("device", facts.device), *facts.environment.items(),
        ("training took", in_words(facts.seconds)),
        ("ended", f"{facts.ended:%Y-%m-%d %H:%M %Z}".strip()),
    ])  # fmt: skip
