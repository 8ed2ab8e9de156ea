// Reads a generator.safetensors (docs/generator-format.md): every word checked, or the file refused.
"use strict";

const MAX_HEADER = 2 ** 24, MAX_DEPTH = 32, MAX_LAYERS = 64, MAX_SIDE = 1024;
const MAX_NUMBERS = 2 ** 26, MAX_NOISE = 4096, MAX_CODES = 64, MAX_CATEGORIES = 1024;
const MAX_LABEL = 255;

// What is wrong with a file, in words for its user; anything else that is thrown is our mistake.
class Refused extends Error {}

function refuse(reason) {
  throw new Refused(reason);
}

// The generator that a file holds. `bytes` is a Uint8Array of all of it.
function readGenerator(bytes) {
  const { metadata, tensors } = readTensors(bytes);
  const version = word(metadata, "format_version");
  if (version !== "1") refuse(`format_version ${quote(version)}, not 1`);
  const spec = readSpec(jsonOf(metadata, "latent_spec"));
  const { layers, shape } = readLayers(jsonOf(metadata, "architecture"), spec.width);
  const stated = jsonOf(metadata, "image_shape");
  if (JSON.stringify(stated) !== JSON.stringify(shape)) {
    refuse("its image_shape isn't what its architecture makes");
  }
  if (![1, 3].includes(shape[0])) refuse("it makes images of other than 1 or 3 channels");
  const range = jsonOf(metadata, "output_range");
  if (!Array.isArray(range) || range.length !== 2 || !range.every(Number.isFinite) ||
      range[0] >= range[1]) refuse("its output_range is no range");
  const labels = readLabels(metadata, spec);
  const iteration = word(metadata, "iteration");
  if (!/^[0-9]{1,18}$/.test(iteration)) refuse(`its iteration is ${quote(iteration)}`);
  attachWeights(layers, tensors);
  checkDigest(metadata, tensors);
  return { spec, layers, shape, range, labels, iteration };
}

// A safetensors file: its metadata, and name -> {shape, bytes, data}, data as a Float32Array or, for
// weights as packed.py writes them, an Int16Array.
function readTensors(bytes) {
  if (bytes.length < 8) refuse("it is too short for a safetensors file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const size = view.getUint32(0, true);
  if (view.getUint32(4, true) || size > MAX_HEADER || 8 + size > bytes.length) {
    refuse("it is no safetensors file, or cut off");
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + size));
  } catch {
    refuse("its header is no text");
  }
  const header = parseJson(text, "header");
  if (!isObject(header)) refuse("its header is no object");
  const metadata = header.__metadata__;
  if (!isObject(metadata) || !Object.values(metadata).every((v) => typeof v === "string")) {
    refuse("it is a safetensors file, but has no description of a generator in it");
  }
  const places = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: at } = isObject(entry) ? entry : {};
    if (!["F32", "I16"].includes(dtype)) refuse(`tensor ${quote(name)} is neither F32 nor I16`);
    const count = Array.isArray(shape) && shape.length <= 8 && shape.every(isCount)
      ? shape.reduce((a, b) => a * b, 1) : NaN;
    if (!(count <= MAX_NUMBERS)) refuse(`tensor ${quote(name)} has an impossible shape`);
    if (!Array.isArray(at) || at.length !== 2 || !at.every(isCount) ||
        at[1] - at[0] !== count * (dtype === "F32" ? 4 : 2)) {
      refuse(`tensor ${quote(name)} lies in an impossible place`);
    }
    places.push({ name, dtype, shape, begin: at[0], end: at[1] });
  }
  places.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0; // contiguous: nothing overlaps, nothing is left over
  for (const place of places) {
    if (place.begin !== end) refuse(`tensor ${quote(place.name)} lies in an impossible place`);
    end = place.end;
  }
  if (8 + size + end !== bytes.length) refuse("it is cut off, or has something behind its end");
  const tensors = new Map();
  for (const { name, dtype, shape, begin, end: last } of places) {
    const own = bytes.slice(8 + size + begin, 8 + size + last); // aligned
    const data = dtype === "F32" ? new Float32Array(own.buffer) : new Int16Array(own.buffer);
    for (let i = 0; i < data.length; i++) {
      if (!Number.isFinite(data[i])) refuse(`tensor ${quote(name)} holds NaN or infinite values`);
    }
    tensors.set(name, { shape, bytes: own, data });
  }
  return { metadata, tensors };
}

// JSON of no more than so many levels: some readers run out of stack.
function parseJson(text, what) {
  let depth = 0, inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 92) i++;
      else if (c === 34) inString = false;
    } else if (c === 34) inString = true;
    else if (c === 91 || c === 123) {
      if (++depth > MAX_DEPTH) refuse(`its ${what} is nested too deeply`);
    } else if (c === 93 || c === 125) depth--;
  }
  try {
    return JSON.parse(text);
  } catch {
    return refuse(`its ${what} isn't JSON`);
  }
}

function word(metadata, key) {
  if (!Object.hasOwn(metadata, key)) refuse(`its header has no ${key}`);
  return metadata[key];
}

function jsonOf(metadata, key) {
  return parseJson(word(metadata, key), key);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function isWithin(value, least, most) {
  return isCount(value) && value >= least && value <= most;
}

// For a message: a file's words, shortened.
function quote(value) {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

// What each number of the input is: {width, noise, codes: [{name, short, kind, offset, width}]}.
function readSpec(spec) {
  const bad = (what) => refuse(`its latent_spec can't be used: ${what}`);
  if (!isObject(spec) || !isObject(spec.noise) || !Array.isArray(spec.codes)) bad("words missing");
  const noise = spec.noise.width;
  if (!isWithin(noise, 0, MAX_NOISE) || spec.noise.offset !== 0) bad("its noise");
  if (!isWithin(spec.codes.length, 1, MAX_CODES)) bad(`1 to ${MAX_CODES} codes work`);
  let offset = noise;
  const codes = spec.codes.map((code, i) => {
    const { name, kind, width, encoding } = isObject(code) ? code : {};
    if (typeof name !== "string" || !/^c[0-9]{1,2}_[a-z]{1,12}[0-9]{0,4}$/.test(name)) {
      bad(`a code is called ${quote(name)}`);
    }
    const short = name.split("_")[0];
    if (short !== `c${i + 1}`) bad(`code ${i + 1} is called ${quote(name)}`);
    const oneHot = kind === "categorical";
    if (!["categorical", "uniform", "gaussian", "bernoulli"].includes(kind)) {
      bad(`${name} is of the unknown kind ${quote(kind)}`);
    }
    if (!isWithin(width, oneHot ? 2 : 1, oneHot ? MAX_CATEGORIES : 1)) bad(`the width of ${name}`);
    if (encoding !== (oneHot ? "one-hot" : "value")) bad(`the encoding of ${name}`);
    if (code.offset !== offset) bad(`the place of ${name}`);
    offset += width;
    return { name, short, kind, offset: offset - width, width };
  });
  if (spec.width !== offset) bad("its width");
  return { width: offset, noise, codes };
}

// The layers, checked against each other, and the shape of the last one's output.
function readLayers(described, width) {
  const bad = (what) => refuse(`its architecture can't be built: ${what}`);
  if (!Array.isArray(described) || !isWithin(described.length, 1, MAX_LAYERS)) {
    bad(`1 to ${MAX_LAYERS} layers work`);
  }
  let shape = [width], weights = 0;
  const layers = described.map((layer) => {
    const { name, kind, bias, norm, activation, reshape } = isObject(layer) ? layer : {};
    if (typeof name !== "string" || name.length > 64) bad("a layer has no name");
    if (JSON.stringify(layer.inputs) !== JSON.stringify(shape)) bad(`the inputs of ${quote(name)}`);
    const inputs = shape, outputs = layer.outputs;
    if (!Array.isArray(outputs) || !outputs.every((n) => isWithin(n, 1, MAX_NUMBERS))) {
      bad(`the outputs of ${quote(name)}`);
    }
    const built = { name, kind, inputs, outputs, bias: bias === true, eps: null, slope: 0 };
    if (typeof bias !== "boolean") bad(`the bias of ${quote(name)}`);
    if (kind === "fc") {
      if (inputs.length !== 1 || outputs.length !== 1) bad(`an fc takes and gives features`);
      weights += inputs[0] * outputs[0];
    } else if (kind === "upconv") {
      const { kernel, stride, padding } = layer;
      if (inputs.length !== 3 || outputs.length !== 3) bad("an upconv takes and gives a map");
      if (!isWithin(kernel, 1, 16) || !isWithin(stride, 1, 4)) bad(`the kernel of ${quote(name)}`);
      if (!Array.isArray(padding) || padding.length !== 2 || !padding.every(isCount) ||
          padding[0] + padding[1] !== kernel - stride) bad(`the padding of ${quote(name)}`);
      if (outputs[1] !== inputs[1] * stride || outputs[2] !== inputs[2] * stride) {
        bad(`the outputs of ${quote(name)}`);
      }
      weights += inputs[0] * outputs[0] * kernel ** 2;
      Object.assign(built, { kernel, stride, before: padding[0] });
    } else bad(`the kind ${quote(kind)} is unknown; fc and upconv are known`);
    if (norm !== null) {
      const eps = isObject(norm) && norm.kind === "batchnorm" ? norm.eps : NaN;
      if (!(eps > 0 && eps < 1)) bad(`the norm of ${quote(name)}`);
      built.eps = eps;
    }
    built.activation = isObject(activation) ? activation.kind : null;
    if (["relu", "lrelu"].includes(built.activation)) {
      built.slope = activation.slope;
      if (!(built.slope >= 0 && built.slope <= 1)) bad(`the slope of ${quote(name)}`);
    } else if (!["sigmoid", "tanh", "linear"].includes(built.activation)) {
      bad(`the activation ${quote(built.activation)} is unknown`);
    }
    shape = outputs;
    if (reshape !== undefined) {
      if (kind !== "fc" || !isObject(reshape) ||
          JSON.stringify(reshape.feature_order) !== '["height","width","channel"]') {
        bad(`the reshape of ${quote(name)}`);
      }
      shape = [reshape.channels, reshape.height, reshape.width];
      if (!shape.every((n) => isWithin(n, 1, MAX_NUMBERS)) || product(shape) !== outputs[0]) {
        bad(`the reshape of ${quote(name)}`);
      }
    }
    const side = Math.max(0, ...shape.slice(1));
    if (product(shape) > MAX_NUMBERS || weights > MAX_NUMBERS || side > MAX_SIDE) {
      bad(`it asks for more than ${MAX_NUMBERS} weights or values, or ${MAX_SIDE} pixels a side`);
    }
    return built;
  });
  if (shape.length !== 3) bad("it doesn't end in an image");
  return { layers, shape };
}

function product(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

function attachWeights(layers, tensors) {
  const unused = new Set(tensors.keys());
  for (const layer of layers) {
    const take = (name, ...shape) => {
      const full = `${layer.name}.${name}`, tensor = tensors.get(full);
      if (!tensor) refuse(`tensor ${quote(full)} is missing`);
      if (JSON.stringify(tensor.shape) !== JSON.stringify(shape)) {
        refuse(`tensor ${quote(full)} has shape ${quote(tensor.shape)}, not ${quote(shape)}`);
      }
      unused.delete(full);
      if (tensor.data instanceof Float32Array) return tensor.data;
      if (name !== "op.weight") refuse(`tensor ${quote(full)} isn't F32`);
      return scaled(tensor.data, take("op.weight.scale", layer.outputs[0]), product(inner));
    };
    const [before, after] = [layer.inputs[0], layer.outputs[0]];
    const inner = layer.kind === "fc" ? [before] : [layer.kernel, layer.kernel];
    layer.weight = layer.kind === "fc" ? take("op.weight", after, before)
      : take("op.weight", before, after, ...inner);
    layer.biases = layer.bias ? take("op.bias", after) : null;
    if (layer.eps === null) continue;
    layer.norm = {
      mean: take("norm.running_mean", after), variance: take("norm.running_var", after),
      weight: take("norm.weight", after), bias: take("norm.bias", after),
    };
    if (layer.norm.variance.some((v) => v < 0)) {
      refuse(`tensor ${quote(layer.name)} holds variances below 0`);
    }
  }
  if (unused.size) refuse(`tensor ${quote([...unused][0])} is unexpected`);
}

// Whole numbers times the scale of their output, of which `inner` in a row belong to each.
function scaled(whole, scale, inner) {
  const data = new Float32Array(whole.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = whole[i] * scale[Math.floor(i / inner) % scale.length];
  }
  return data;
}

function readLabels(metadata, spec) {
  if (!Object.hasOwn(metadata, "code_to_label")) return new Map();
  const bad = () => refuse("its code_to_label doesn't fit its codes");
  const labels = jsonOf(metadata, "code_to_label");
  if (!isObject(labels)) bad();
  return new Map(Object.entries(labels).map(([name, list]) => {
    const code = spec.codes.find((c) => c.name === name && c.kind === "categorical");
    if (!code || !Array.isArray(list) || list.length !== code.width) bad();
    if (!list.every((l) => l === null || (typeof l === "string" && l.length <= MAX_LABEL))) bad();
    return [name, list];
  }));
}

// The digest is over the other words of the header, and the tensors in the order of their names.
function checkDigest(metadata, tensors) {
  if (!Object.hasOwn(metadata, "sha256")) return;
  const byPoint = ([a], [b]) => (a < b ? -1 : 1);
  const ascii = (text) => JSON.stringify(text).replace(/[\x7f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const words = Object.entries(metadata).filter(([key]) => key !== "sha256").sort(byPoint);
  const text = `{${words.map((pair) => pair.map(ascii).join(":")).join(",")}}`;
  const digest = new Sha256().update(new TextEncoder().encode(text));
  for (const [, tensor] of [...tensors].sort(byPoint)) digest.update(tensor.bytes);
  if (digest.hex() !== metadata.sha256) {
    refuse("it is damaged: its content isn't what its sha256 stands for");
  }
}
