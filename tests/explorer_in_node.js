// Runs the explorer's own programs in node: node explorer_in_node.js FOLDER < requests > answers.
// A request: {file, seed, count, set} draws; {file} alone reads; the answers are a list.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const [folder] = process.argv.slice(2);
const names = ["sha256.js", "format.js", "product.js", "network.js", "latents.js", "plan.js"];
const program = names.map((name) => fs.readFileSync(path.join(folder, name), "utf8")).join("");

// What a page's script can use and node's modules would hide: one scope, nothing of node in it.
const scope = vm.createContext({ WebAssembly, TextDecoder, TextEncoder, request: null, bytes: null });
vm.runInContext(`${program}
function answer(request, bytes) {
  try {
    const generator = readGenerator(bytes), { spec, labels } = generator;
    if (request.count === undefined) return { read: true };
    const choices = { seed: BigInt(request.seed), set: request.set };
    const plan = request.vary === undefined
      ? planSamples(spec, choices, labels, request.count)
      : planVary(spec, choices, labels, request.vary, request.count, request.columns);
    const network = new Network(generator), began = Date.now();
    const inputs = inputsOf(spec, plan.images), count = plan.images.length, pixels = [];
    for (let first = 0; first < count; first += network.block) {
      const size = Math.min(network.block, count - first);
      const own = inputs.subarray(first * spec.width, (first + size) * spec.width);
      pixels.push(...network.images(own, size));
    }
    return {
      pixels, milliseconds: Date.now() - began, columns: plan.columns,
      heads: plan.heads,
      noise: plan.images.map((image) => Array.from(image.noise)),
      values: plan.images.map((image) => image.values),
    };
  } catch (error) {
    if (error instanceof Refused) return { refused: error.message };
    throw error;
  }
}`, scope);

const answers = JSON.parse(fs.readFileSync(0, "utf8")).map((request) => {
  scope.request = request;
  scope.bytes = new Uint8Array(fs.readFileSync(request.file));
  return vm.runInContext("answer(request, bytes)", scope);
});
process.stdout.write(JSON.stringify(answers));
