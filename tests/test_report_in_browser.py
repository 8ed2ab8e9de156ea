"""report.html in a browser, opened from disk: curves that follow the metrics, in any width."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from chromium import MISSING, PROGRAM, Page
from reports import facts, row

from fastinfogan.results.report.charts import charts
from fastinfogan.results.report.page import report_page
from fastinfogan.training.collapse import Sign

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
DRAWN = 0.02  # pixels: places are rounded to hundredths, and so are the ends of an axis
PATHS = """JSON.stringify([...document.querySelectorAll('.chart')].map((chart) => ({
    title: chart.querySelector('h3').firstChild.textContent,
    paths: [...chart.querySelectorAll('path.curve')].map((path) => path.getAttribute('d')),
    ceilings: [...chart.querySelectorAll('.ceiling')].map((line) => +line.getAttribute('y1')),
    said: [...chart.querySelectorAll('.legend button output')].map((o) => o.textContent),
    at: chart.querySelector('.at').textContent,
    again: chart.querySelectorAll('.button').length,
})))"""
WIDTHS = "[document.documentElement.scrollWidth, innerWidth]"


def opened(tmp_path, made, **options):
    path = tmp_path / "report.html"
    path.write_bytes(report_page(made))
    page = Page(path, tmp_path / "profile", **options)
    page.until("document.querySelectorAll('.chart path').length > 0")
    return page


def drawn(page):
    """Title -> what is drawn of a chart."""
    return {chart["title"]: chart for chart in json.loads(page.run(PATHS))}


def points(path):
    """Of a path without gaps, float64 (points, 2)."""
    return np.array(re.findall(r"[ML](\S+?) ([-\d.]+)", path), np.float64)


def assert_on_a_line(places, values):
    """Places that are a linear function of values."""
    values = np.asarray(values, np.float64)
    order = np.argsort(values)
    low, high = order[0], order[-1]
    share = (values - values[low]) / (values[high] - values[low])
    expected = places[low] + share * (places[high] - places[low])
    np.testing.assert_allclose(places, expected, rtol=0, atol=2 * DRAWN)
    assert abs(places[high] - places[low]) > 20  # pixels: it can be seen


def test_the_curves_follow_the_metrics(tmp_path):
    made = facts()
    wanted = {c["title"]: c for c in charts(made.metrics, made.config.spec)}
    with opened(tmp_path, made) as page:
        found = drawn(page)
        assert list(found) == list(wanted)
        for title, chart in wanted.items():
            shown = found[title]
            assert len(shown["paths"]) == len(chart["series"])
            places = [points(path) for path in shown["paths"]]
            values = [np.array(series["y"]) for series in chart["series"]]
            for xy in places:
                assert_on_a_line(xy[:, 0], chart["x"])
            # All curves of a chart, and its ceilings, share one axis.
            lines = [line["y"] for line in chart["lines"]]
            every = np.concatenate([*values, lines])
            heights = np.concatenate([*(xy[:, 1] for xy in places), shown["ceilings"]])
            assert_on_a_line(heights, np.log(every) if chart["log"] else every)
            assert heights[np.argmax(every)] < heights[np.argmin(every)]  # upwards
            last = [float(said.replace("\u2212", "-").replace(",", "")) for said in shown["said"]]
            assert last == pytest.approx([y[-1] for y in values], rel=5e-3)
        assert page.run("performance.getEntriesByType('resource').length") == 0
        assert page.complaints == []


def test_all_charts_tell_the_values_where_the_pointer_is(tmp_path):
    made = facts()
    with opened(tmp_path, made) as page:
        page.run(
            """(() => {
                const chart = charts[2], box = chart.svg.getBoundingClientRect();
                chart.svg.dispatchEvent(new PointerEvent("pointermove", {
                    clientX: box.left + chart.xs.at(203), clientY: box.top + 50, bubbles: true }));
            })()"""
        )
        found = drawn(page)
        losses = made.metrics[9]
        assert found["Losses"]["at"] == "iteration 200"
        assert [float(said) for said in found["Losses"]["said"]] == pytest.approx(
            [losses["d_loss"], losses["g_loss"]], rel=5e-3
        )
        assert found["Speed"]["said"] == ["600.0"]
        page.run("charts[2].svg.focus()")
        page.press("ArrowRight", 39)
        assert drawn(page)["Losses"]["at"] == "iteration 220"
        page.run("charts[2].svg.blur()")
        assert drawn(page)["Losses"]["at"] == "iteration 800"
        assert page.complaints == []


def test_curves_can_be_taken_away_and_axes_be_logarithmic(tmp_path):
    made = facts()
    with opened(tmp_path, made) as page:
        page.run("document.querySelector('#log-x').click()")
        page.run("charts[2].figure.querySelector('.bar .button').click()")
        losses = drawn(page)["Losses"]
        for path, key in zip(losses["paths"], ("d_loss", "g_loss"), strict=True):
            xy = points(path)
            assert_on_a_line(xy[:, 0], np.log([row["iteration"] for row in made.metrics]))
            assert_on_a_line(xy[:, 1], np.log([row[key] for row in made.metrics]))
        page.run("charts[2].legend.querySelector('button').click()")
        assert len(drawn(page)["Losses"]["paths"]) == 1
        page.run("charts[2].legend.querySelector('button').click()")
        assert drawn(page)["Losses"]["paths"] == losses["paths"]
        assert page.complaints == []


def test_axes_have_round_numbers_and_odd_metrics_a_gap(tmp_path):
    made = facts(rows=3)
    made.metrics[1]["d_loss"] = float("nan")
    with opened(tmp_path, made) as page:
        ticks = "JSON.stringify([linearTicks(0, 3000, 4), linearTicks(-0.31, -0.2, 5), "
        ticks += "logTicks(2, 30, 5), logTicks(1, 1e6, 4)])"
        assert json.loads(page.run(ticks)) == [
            [0, 1000, 2000, 3000], [-0.3, -0.25, -0.2], [2, 5, 10, 20], [1, 100, 10000, 1000000],
        ]  # fmt: skip
        path = drawn(page)["Losses"]["paths"][0]
        assert path.count("M") == 2 and "L" not in path and "NaN" not in path
        assert page.complaints == []


@pytest.mark.parametrize("rows", [0, 1])
def test_a_run_without_rows_or_with_one_has_a_page(tmp_path, rows):
    made = facts(codes="cat4,bern,gauss,uni:free")
    made = replace(made, metrics=[row(20, made.config.spec)][:rows])
    path = tmp_path / "report.html"
    path.write_bytes(report_page(made))
    with Page(path, tmp_path / "profile") as page:
        page.until("document.readyState === 'complete'")
        dots = "document.querySelectorAll('.chart > svg > g > circle').length"
        page.until(
            f"{dots} === {8 * rows}"
        )  # 2 discrete, 1 continuous, 2 losses, 2 beliefs, 1 speed
        assert page.run("document.querySelectorAll('article').length") == 4
        assert page.complaints == []


def test_on_a_phone_only_boxes_scroll_sideways(tmp_path):
    labels = tuple(f"label of many words {i}" for i in range(30))
    made = facts(labels=labels, codes="2xcat20,uni", name="x" * 250)
    made = replace(made, collapse=(Sign("images", 300, "all generated images are alike; help"),))
    with opened(tmp_path, made) as page:
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=400, height=800, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        page.until("charts[0].svg.viewBox.baseVal.width < 400")
        page.run("for (const part of document.querySelectorAll('details')) part.open = true")
        wide, width = page.run(WIDTHS)
        assert wide <= width == 400
        boxes = "[...document.querySelectorAll('.scroll')].filter((b) => b.scrollWidth > 400)"
        assert page.run(f"{boxes}.length") >= 2  # the heat maps of both codes
        assert page.run("document.querySelectorAll('.chart .collapse').length") == len(
            page.run("charts.map((chart) => chart.title)")
        )
        assert page.complaints == []


def test_dark_and_light_can_both_be_read(tmp_path):
    """Contrast of text with what is behind it, as WCAG 2.2 counts it: 4.5, and 3 for curves."""
    contrast = """(() => {
        const luminance = (colour) => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255).map(
                (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ratio = (a, b) => {
            const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05);
        };
        const style = (name) => getComputedStyle(document.querySelector(name));
        const behind = style("section").backgroundColor;
        const shaded = document.querySelectorAll(".matrix td:not(.total)");
        const cells = [...shaded].map((cell) => getComputedStyle(cell));
        const curves = [...Array(10).keys()].map((i) => {
            const probe = document.querySelector(".chart path");
            probe.setAttribute("class", `curve series${i}`);
            return ratio(getComputedStyle(probe).stroke, behind);
        });
        return {
            back: luminance(style("html").backgroundColor),
            text: ["section p", ".tiles b", "small", ".numbers td", "dt", "pre code", "mark"].map(
                (name) => ratio(style(name).color, behind)),
            cells: cells.map((cell) => ratio(cell.color, cell.backgroundColor)),
            curves,
        };
    })()"""
    with opened(tmp_path, facts()) as page:
        found = [page.run(contrast)]
        page.run("document.querySelector('#theme').click()")
        found.append(page.run(contrast))
        assert found[0]["back"] > 0.7 and found[1]["back"] < 0.05
        for theme in found:
            assert min(theme["text"]) > 4.5
            assert min(theme["cells"]) > 4.5
            assert min(theme["curves"]) > 3
        assert page.complaints == []


def test_code_is_copied_from_beside_its_button(tmp_path):
    with opened(tmp_path, facts()) as page:
        page.run("document.querySelector('#use .copy').click()")
        page.until("/Copied|Selected/.test(document.querySelector('#use .copy').textContent)")
        lines = page.run("document.querySelector('#use pre').textContent")
        assert lines.startswith("from fastinfogan import load_generator\n")
        compile(lines, "report.html", "exec")
        assert page.complaints == []
