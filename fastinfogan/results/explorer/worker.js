// The worker: loads a generator and draws what is asked for last, a few images at a time.
"use strict";

let network = null, wanted = null, drawing = false;

onmessage = ({ data }) => {
  if (data.load !== undefined) load(data);
  else {
    wanted = data;
    if (!drawing) draw();
  }
};

function load({ load: id, bytes, base64 }) {
  try {
    const generator = readGenerator(bytes ?? fromBase64(base64));
    const loaded = new Network(generator);
    const { spec, shape, labels, iteration } = generator;
    loaded.images(new Float32Array(spec.width), 1); // refuses what makes NaN
    [network, wanted] = [loaded, null];
    postMessage({ loaded: id, generator: { spec, shape, labels, iteration } });
  } catch (error) {
    postMessage({ refused: id, reason: reasonOf(error) });
  }
}

function fromBase64(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

function reasonOf(error) {
  if (error instanceof Refused) return error.message;
  if (error instanceof RangeError) return "it asks for more memory than there is";
  return `this page has a fault: ${error.message}`;
}

// Between two blocks the worker looks at its messages: what was asked before is dropped.
async function draw() {
  drawing = true;
  while (wanted !== null) {
    const { draw: id, inputs, count } = wanted, own = wanted, current = network;
    const { width } = current.spec;
    try {
      for (let first = 0; first < count && wanted === own; first += current.block) {
        const size = Math.min(current.block, count - first);
        const pixels = current.images(inputs.subarray(first * width, (first + size) * width), size);
        postMessage({ drawn: id, first, size, pixels, last: first + size === count });
        await nextTurn();
      }
    } catch (error) {
      postMessage({ failed: id, reason: reasonOf(error) });
    }
    if (wanted === own) wanted = null;
  }
  drawing = false;
}

// A turn of the event loop; a timer would wait for four milliseconds.
const turns = new MessageChannel();
function nextTurn() {
  return new Promise((done) => {
    turns.port1.onmessage = done;
    turns.port2.postMessage(null);
  });
}
