// The report's charts: drawn for the width that there is, and read together at one iteration.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 54, RIGHT = 24, TOP = 12, BOTTOM = 26;
const COLOURS = 10; // classes of a series, in style.css
const data = JSON.parse(byId("data").textContent);
const shared = { logX: false, at: null };

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Chart {
  constructor(chart) {
    Object.assign(this, { ...chart, hidden: new Set() });
    this.said = element("span", { className: "at" });
    const heading = element("h3", { textContent: chart.title });
    if (chart.unit) heading.append(element("span", { className: "soft", textContent: ` ${chart.unit}` }));
    const head = element("div", { className: "bar" }, heading, this.said);
    if (chart.log !== null) head.append(this.logButton());
    this.svg = svg("svg", { role: "img", tabindex: "0", "aria-label": this.summary() });
    this.legend = element("ul", { className: "legend" });
    this.values = chart.series.map((series, i) => this.entry(series, i));
    for (const line of chart.lines) {
      this.legend.append(element("li", { className: "line" }, element("i", {}),
        element("span", { textContent: line.name }), element("output", { textContent: numeral(line.y, 4) })));
    }
    this.figure = element("figure", { className: "chart" }, head, this.svg, this.legend);
    if (chart.each > 1) {
      this.figure.append(element("p", {
        className: "soft", textContent: `Each point is the mean of ${chart.each} rows of metrics.jsonl.`,
      }));
    }
    this.listen();
  }

  summary() {
    const last = this.series.map(({ name, y }) => `${name} ${numeral(y.at(-1), 4)}`).join(", ");
    return `${this.title}; after iteration ${this.x.at(-1)}: ${last}`;
  }

  logButton() {
    const button = element("button", {
      type: "button", className: "button small", textContent: "log", "aria-pressed": String(this.log),
      "aria-label": `${this.title}: logarithmic values`,
    });
    button.addEventListener("click", () => {
      this.log = !this.log;
      button.setAttribute("aria-pressed", String(this.log));
      this.draw();
    });
    return button;
  }

  // A press on its name takes a curve away, and the others get its room.
  entry({ name }, i) {
    const value = element("output", {});
    const button = element("button", { type: "button", "aria-pressed": "true" },
      element("i", {}), element("span", { textContent: name }), value);
    button.className = `series${i % COLOURS}${i >= COLOURS ? " again" : ""}`;
    button.addEventListener("click", () => {
      const shown = this.hidden.delete(i);
      if (!shown) this.hidden.add(i);
      button.setAttribute("aria-pressed", String(shown));
      this.draw();
    });
    this.legend.append(element("li", {}, button));
    return value;
  }

  listen() {
    const move = (event) => {
      const box = this.svg.getBoundingClientRect();
      readAt(this.xs.value(event.clientX - box.left));
    };
    this.svg.addEventListener("pointermove", move);
    this.svg.addEventListener("pointerdown", move);
    this.svg.addEventListener("pointerleave", () => readAt(null));
    this.svg.addEventListener("blur", () => readAt(null));
    this.svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const now = shared.at === null ? this.x.length - (by < 0) : nearest(this.x, shared.at) + by;
      readAt(this.x[Math.max(0, Math.min(this.x.length - 1, now))]);
    });
  }

  draw() {
    const width = Math.max(240, this.svg.clientWidth || this.figure.clientWidth);
    const height = Math.round(Math.min(280, Math.max(190, 0.5 * width)));
    const shown = this.series.filter((_, i) => !this.hidden.has(i));
    const values = [...shown.flatMap(({ y }) => y), ...this.lines.map(({ y }) => y)];
    const domain = domainOf(values, this.range, this.log);
    const y = scaleOf(domain, [height - BOTTOM, TOP], this.log, 5);
    const first = this.x[0], last = this.x.at(-1), single = first === last;
    const begin = shared.logX || single ? Math.max(1, first / (single ? 2 : 1)) : 0;
    const ends = [begin, single ? 2 * last : last], places = [LEFT, width - RIGHT];
    const x = scaleOf(ends, places, shared.logX, Math.max(2, width / 110));
    this.xs = { ...x, value: (place) => {
      const share = (place - LEFT) / (places[1] - LEFT);
      return shared.logX ? ends[0] * (ends[1] / ends[0]) ** share : ends[0] + share * (ends[1] - ends[0]);
    } };
    this.ys = y;
    const parts = [];
    for (const tick of y.ticks) {
      const at = y.at(tick);
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      parts.push(svg("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, numeral(tick)));
    }
    for (const tick of x.ticks) {
      parts.push(svg("text", { x: x.at(tick), y: height - 7, "text-anchor": "middle" }, numeral(tick)));
    }
    for (const { x: since, name } of data.marks) {
      if (since < ends[0] || since > ends[1]) continue;
      const at = x.at(since);
      parts.push(svg("line", { class: "collapse", x1: at, x2: at, y1: TOP, y2: height - BOTTOM },
        svg("title", {}, `collapse, ${name}, since iteration ${since}`)));
    }
    for (const line of this.lines) {
      const at = y.at(line.y);
      parts.push(svg("line", { class: "ceiling", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    }
    const clip = `clip${charts.indexOf(this)}`;
    const curves = svg("g", { "clip-path": `url(#${clip})` });
    this.series.forEach((series, i) => {
      if (this.hidden.has(i)) return;
      const names = `curve series${i % COLOURS}${i >= COLOURS ? " again" : ""}`;
      curves.append(svg("path", { class: names, d: pathOf(this.x, series.y, x, y) }));
      if (this.x.length === 1 && series.y[0] !== null) curves.append(svg("circle", {
        class: `dot series${i % COLOURS}`, cx: x.at(first), cy: y.at(series.y[0]), r: 4,
      }));
    });
    this.reading = svg("g", { class: "reading" });
    const frame = svg("rect", {
      x: LEFT, y: TOP - 2, width: places[1] - LEFT, height: height - TOP - BOTTOM + 4,
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.replaceChildren(
      svg("clipPath", { id: clip }, frame), ...parts, curves, this.reading);
    this.read();
  }

  // The values at the iteration that is read, or the last ones.
  read() {
    const i = shared.at === null ? this.x.length - 1 : nearest(this.x, shared.at);
    this.said.textContent = `iteration ${this.x[i].toLocaleString("en")}`;
    this.series.forEach(({ y }, n) => (this.values[n].textContent = numeral(y[i], 4)));
    this.reading.replaceChildren();
    if (shared.at === null) return;
    const at = this.xs.at(this.x[i]), height = this.svg.viewBox.baseVal.height;
    this.reading.append(svg("line", { x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
    this.series.forEach(({ y }, n) => {
      const place = this.ys.at(y[i]);
      if (this.hidden.has(n) || y[i] === null || place > height - BOTTOM + 2) return;
      this.reading.append(svg("circle", { class: `dot series${n % COLOURS}`, cx: at, cy: place, r: 4 }));
    });
  }
}

function readAt(iteration) {
  shared.at = iteration;
  for (const chart of charts) chart.read();
}

const charts = data.charts.map((chart) => new Chart(chart));
byId("charts").append(...charts.map((chart) => chart.figure));
if (!charts.length) byId("charts").append(element("p", {
  className: "soft", textContent: "There are no rows in metrics.jsonl.",
}));
new ResizeObserver(() => charts.forEach((chart) => chart.draw())).observe(byId("charts"));

byId("log-x").addEventListener("click", ({ target }) => {
  shared.logX = !shared.logX;
  target.setAttribute("aria-pressed", String(shared.logX));
  for (const chart of charts) chart.draw();
});
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  copies(button, button.previousElementSibling);
}
