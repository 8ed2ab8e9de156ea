// Loads a generator.safetensors without any library, and draws samples: in node, or in a browser.
//
//     node load_generator.js generator.safetensors --category 3 --out samples.png
//
// In a browser: <script src="load_generator.js"></script>, as browser/index.html does. It is written
// to be read, in plain loops; docs/generator-format.md explains the words. The page that
// `fastinfogan explore` makes is written for speed instead, and to trust no file.
"use strict";

// The generator in a file, of which `bytes` is the Uint8Array.
function readGenerator(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const metadata = header.__metadata__ ?? {};
  if (metadata.format_version !== "1") {
    throw new Error(`format_version ${metadata.format_version}, not 1`);
  }
  const tensors = {};
  for (const [name, { data_offsets: at }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const own = bytes.slice(8 + length + at[0], 8 + length + at[1]); // a copy begins at byte 0
    tensors[name] = new Float32Array(own.buffer); // numbers of files and of processors: little-endian
  }
  const said = (key, otherwise) => JSON.parse(metadata[key] ?? otherwise);
  return {
    tensors,
    layers: said("architecture"),
    spec: said("latent_spec"),
    shape: said("image_shape"), // channels, height, width
    range: said("output_range"),
    labels: said("code_to_label", "{}"),
  };
}

// G's input, a Float32Array, from noise and each code's value by its name: {c1: 3, c2: -1.5}.
function latentsOf(spec, noise, values) {
  const latents = new Float32Array(spec.width);
  latents.set(noise);
  for (const code of spec.codes) {
    const value = values[code.name.split("_")[0]];
    if (code.encoding === "one-hot") latents[code.offset + value] = 1;
    else latents[code.offset] = value;
  }
  return latents;
}

// Noise and codes from their priors; `chosen` sets codes by hand, {c1: 3}.
function draw(spec, chosen = {}, random = Math.random) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const values = {};
  for (const { name, kind, width } of spec.codes) {
    const prior = {
      categorical: () => Math.floor(random() * width),
      bernoulli: () => Math.floor(random() * 2),
      uniform: () => 2 * random() - 1,
      gaussian: normal,
    }[kind];
    const short = name.split("_")[0];
    values[short] = chosen[short] ?? prior();
  }
  return { noise: Array.from({ length: spec.noise.width }, normal), values };
}

// One image, a Float32Array in (channel, height, width) order, from G's input.
function generate({ layers, tensors }, latents) {
  let x = latents, shape = [latents.length];
  for (const layer of layers) {
    const own = (name) => tensors[`${layer.name}.${name}`];
    if (layer.kind === "fc") x = fullyConnected(x, own("op.weight"), layer.outputs[0]);
    else if (layer.kind === "upconv") x = upconv(x, shape, own("op.weight"), layer);
    else throw new Error(`a layer of kind ${layer.kind}`);
    shape = layer.outputs;
    const size = x.length / shape[0]; // of a feature, or a channel's map
    for (let c = 0; c < shape[0]; c++) {
      let scale = 1, shift = layer.bias ? own("op.bias")[c] : 0;
      if (layer.norm) {
        scale = own("norm.weight")[c] / Math.sqrt(own("norm.running_var")[c] + layer.norm.eps);
        shift = (shift - own("norm.running_mean")[c]) * scale + own("norm.bias")[c];
      }
      for (let i = c * size; i < (c + 1) * size; i++) {
        x[i] = activated(x[i] * scale + shift, layer.activation);
      }
    }
    if (layer.reshape) {
      const { channels, height, width } = layer.reshape, map = new Float32Array(x.length);
      for (let c = 0; c < channels; c++) {
        for (let at = 0; at < height * width; at++) map[c * height * width + at] = x[at * channels + c];
      }
      [x, shape] = [map, [channels, height, width]];
    }
  }
  return x;
}

function fullyConnected(x, weight, outputs) {
  return Float32Array.from({ length: outputs }, (_, o) => {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += weight[o * x.length + i] * x[i];
    return sum;
  });
}

// Transposed convolution: every pixel adds its kernel; what falls outside is cropped.
function upconv(x, [channels, height, width], weight, { kernel, stride, padding, outputs }) {
  const [maps, outHeight, outWidth] = outputs, y = new Float32Array(maps * outHeight * outWidth);
  for (let c = 0; c < channels; c++) {
    for (let o = 0; o < maps; o++) {
      for (let i = 0; i < kernel; i++) {
        for (let j = 0; j < kernel; j++) {
          const tap = weight[((c * maps + o) * kernel + i) * kernel + j];
          for (let h = 0; h < height; h++) {
            const row = h * stride + i - padding[0];
            if (row < 0 || row >= outHeight) continue;
            for (let w = 0; w < width; w++) {
              const column = w * stride + j - padding[0];
              if (column < 0 || column >= outWidth) continue;
              y[(o * outHeight + row) * outWidth + column] += tap * x[(c * height + h) * width + w];
            }
          }
        }
      }
    }
  }
  return y;
}

function activated(x, { kind, slope }) {
  switch (kind) {
    case "relu": case "lrelu": return x > 0 ? x : slope * x;
    case "sigmoid": return 1 / (1 + Math.exp(-x));
    case "tanh": return Math.tanh(x);
    case "linear": return x;
    default: throw new Error(`an activation of kind ${kind}`);
  }
}

// An image's pixels as a canvas takes them: red, green, blue and opacity, 0 to 255.
function toPixels({ shape: [channels, height, width], range: [low, high] }, image) {
  const area = height * width, pixels = new Uint8ClampedArray(4 * area).fill(255);
  for (let at = 0; at < area; at++) {
    for (let c = 0; c < 3; c++) {
      const value = image[(channels === 1 ? 0 : c) * area + at];
      pixels[4 * at + c] = ((value - low) / (high - low)) * 255; // rounds and clips
    }
  }
  return pixels;
}

// -- node alone -----------------------------------------------------------------------------------

// A PNG of `columns` images in each row.
function pngOf({ shape: [, height, width] }, images, columns) {
  const zlib = require("node:zlib");
  const rows = Math.ceil(images.length / columns), line = 1 + 4 * columns * width;
  const raw = Buffer.alloc(rows * height * line); // each line begins with its filter: 0, none
  images.forEach((pixels, n) => {
    for (let h = 0; h < height; h++) {
      const to = (Math.floor(n / columns) * height + h) * line + 1 + 4 * (n % columns) * width;
      raw.set(pixels.subarray(4 * h * width, 4 * (h + 1) * width), to);
    }
  });
  const table = Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]), ends = Buffer.alloc(8);
    const crc = body.reduce((crc, byte) => table[(crc ^ byte) & 255] ^ (crc >>> 8), -1);
    ends.writeUInt32BE(data.length, 0);
    ends.writeUInt32BE(~crc >>> 0, 4);
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
  };
  const about = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 6, 0, 0, 0]); // 8 bits, with opacity
  about.writeUInt32BE(columns * width, 0);
  about.writeUInt32BE(rows * height, 4);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", about), chunk("IDAT", zlib.deflateSync(raw)), chunk("IEND", Buffer.alloc(0)),
  ]);
}

function main() {
  const fs = require("node:fs"), { parseArgs } = require("node:util");
  const { values: options, positionals: [file] } = parseArgs({
    allowPositionals: true,
    options: { category: { type: "string" }, out: { type: "string", default: "samples.png" } },
  });
  if (file === undefined) throw new Error("name a generator.safetensors");
  const generator = readGenerator(new Uint8Array(fs.readFileSync(file))), chosen = {};
  if (options.category !== undefined) {
    const category = Number(options.category);
    const code = generator.spec.codes.find(({ kind }) => kind === "categorical");
    if (!code) throw new Error("--category: this generator has no categorical code");
    if (!Number.isInteger(category) || category < 0 || category >= code.width) {
      throw new Error(`--category ${options.category}: 0 to ${code.width - 1} work`);
    }
    chosen[code.name.split("_")[0]] = category;
    const labels = generator.labels[code.name];
    if (labels) console.log(`category ${category} shows ${labels[category]}`);
  }
  const images = Array.from({ length: 64 }, () => {
    const { noise, values } = draw(generator.spec, chosen);
    return toPixels(generator, generate(generator, latentsOf(generator.spec, noise, values)));
  });
  fs.writeFileSync(options.out, pngOf(generator, images, 8));
}

if (typeof module !== "undefined") {
  module.exports = { readGenerator, latentsOf, draw, generate, toPixels };
  if (require.main === module) {
    try {
      main();
    } catch (error) {
      console.error(`error: ${error.message}`);
      process.exitCode = 2;
    }
  }
}
