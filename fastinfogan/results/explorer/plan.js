// What is to be drawn: images as {noise, values, label}, their columns, and the same as a command.
"use strict";

const LOW = -2, HIGH = 2, STEP = 0.05; // of a continuous code; training sees -1 to 1 of a uniform one
const STRIP = 9; // images of the strip along a continuous code, and between two points
const MOST_STRIP = 40, MOST_GRID = 600; // images

// A view's choices: {seed: BigInt, set: (number | null)[], null for what each sample has drawn}.
function planSamples(spec, choices, labels, count) {
  const images = [];
  for (let i = 0; i < count; i++) images.push(sampleOf(spec, choices, labels, i));
  return { columns: gridColumns(count), heads: [], images };
}

// As `fastinfogan traverse` draws: one code along the columns, all else the same along a row.
function planVary(spec, choices, labels, code, asked, columns) {
  const shown = columnValues(spec.codes[code], labels, columns), images = [];
  const rows = Math.min(asked, Math.max(1, Math.floor(MOST_GRID / shown.length)));
  const ordered = spec.codes.findIndex((c) => c.kind === "categorical");
  for (let r = 0; r < rows; r++) {
    const row = drawSample(spec, choices.seed, r);
    if (ordered >= 0 && spec.codes[code].kind !== "categorical") {
      const order = columnOrder(spec.codes[ordered], labels);
      row.values[ordered] = order[r % order.length];
    }
    const set = choices.set.map((value, i) => (i === code ? null : value));
    for (const value of shown) {
      const values = row.values.map((drawn, i) => (i === code ? value : set[i] ?? drawn));
      images.push(imageOf(spec, labels, row.noise, values, `row ${r + 1}`));
    }
  }
  return { columns: shown.length, heads: heads(spec.codes[code], labels, shown), images, rows };
}

// A row: one image, with one code varied.
function planStrip(spec, labels, image, code) {
  const shown = columnValues(spec.codes[code], labels, STRIP).slice(0, MOST_STRIP);
  const images = shown.map((value) => imageOf(spec, labels, image.noise,
    image.values.map((own, i) => (i === code ? value : own)), "strip"));
  return { columns: shown.length, heads: heads(spec.codes[code], labels, shown), images };
}

// From one image to another: {way: the image so far along, strip: all the way}.
function planBetween(spec, a, b, way) {
  const at = (t) => ({ input: between(spec, a, b, t), label: `${Math.round(100 * t)} % from A to B` });
  const steps = Array.from({ length: STRIP }, (_, i) => i / (STRIP - 1));
  const said = steps.map((t) => (t === 0 ? "A" : t === 1 ? "B" : `${Math.round(100 * t)} %`));
  return {
    way: { columns: 1, heads: [], images: [at(way)] },
    strip: { columns: STRIP, heads: said, images: steps.map(at) },
  };
}

// G's input between two: codes on the straight line; noise on the arc, where N(0, 1) has its mass.
function between(spec, a, b, t) {
  const inputs = inputsOf(spec, [a, b]), width = spec.width, { noise } = spec;
  const from = inputs.subarray(0, width), to = inputs.subarray(width);
  let dot = 0, lengthA = 0, lengthB = 0;
  for (let i = 0; i < noise; i++) {
    dot += from[i] * to[i];
    lengthA += from[i] ** 2;
    lengthB += to[i] ** 2;
  }
  const cosine = dot / Math.sqrt(lengthA * lengthB), angle = Math.acos(Math.min(1, Math.abs(cosine)));
  const straight = !(angle > 1e-3); // so near each other, or opposite, that there is no arc to take
  const full = Math.acos(Math.max(-1, Math.min(1, cosine)));
  const [u, v] = straight ? [1 - t, t]
    : [Math.sin((1 - t) * full) / Math.sin(full), Math.sin(t * full) / Math.sin(full)];
  return from.map((own, i) => (i < noise ? u * own + v * to[i] : (1 - t) * own + t * to[i]));
}

function sampleOf(spec, choices, labels, index) {
  const { noise, values } = drawSample(spec, choices.seed, index);
  const chosen = values.map((drawn, i) => choices.set[i] ?? drawn);
  return imageOf(spec, labels, noise, chosen, `sample ${index + 1}`);
}

function imageOf(spec, labels, noise, values, called) {
  const said = spec.codes.map((code, i) => `${code.short} ${valueName(code, labels, values[i])}`);
  return { noise, values, label: `${called}: ${said.join(", ")}` };
}

// All inputs of G one after the other.
function inputsOf(spec, images) {
  const inputs = new Float32Array(images.length * spec.width);
  images.forEach((image, i) => {
    if (image.input) inputs.set(image.input, i * spec.width);
    else writeInput(spec, image, inputs, i * spec.width);
  });
  return inputs;
}

function gridColumns(count) {
  return Math.ceil(Math.sqrt(count));
}

function columnValues(code, labels, columns) {
  if (code.kind === "categorical") return columnOrder(code, labels);
  if (code.kind === "bernoulli") return [0, 1];
  return Array.from({ length: columns }, (_, i) =>
    columns === 1 ? LOW : LOW + ((HIGH - LOW) * i) / (columns - 1));
}

// Categories sorted by label, numbers as numbers, those without a label last.
function columnOrder(code, labels) {
  const own = labels.get(code.name) ?? [];
  const key = (k) => {
    const label = own[k] ?? null, number = label !== null && /^[0-9]+$/.test(label);
    return [label === null ? 1 : 0, number ? 0 : 1, number ? Number(label) : 0, label ?? "", k];
  };
  const keys = Array.from({ length: code.width }, (_, k) => key(k));
  keys.sort((a, b) => {
    const i = a.findIndex((part, at) => part !== b[at]);
    return i < 0 ? 0 : a[i] < b[i] ? -1 : 1;
  });
  return keys.map((parts) => parts[4]);
}

function heads(code, labels, shown) {
  const short = (value) => String(Number(value.toFixed(2))).replace("-", "\u2212");
  const named = (value) => valueName(code, labels, value);
  return shown.map(isContinuous(code) ? short : named);
}

function isContinuous(code) {
  return code.kind === "uniform" || code.kind === "gaussian";
}

// A value in words: the label of a category where there is one.
function valueName(code, labels, value) {
  if (code.kind === "bernoulli") return value ? "on" : "off";
  if (code.kind !== "categorical") return decimals(value);
  const own = labels.get(code.name);
  return own ? own[value] ?? `#${value}` : String(value);
}

function decimals(value) {
  return value.toFixed(2).replace("-", "\u2212");
}

// What a shell reads as one word.
function shellQuoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

function commandOf(spec, source, choices, view) {
  const varied = view.code ?? null, words = ["fastinfogan", varied === null ? "sample" : "traverse"];
  words.push(shellQuoted(source));
  if (varied === null) words.push("--count", view.count);
  else {
    words.push("--code", spec.codes[varied].short, "--rows", view.rows);
    if (isContinuous(spec.codes[varied])) words.push("--columns", view.columns);
  }
  words.push("--seed", choices.seed);
  const set = spec.codes.flatMap((code, i) =>
    choices.set[i] === null || i === varied ? [] : [`${code.short}=${choices.set[i]}`]);
  if (set.length) words.push("--set", set.join(","));
  return words.join(" ");
}
