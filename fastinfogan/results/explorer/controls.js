// The controls of the codes. Whatever a file says goes into the page as text, never as HTML.
"use strict";

const MOST_CHIPS = 40; // categories with a button each; beyond, a list
const LONG_CHIP = 3; // characters; longer ones don't stand in columns

// What a new generator begins with: continuous codes in their middle, the others as drawn.
function firstChoices(spec) {
  return spec.codes.map((code) => (isContinuous(code) ? 0 : null));
}

// A code's fieldset. `change(value)` is called with a number, or null for "any"; returns
// {fieldset, show(value)}.
function codeControl(code, labels, change) {
  const said = element("output");
  const legend = element("legend", {}, element("b", { textContent: code.short }),
    element("span", { textContent: kindName(code) }), said);
  const build = isContinuous(code) ? slider : code.width > MOST_CHIPS ? list : chips;
  const { part, show } = build(code, labels, change);
  const fieldset = element("fieldset", { className: "code" }, legend, part);
  return {
    fieldset,
    show(value) {
      said.textContent = value === null ? "any" : valueName(code, labels, value);
      show(value);
    },
  };
}

function kindName(code) {
  const named = { categorical: `${code.width} categories`, bernoulli: "on or off" };
  return named[code.kind] ?? (code.kind === "uniform" ? "continuous" : "continuous, normal");
}

function slider(code, labels, change) {
  const range = element("input", {
    type: "range", min: LOW, max: HIGH, step: STEP, value: 0, "aria-label": code.short,
  });
  const any = element("button", {
    type: "button", className: "button small", textContent: "any", "aria-label": `${code.short} any`,
  });
  const ticks = element("span", { className: "ticks", "aria-hidden": "true" });
  for (const value of [-2, -1, 0, 1, 2]) {
    const mark = element("span", { textContent: String(value).replace("-", "\u2212") });
    mark.style.setProperty("--at", `${(100 * (value - LOW)) / (HIGH - LOW)}%`);
    ticks.append(mark);
  }
  const track = element("div", { className: "track" }, range, ticks);
  // Uniform codes are drawn from -1 to 1, a quarter to three quarters of the range.
  const [from, to] = code.kind === "uniform" ? ["25%", "75%"] : ["0%", "100%"];
  track.style.setProperty("--from", from);
  track.style.setProperty("--to", to);
  const part = element("div", { className: "slide" }, track, any);
  range.addEventListener("input", () => change(Number(range.value)));
  range.addEventListener("dblclick", () => change(0));
  any.addEventListener("click", () => {
    change(any.getAttribute("aria-pressed") === "true" ? Number(range.value) : null);
  });
  const show = (value) => {
    any.setAttribute("aria-pressed", String(value === null));
    part.classList.toggle("free", value === null);
    if (value !== null) range.value = value;
    range.setAttribute("aria-valuetext", value === null ? "any" : decimals(value));
  };
  return { part, show };
}

function chips(code, labels, change) {
  const part = element("div", { className: "chips" });
  const inputs = new Map();
  for (const value of [null, ...columnValues(code, labels, 0)]) {
    const text = value === null ? "any" : valueName(code, labels, value);
    const input = element("input", { type: "radio", name: code.name });
    if (value !== null && code.kind === "categorical") {
      const shows = labels.get(code.name)?.[value] ?? null;
      const said = shows === null ? "" : `, which shows ${shows}`;
      input.setAttribute("aria-label", `category ${value}${said}`);
    }
    input.addEventListener("change", () => change(value));
    inputs.set(value, input);
    const title = input.getAttribute("aria-label") ?? (value === null ? "as drawn" : text);
    const label = element("label", { title }, input, element("span", { textContent: text }));
    if (text.length > LONG_CHIP) part.classList.add("uneven");
    if (value === null) label.className = "any";
    part.append(label);
  }
  return { part, show: (value) => (inputs.get(value).checked = true) };
}

function list(code, labels, change) {
  const part = element("select", { "aria-label": code.short });
  part.append(element("option", { value: "", textContent: "any" }));
  for (const value of columnOrder(code, labels)) {
    part.append(element("option", { value, textContent: valueName(code, labels, value) }));
  }
  part.addEventListener("change", () => change(part.value === "" ? null : Number(part.value)));
  return { part, show: (value) => (part.value = value ?? "") };
}
