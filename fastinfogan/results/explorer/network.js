// Runs a generator's layers. Every linear map is one product of matrices (product.js); maps lie as
// (height, width, channel), and a transposed convolution adds up the products of its taps.
"use strict";

const BLOCK_WORK = 2.5e8; // multiplications between two looks at what else was asked
const MOST_BLOCK = 16, PAGE = 65536;

class Network {
  // `generator` is what readGenerator gave.
  constructor(generator) {
    const { layers, shape } = generator;
    Object.assign(this, { spec: generator.spec, range: generator.range });
    const work = layers.reduce((sum, layer) => sum + product(sizes(layer)), 0);
    this.block = Math.max(1, Math.min(MOST_BLOCK, Math.floor(BLOCK_WORK / work)));
    // One memory: weights, then what goes into a layer's product, and what comes out of it.
    let used = 0;
    const take = (count) => (used += 16 * Math.ceil(count / 4)) - 16 * Math.ceil(count / 4);
    const places = layers.map((layer) => {
      const [, columns, depth] = sizes(layer);
      return take(whole(columns, COLUMNS) * depth);
    });
    const most = (count) => Math.max(...layers.map((layer) => {
      const [rows, columns, depth] = sizes(layer);
      return whole(this.block * rows, ROWS) * count(columns, depth);
    }));
    const image = this.block * product(shape);
    this.inputs = take(Math.max(image, most((columns, depth) => depth)));
    this.products = take(most((columns) => whole(columns, COLUMNS)));
    this.memory = new WebAssembly.Memory({ initial: Math.ceil(used / PAGE) + 1 });
    this.multiply = productIn(this.memory);
    this.numbers = new Float32Array(this.memory.buffer);
    this.layers = layers.map((layer, i) => this.prepare(layer, places[i]));
  }

  // A layer with its weights in panels, and one scale and shift per channel.
  prepare(layer, place) {
    const [rows, columns, depth] = sizes(layer), channels = layer.outputs[0];
    const taps = columns / channels, panel = COLUMNS * depth;
    for (let column = 0; column < columns; column++) { // (tap, channel out)
      const tap = Math.floor(column / channels), o = column % channels;
      let from = layer.kind === "fc" ? o * depth : o * taps + tap;
      const step = layer.kind === "fc" ? 1 : channels * taps;
      let to = place / 4 + Math.floor(column / COLUMNS) * panel + (column % COLUMNS);
      for (let i = 0; i < depth; i++, from += step, to += COLUMNS) {
        this.numbers[to] = layer.weight[from];
      }
    }
    const scale = new Float32Array(channels).fill(1), shift = new Float32Array(channels);
    for (let c = 0; c < channels; c++) {
      if (layer.biases) shift[c] = layer.biases[c];
      if (layer.eps === null) continue;
      const { mean, variance, weight, bias } = layer.norm;
      scale[c] = weight[c] / Math.sqrt(variance[c] + layer.eps);
      shift[c] = (shift[c] - mean[c]) * scale[c] + bias[c];
    }
    return { ...layer, weight: place, rows, columns, depth, channels, scale, shift };
  }

  // Inputs, Float32Array (count, width), count at most `block` -> pixels, Uint8ClampedArray
  // (count, height, width, channel).
  images(inputs, count) {
    const { inputs: place, numbers } = this;
    numbers.set(inputs, place / 4);
    let size = 0;
    for (const layer of this.layers) size = this.apply(layer, count);
    const [low, high] = this.range, scale = 255 / (high - low);
    const pixels = new Uint8ClampedArray(size);
    for (let i = 0; i < size; i++) {
      const value = numbers[place / 4 + i];
      if (Number.isNaN(value)) refuse("its weights are too large: an image holds NaN");
      pixels[i] = (value - low) * scale; // rounds, and clips to 0 to 255
    }
    return pixels;
  }

  // From the place of the inputs to the same place; how many numbers are there afterwards.
  apply(layer, count) {
    const { rows, columns, depth, weight } = layer, wide = whole(columns, COLUMNS);
    const { inputs, products, numbers } = this;
    this.multiply(inputs, weight, products, whole(count * rows, ROWS), wide, depth);
    const from = numbers.subarray(products / 4, products / 4 + count * rows * wide);
    const size = count * product(layer.outputs);
    const values = numbers.subarray(inputs / 4, inputs / 4 + size);
    if (layer.kind === "fc") {
      for (let n = 0; n < count; n++) {
        values.set(from.subarray(n * wide, n * wide + columns), n * columns);
      }
    } else addTaps(layer, from, wide, values, count);
    activate(layer, values);
    return size;
  }
}

// Of a layer's product for one image: rows, columns, depth.
function sizes(layer) {
  const [before, height = 1, width = 1] = layer.inputs;
  return [height * width, layer.outputs[0] * (layer.kernel ?? 1) ** 2, before];
}

function whole(count, unit) {
  return unit * Math.ceil(count / unit);
}

// Transposed convolution: each pixel's products, (tap, channel), are added where they belong.
function addTaps(layer, products, wide, values, count) {
  const { channels, kernel, stride, before } = layer;
  const [, height, width] = layer.inputs, [, outHeight, outWidth] = layer.outputs;
  values.fill(0);
  for (let n = 0, pixel = 0; n < count; n++) {
    for (let h = 0; h < height; h++) {
      for (let w = 0; w < width; w++, pixel++) {
        let from = pixel * wide;
        for (let i = 0; i < kernel; i++) {
          const y = stride * h + i - before;
          for (let j = 0; j < kernel; j++, from += channels) {
            const x = stride * w + j - before;
            if (y < 0 || x < 0 || y >= outHeight || x >= outWidth) continue;
            const to = ((n * outHeight + y) * outWidth + x) * channels;
            for (let c = 0; c < channels; c++) values[to + c] += products[from + c];
          }
        }
      }
    }
  }
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
