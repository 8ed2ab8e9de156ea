// The page: what is chosen, what is asked of the worker, and what is shown.
"use strict";

const MOST_FILE = 4 * 2 ** 26 + 2 ** 24; // bytes: as many as fastinfogan reads
const MOST_SEED = 2n ** 63n - 1n;
const VARIED_COLUMNS = 9, PLAY_TIME = 3000; // milliseconds from A to B

const settings = JSON.parse(byId("settings").textContent);
const worker = new Worker(URL.createObjectURL(
  new Blob([byId("worker-source").textContent], { type: "text/javascript" })));
const state = {
  generator: null, source: settings.source, choices: { seed: 0n, set: [] }, view: "samples",
  touched: 0, selected: 0, points: { a: null, b: null }, asked: 0, laid: 0, began: 0, loading: null,
};
const grid = new Stage(byId("grid"), select), strip = new Stage(byId("strip"));
let controls = [];

worker.onmessage = ({ data }) => {
  if (data.loaded !== undefined) loaded(data);
  else if (data.refused !== undefined) refused(data);
  else if (data.failed !== undefined) say(`This can't be drawn: ${data.reason}.`);
  else if (data.drawn >= state.laid) painted(data);
};
worker.onerror = () => {
  say("This browser can't run the page: a newer one can.");
  document.body.dataset.busy = "false";
};

// A generator: the page's own, or a file that was opened or dropped.

let loads = 0;

function load(source, name, content) {
  state.loading = { id: ++loads, source, name };
  document.body.dataset.busy = "true";
  byId("status").textContent = `Reading ${name}\u2026`;
  worker.postMessage({ load: loads, ...content }, content.bytes ? [content.bytes.buffer] : []);
}

function loaded({ loaded: id, generator }) {
  if (id !== state.loading?.id) return;
  say("");
  Object.assign(state, { generator, source: state.loading.source, touched: 0, selected: 0 });
  state.points = { a: null, b: null };
  const { spec, shape, labels, iteration } = generator, [channels, height, width] = shape;
  const colour = channels === 3 ? "colour" : "grey";
  byId("about").textContent = `${state.loading.name} \u00b7 ${width}\u00d7${height}, ${colour} \u00b7 ` +
    `${Number(iteration).toLocaleString("en")} iterations`;
  document.title = `${state.loading.name} \u00b7 fastinfogan explorer`;
  state.choices = { seed: 0n, set: firstChoices(spec) };
  controls = spec.codes.map((code, i) =>
    codeControl(code, labels, (value) => change(i, value)));
  byId("codes").replaceChildren(...controls.map((control) => control.fieldset));
  byId("varied").replaceChildren(...spec.codes.map((code, i) =>
    element("option", { value: i, textContent: code.short })));
  const continuous = spec.codes.findIndex(isContinuous);
  state.touched = Math.max(0, continuous);
  byId("varied").value = state.touched;
  refresh();
}

function refused({ refused: id, reason }) {
  if (id !== state.loading?.id) return;
  say(`${state.loading.name} is no generator file that this page can show: ${reason}.`);
  byId("status").textContent = "";
  document.body.dataset.busy = "false";
}

async function open(file) {
  if (file.size > MOST_FILE) {
    say(`${file.name} is larger than a generator can be.`);
    return;
  }
  try {
    load(file.name, file.name, { bytes: new Uint8Array(await file.arrayBuffer()) });
  } catch {
    say(`${file.name} can't be read.`);
  }
}

function say(text) {
  byId("message").hidden = !text;
  byId("message").textContent = text;
}

// Choices.

function change(code, value) {
  state.choices.set[code] = value;
  state.touched = code;
  refresh();
}

function select(index) {
  if (state.view !== "between") state.selected = index;
  refresh();
}

function setSeed(seed) {
  state.choices.seed = seed;
  refresh();
}

function newNoise() {
  setSeed(BigInt(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000));
}

// The chosen image becomes an end of "Between two".
function keep(point) {
  state.points[point] = grid.plan.images[grid.chosen];
  const button = byId(`keep-${point}`), text = `Keep as ${point.toUpperCase()}`;
  button.textContent = "Kept";
  setTimeout(() => (button.textContent = text), 1000);
}

function reset() {
  state.choices = { seed: 0n, set: firstChoices(state.generator.spec) };
  refresh();
}

// Shows what is chosen, and asks for the images.

function refresh() {
  if (!state.generator) return;
  const { spec, shape } = state.generator, { choices, view } = state;
  document.body.dataset.view = view;
  controls.forEach((control, i) => control.show(choices.set[i]));
  if (byId("seed").value !== String(choices.seed)) byId("seed").value = choices.seed;
  byId("seed").removeAttribute("aria-invalid");
  const before = [grid.cells, strip.cells];
  const [plan, along] = { samples: showSamples, vary: showVaried, between: showBetween }[view]();
  grid.lay(plan, shape);
  if (view !== "between") state.selected = Math.min(state.selected, plan.images.length - 1);
  grid.choose(view === "between" ? 0 : state.selected);
  byId("strip-part").hidden = along === null;
  if (along) strip.lay(along, shape);
  const images = along ? [...plan.images, ...along.images] : plan.images;
  state.asked += 1;
  if (grid.cells !== before[0] || strip.cells !== before[1]) state.laid = state.asked;
  if (document.body.dataset.busy !== "true") state.began = performance.now();
  document.body.dataset.busy = "true";
  worker.postMessage({ draw: state.asked, inputs: inputsOf(spec, images), count: images.length });
}

// Each view: what goes into the grid, and what into the strip below it.

function showSamples() {
  const { spec, labels } = state.generator, count = Number(byId("count").value);
  const plan = planSamples(spec, state.choices, labels, count), code = state.touched;
  const chosen = plan.images[Math.min(state.selected, count - 1)];
  byId("strip").setAttribute("aria-label", `the chosen image along ${spec.codes[code].short}`);
  byId("strip-caption").replaceChildren("The chosen image along ",
    element("b", { textContent: spec.codes[code].short }));
  showCommand({ count });
  return [plan, planStrip(spec, labels, chosen, code)];
}

function showVaried() {
  const { spec, labels } = state.generator, columns = VARIED_COLUMNS;
  const [code, rows] = [Number(byId("varied").value), Number(byId("rows").value)];
  const plan = planVary(spec, state.choices, labels, code, rows, columns);
  showCommand({ code, rows: plan.rows, columns });
  return [plan, null];
}

function showCommand(view) {
  const { generator: { spec }, source, choices } = state;
  const parts = commandOf(spec, source, choices, view).split(/ (?=--)/); // lines break between them
  byId("command").replaceChildren(...parts.flatMap((text, i) =>
    [i ? " " : "", element("span", { textContent: text })]));
}

function showBetween() {
  const { spec, labels } = state.generator, { choices, points } = state;
  const [first, second] = planSamples(spec, choices, labels, 2).images;
  const plans = planBetween(spec, points.a ?? first, points.b ?? second, Number(byId("way").value));
  byId("strip").setAttribute("aria-label", "from A to B");
  byId("strip-caption").textContent =
    "Noise and codes go from A to B, which are chosen in the other views";
  return [plans.way, plans.strip];
}

function painted({ drawn, first, size, pixels, last }) {
  const own = Math.max(0, Math.min(size, grid.cells.length - first));
  const split = own * (pixels.length / size);
  if (own) grid.paint(first, own, pixels.subarray(0, split));
  if (own < size) strip.paint(first + own - grid.cells.length, size - own, pixels.subarray(split));
  if (!last || drawn !== state.asked) return;
  const took = Math.round(performance.now() - state.began);
  byId("status").textContent = `${first + size} images in ${took} ms`;
  document.body.dataset.busy = "false";
}

// What the page's parts do.

function download() {
  (state.view === "between" ? strip : grid).picture().toBlob((blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: `${pngName()}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

function pngName() {
  const { spec } = state.generator, varied = spec.codes[Number(byId("varied").value)].name;
  return { vary: `traversal_${varied}`, between: "between" }[state.view] ??
    `samples_seed${state.choices.seed}`;
}

// To B and back to A, until it is stopped; a frame waits for the images of the one before.
const play = { on: false, toB: true, last: 0 };

function togglePlay() {
  play.on = !play.on;
  play.last = performance.now();
  byId("play").textContent = play.on ? "Stop" : "Play";
  byId("play").setAttribute("aria-pressed", String(play.on));
  if (play.on) requestAnimationFrame(advance);
}

function advance(now) {
  if (!play.on) return;
  if (state.view !== "between") return togglePlay();
  requestAnimationFrame(advance);
  if (document.body.dataset.busy === "true") return;
  const way = Number(byId("way").value) + ((play.toB ? 1 : -1) * (now - play.last)) / PLAY_TIME;
  play.last = now;
  if (way >= 1 || way <= 0) play.toB = way <= 0;
  byId("way").value = Math.max(0, Math.min(1, way));
  refresh();
}

byId("views").addEventListener("change", (event) => {
  state.view = event.target.value;
  byId("varied").value = state.touched;
  refresh();
});
for (const id of ["count", "varied", "rows"]) byId(id).addEventListener("change", refresh);
byId("new-noise").addEventListener("click", newNoise);
byId("reset").addEventListener("click", reset);
byId("way").addEventListener("input", refresh);
byId("play").addEventListener("click", togglePlay);
for (const point of ["a", "b"]) byId(`keep-${point}`).addEventListener("click", () => keep(point));
byId("download").addEventListener("click", download);
byId("seed").addEventListener("input", ({ target }) => {
  const text = target.value.trim();
  const valid = /^[0-9]{1,19}$/.test(text) && BigInt(text) <= MOST_SEED;
  if (valid) setSeed(BigInt(text));
  else target.setAttribute("aria-invalid", "true");
});
copies(byId("copy"), byId("command"));
byId("open").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = "";
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("drop").hidden = true;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").hidden = true;
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=radio], [type=range]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || !state.generator) return;
  const act = { n: newNoise, r: reset, v: nextView, d: download }[event.key.toLowerCase()];
  if (act) act();
});

function nextView() {
  const views = [...document.querySelectorAll("#views input")];
  views[(views.findIndex((input) => input.checked) + 1) % views.length].click();
}

byId("precision").textContent = settings.precision;
load(settings.source, settings.name, { base64: byId("generator").textContent });
