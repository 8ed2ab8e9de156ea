// The product of two matrices in WebAssembly, four numbers at a time: nearly all the work there is.
//
//     out (m, n) = a (m, k) times b (n, k) transposed
//
// A tile of ROWS x COLUMNS sums stays in registers while k runs. m and n are whole tiles, and b lies
// in panels: the COLUMNS numbers of a panel for k = 0, then for k = 1, and so on. The module is put
// together here, instruction by instruction, so that nothing in this page is a program nobody reads.
"use strict";

const ROWS = 4, COLUMNS = 8;

// A function (a, b, out, m, n, k) over a memory, the first three as places in it.
const productIn = (() => {
  const I32 = 0x7f, V128 = 0x7b, EMPTY = 0x40;
  const A = 0, B = 1, OUT = 2, M = 3, N = 4, K = 5; // parameters, then locals
  const COLUMN = 6, ROW = 7, FROM = 8, END = 9, TO = 10, LEFT = 11; // LEFT + r: where row r of a is
  const LOADED = LEFT + ROWS, SPLAT = LOADED + 2, SUM = SPLAT + 1; // SUM + 2 r + half

  const get = (local) => [0x20, local];
  const set = (local) => [0x21, local];
  const number = (value) => [0x41, ...signed(value)];
  const add = [0x6a], times = [0x6c], less = [0x49];
  const simd = (code, ...rest) => [0xfd, ...unsigned(code), ...rest];
  const load = (offset) => simd(0x00, 4, ...unsigned(offset));
  const loadSplat = simd(0x09, 2, 0), zero = simd(0x0c, ...new Array(16).fill(0));
  const store = (offset) => simd(0x0b, 4, ...unsigned(offset));
  const addFour = simd(0xe4), timesFour = simd(0xe6);
  const step = (local, by) => [...get(local), ...by, ...add, ...set(local)];
  const loop = (...body) => [0x03, EMPTY, ...body.flat(), 0x0b];
  const again = (local, most) => [...get(local), ...get(most), ...less, 0x0d, 0];

  function unsigned(value) {
    const bytes = [];
    do {
      bytes.push((value & 127) | (value > 127 ? 128 : 0));
      value >>>= 7;
    } while (value);
    return bytes;
  }

  function signed(value) {
    const bytes = [];
    for (;;) {
      const low = value & 127;
      value >>= 7;
      const done = (value === 0 && !(low & 64)) || (value === -1 && low & 64);
      bytes.push(done ? low : low | 128);
      if (done) return bytes;
    }
  }

  function productCode() {
    const each = (count, make) => Array.from({ length: count }, (_, i) => make(i)).flat();
    const rowBytes = [...get(K), ...number(4), ...times];
    const overK = loop(
      each(2, (half) => [...get(FROM), ...load(16 * half), ...set(LOADED + half)]),
      each(ROWS, (r) => [
        ...get(LEFT + r), ...loadSplat, ...set(SPLAT),
        ...each(2, (half) => [
          ...get(SUM + 2 * r + half), ...get(SPLAT), ...get(LOADED + half), ...timesFour, ...addFour,
          ...set(SUM + 2 * r + half),
        ]),
        ...step(LEFT + r, number(4)),
      ]),
      step(FROM, number(4 * COLUMNS)),
      again(FROM, END),
    );
    const overRows = loop(
      each(2 * ROWS, (i) => [...zero, ...set(SUM + i)]),
      // The panel begins at b + COLUMN k 4, and row r of the tile at a + (ROW + r) k 4.
      [...get(B), ...get(COLUMN), ...rowBytes, ...times, ...add, ...set(FROM)],
      [...get(FROM), ...rowBytes, ...number(COLUMNS), ...times, ...add, ...set(END)],
      each(ROWS, (r) => [
        ...get(A), ...get(ROW), ...number(r), ...add, ...rowBytes, ...times, ...add, ...set(LEFT + r),
      ]),
      overK,
      // The sums go to out + ((ROW + r) n + COLUMN) 4.
      [...get(ROW), ...get(N), ...times, ...get(COLUMN), ...add, ...number(4), ...times],
      [...get(OUT), ...add, ...set(TO)],
      each(ROWS, (r) => [
        ...each(2, (half) => [...get(TO), ...get(SUM + 2 * r + half), ...store(16 * half)]),
        ...step(TO, [...get(N), ...number(4), ...times]),
      ]),
      step(ROW, number(ROWS)),
      again(ROW, M),
    );
    return loop(number(0), set(ROW), overRows, step(COLUMN, number(COLUMNS)), again(COLUMN, N));
  }

  return (memory) => {
    const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
    const section = (id, ...content) => [id, ...sized(content.flat())];
    const m = [1, 0x6d]; // the name "m"
    const code = [2, LOADED - COLUMN, I32, SUM + 2 * ROWS - LOADED, V128, ...productCode(), 0x0b];
    const module = [
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, [1, 0x60, 6, I32, I32, I32, I32, I32, I32, 0]),
      ...section(2, [1], m, m, [2, 0, 1]), // a memory of a page or more
      ...section(3, [1, 0]),
      ...section(7, [1], m, [0, 0]),
      ...section(10, [1], sized(code)),
    ];
    const built = new WebAssembly.Module(Uint8Array.from(module));
    return new WebAssembly.Instance(built, { m: { m: memory } }).exports.m;
  };
})();
