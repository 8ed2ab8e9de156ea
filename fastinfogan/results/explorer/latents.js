// Draws noise and codes as `fastinfogan sample --seed` does: Philox4x32-10 (kernels/philox.py).
"use strict";

const PHILOX_ROUNDS = 10;

// Four 32-bit words of the 64-bit key `seed` (a BigInt) and the counter (c0, c1, c2, c3).
function philox(seed, c0, c1, c2, c3) {
  let k0 = Number(seed & 0xffffffffn), k1 = Number((seed >> 32n) & 0xffffffffn);
  for (let round = 0; round < PHILOX_ROUNDS; round++) {
    const [high0, low0] = wide(c0, 0xd2511f53), [high1, low1] = wide(c2, 0xcd9e8d57);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

// High and low 32 bits of a product of two 32-bit numbers.
function wide(x, factor) {
  const low = x * (factor & 0xffff), high = x * (factor >>> 16) + Math.floor(low / 65536);
  return [Math.floor(high / 65536), Math.imul(x, factor) >>> 0];
}

// Sample `index` of the stream that `seed` names: {noise: Float32Array, values: one per code}.
function drawSample(spec, seed, index) {
  const { columns, words } = wordColumns(spec), drawn = [];
  for (let block = 0; 4 * block < words; block++) drawn.push(...philox(seed, index, 0, block, 0));
  const f = Math.fround, u = drawn.map((w) => Math.min(f((w + 0.5) / 2 ** 32), 1 - 2 ** -24));
  const normal = (j) => {
    const even = j - (j % 2), radius = f(Math.sqrt(f(-2 * f(Math.log(u[even])))));
    const angle = f(f(2 * Math.PI) * u[even + 1]);
    return f(radius * f(j % 2 ? Math.sin(angle) : Math.cos(angle)));
  };
  const value = {
    categorical: (j, code) => Math.floor((drawn[j] * code.width) / 2 ** 32),
    bernoulli: (j) => drawn[j] >>> 31,
    uniform: (j) => f(2 * u[j] - 1),
    gaussian: normal,
  };
  return {
    noise: Float32Array.from({ length: spec.noise }, (_, j) => normal(j)),
    values: spec.codes.map((code, i) => value[code.kind](columns[i], code)),
  };
}

// The first column of words of each code, and how many there are in all.
function wordColumns(spec) {
  let free = spec.noise + (spec.noise % 2);
  const columns = spec.codes.map((code) => {
    const words = code.kind === "gaussian" ? 2 : 1;
    free += (words - (free % words)) % words; // a pair is aligned
    free += words;
    return free - words;
  });
  return { columns, words: free };
}

// G's input of a sample, into `inputs` (a Float32Array) from `at` on.
function writeInput(spec, { noise, values }, inputs, at) {
  inputs.fill(0, at, at + spec.width);
  inputs.set(noise, at);
  spec.codes.forEach((code, i) => {
    if (code.kind === "categorical") inputs[at + code.offset + values[i]] = 1;
    else inputs[at + code.offset] = values[i];
  });
}
