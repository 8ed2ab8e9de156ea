// Runs a generator's layers: every linear map is one product of matrices, K contiguous in both.
"use strict";

const BLOCK_WORK = 6e7; // multiplications between two looks at what else was asked

class Network {
  // `generator` is what readGenerator gave; maps are kept as (height, width, channel).
  constructor(generator) {
    this.generator = generator;
    this.layers = generator.layers.map(prepare);
    this.work = this.layers.reduce((sum, l) => sum + l.rows * l.columns * l.depth, 0);
    this.block = Math.max(1, Math.min(16, Math.floor(BLOCK_WORK / this.work)));
  }

  // Inputs, Float32Array (count, width) -> pixels, Uint8ClampedArray (count, height, width, channel).
  images(inputs, count) {
    let values = inputs;
    for (const layer of this.layers) values = apply(layer, values, count);
    const [low, high] = this.generator.range, scale = 255 / (high - low);
    const pixels = new Uint8ClampedArray(values.length);
    for (let i = 0; i < values.length; i++) {
      if (Number.isNaN(values[i])) refuse("its weights are too large: an image holds NaN");
      pixels[i] = (values[i] - low) * scale; // rounds, and clips to 0 to 255
    }
    return pixels;
  }
}

// A layer as a product: weights (columns, depth), then one scale and shift per channel.
function prepare(layer) {
  const channels = layer.outputs[0], depth = layer.inputs[0];
  const scale = new Float32Array(channels).fill(1), shift = new Float32Array(channels);
  for (let c = 0; c < channels; c++) {
    if (layer.biases) shift[c] = layer.biases[c];
    if (layer.eps !== null) {
      const { mean, variance, weight, bias } = layer.norm;
      const factor = weight[c] / Math.sqrt(variance[c] + layer.eps);
      scale[c] = factor;
      shift[c] = (shift[c] - mean[c]) * factor + bias[c];
    }
  }
  const common = { ...layer, channels, depth, scale, shift };
  if (layer.kind === "fc") return { ...common, rows: 1, columns: channels };
  const taps = layer.kernel ** 2, columns = channels * taps;
  const weights = new Float32Array(columns * depth); // (tap, channel out, channel in)
  for (let i = 0; i < depth; i++) {
    for (let o = 0; o < channels; o++) {
      for (let t = 0; t < taps; t++) {
        weights[(t * channels + o) * depth + i] = layer.weight[(i * channels + o) * taps + t];
      }
    }
  }
  return { ...common, rows: layer.inputs[1] * layer.inputs[2], columns, weight: weights };
}

function apply(layer, inputs, count) {
  const { rows, columns, depth } = layer;
  const products = new Float32Array(count * rows * columns);
  multiply(inputs, layer.weight, products, count * rows, columns, depth);
  const values = layer.kind === "fc" ? products : addTaps(layer, products, count);
  activate(layer, values);
  return values;
}

// out (m, n) = a (m, k) times b (n, k) transposed, in blocks of 4 by 4.
function multiply(a, b, out, m, n, k) {
  const f = Math.fround;
  for (let j = 0; j < n; j += 4) {
    const jn = Math.min(4, n - j);
    const b0 = j * k, b1 = jn > 1 ? b0 + k : b0, b2 = jn > 2 ? b1 + k : b0, b3 = jn > 3 ? b2 + k : b0;
    for (let i = 0; i < m; i += 2) {
      const last = i + 1 === m, a0 = i * k, a1 = last ? a0 : a0 + k;
      let s00 = f(0), s01 = f(0), s02 = f(0), s03 = f(0);
      let s10 = f(0), s11 = f(0), s12 = f(0), s13 = f(0);
      for (let l = 0; l < k; l++) {
        const x = a[a0 + l], y = a[a1 + l];
        const p = b[b0 + l], q = b[b1 + l], r = b[b2 + l], s = b[b3 + l];
        s00 = f(s00 + f(x * p)); s01 = f(s01 + f(x * q));
        s02 = f(s02 + f(x * r)); s03 = f(s03 + f(x * s));
        s10 = f(s10 + f(y * p)); s11 = f(s11 + f(y * q));
        s12 = f(s12 + f(y * r)); s13 = f(s13 + f(y * s));
      }
      const top = [s00, s01, s02, s03], below = [s10, s11, s12, s13];
      for (let c = 0; c < jn; c++) {
        out[i * n + j + c] = top[c];
        if (!last) out[(i + 1) * n + j + c] = below[c];
      }
    }
  }
}

// Transposed convolution: each pixel's products, (tap, channel), are added where they belong.
function addTaps(layer, products, count) {
  const { channels, kernel, stride, before } = layer;
  const [, height, width] = layer.inputs, [, outHeight, outWidth] = layer.outputs;
  const out = new Float32Array(count * outHeight * outWidth * channels);
  let from = 0;
  for (let n = 0; n < count; n++) {
    for (let h = 0; h < height; h++) {
      for (let w = 0; w < width; w++) {
        for (let i = 0; i < kernel; i++) {
          const y = stride * h + i - before;
          for (let j = 0; j < kernel; j++, from += channels) {
            const x = stride * w + j - before;
            if (y < 0 || x < 0 || y >= outHeight || x >= outWidth) continue;
            const to = ((n * outHeight + y) * outWidth + x) * channels;
            for (let c = 0; c < channels; c++) out[to + c] += products[from + c];
          }
        }
      }
    }
  }
  return out;
}

// Scale and shift (bias and batchnorm), and the activation, in place.
function activate(layer, values) {
  const { channels, scale, shift, slope, activation: kind } = layer;
  const curve = { sigmoid: (x) => 1 / (1 + Math.exp(-x)), tanh: Math.tanh, linear: (x) => x }[kind];
  for (let i = 0; i < values.length; i += channels) {
    for (let c = 0; c < channels; c++) {
      const x = values[i + c] * scale[c] + shift[c];
      values[i + c] = curve ? curve(x) : x > 0 ? x : slope * x;
    }
  }
}
