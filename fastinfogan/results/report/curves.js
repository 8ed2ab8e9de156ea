// Where a chart's points lie: scales, ticks and paths. Nothing here knows of a page.
"use strict";

// A scale from values to places: {at(value), ticks: [value]}.
function scaleOf([low, high], [from, to], log, count) {
  const map = log ? Math.log10 : (value) => value;
  const [a, b] = [map(low), map(high)], size = b - a || 1;
  return {
    at: (value) => from + ((map(value) - a) / size) * (to - from),
    ticks: (log ? logTicks : linearTicks)(low, high, count),
  };
}

// About so many round values: 1, 2 or 5 times a power of ten apart.
function linearTicks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((n) => n * power >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) {
    ticks.push(Number((n * step).toPrecision(12)));
  }
  return ticks;
}

// Powers of ten, and 2 and 5 times these where there is room for them.
function logTicks(low, high, count) {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
      for (const n of steps) {
        const value = n * 10 ** p;
        if (value >= low * 0.999 && value <= high * 1.001) ticks.push(Number(value.toPrecision(6)));
      }
    }
    if (ticks.length <= 1.5 * count && ticks.length) return ticks;
    if (!ticks.length) return [low, high];
  }
  const power = Math.ceil(Math.log10(high / low) / count), ticks = [];
  for (let p = Math.ceil(Math.log10(low)); p <= Math.log10(high); p += power) ticks.push(10 ** p);
  return ticks;
}

// The values that an axis must show, with a little room around them.
function domainOf(values, [least, most], log) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 1];
  if (log) return [low / 1.1, high * 1.1];
  low = least === null ? low : Math.max(low, least);
  high = most === null ? high : Math.min(high, most);
  const room = 0.05 * (high - low || Math.abs(high) || 1);
  low -= room;
  high += room;
  return [least === null ? low : Math.max(low, least), most === null ? high : Math.min(high, most)];
}

// A line through the points; where there is no number, it has a gap.
function pathOf(xs, ys, x, y) {
  let path = "", pen = "M";
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null) {
      pen = "M";
      continue;
    }
    path += `${pen}${x.at(xs[i]).toFixed(2)} ${y.at(ys[i]).toFixed(2)}`;
    pen = "L";
  }
  return path;
}

// The index of the value next to `wanted`, in a list that rises.
function nearest(xs, wanted) {
  let [low, high] = [0, xs.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= wanted) low = middle;
    else high = middle;
  }
  return Math.abs(xs[high] - wanted) < Math.abs(xs[low] - wanted) ? high : low;
}

// A number as it stands at an axis, as short as it is exact, or beside a curve: always as long.
function numeral(value, digits) {
  if (value === null) return "none";
  const size = Math.abs(value);
  let text = digits ? value.toPrecision(size < 1 ? digits - 1 : digits) : String(value);
  if (size >= 1000) text = Math.round(value).toLocaleString("en");
  else if (size && size < 0.001) text = value.toExponential(digits ? 2 : 0);
  return text.replace("-", "\u2212");
}
