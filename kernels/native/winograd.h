// Convolutions with fewer multiplications, by Winograd's minimal filtering F(2, 2) along both axes
// (Winograd 1980; Lavin and Gray 2016).
//
// Along an axis every convolution here is made of filters of two taps. With stride 2 they are the
// taps that see the source's even places and those that see its odd ones (or, going up, that the
// result's even or odd places have); with stride 1 the first two taps and the last two. Two
// neighbouring results of such a filter,
//
//     y0 = d0 g0 + d1 g1        y1 = d1 g0 + d2 g1,
//
// take three products in place of four, and so nine in place of sixteen along both axes:
//
//     (d0 - d1) g0 for y0       d1 (g0 + g1) for both       (d2 - d1) g1 for y1.
//
// The same, transposed, gives the gradients of g0 and g1, from three products as well:
//
//     (d0 - d1) y0 for g0       d1 (y0 + y1) for both       (d2 - d1) y1 for g1.
//
// Next to the border, where one of d is missing, three products remain, and are taken as they are;
// so are the one or two of a result that is alone. Differences and sums of up to four numbers are
// rounded before they are multiplied: in float32 and float64 that costs about as much as is saved
// by sums a quarter as long, in bfloat16 it would cost too much.

#pragma once

#include "buffer.h"
#include "kernels.h"
#include "vector.h"

namespace {

// What a product is of: d0 - d1 (or d0), d1, d2 - d1 (or d2); and g0, g0 + g1, g1. What it is for:
// y0, y1, both.
constexpr int kSlots = 3, kFactors = 3, kTargets = 3;
constexpr int kEach = 3 * 3;  // of slots, factors or targets, along both axes
constexpr int kWinogradFilters = 2 * 2;  // of two by two taps

struct Product {
  int slot, factor, target;
};

// What one filter does along an axis for a cell, one result or two: the places of d, or -1, and the
// products.
struct Sight {
  int64_t at[kSlots];
  bool minimal;  // as above: two results, and nothing is missing
  int count = 0;
  Product products[4];
};

// An axis of a convolution from `source` places to `result`.
struct Axis {
  int64_t source, result, stride;
  bool up;

  // Filters that a result is the sum of; or, going up with stride 2, kinds of results, which have a
  // filter each. There place p, 0 ... source, is that of results 2p - 1 (kind 0) and 2p (kind 1),
  // which see p - 1 and p of the source. Kind 0 has none at 0, kind 1 none at `source` but where
  // the result has 2 source + 1.
  INLINE bool apart() const { return up && stride == 2; }
  INLINE int summed() const { return apart() ? 1 : 2; }
  INLINE int kinds() const { return apart() ? 2 : 1; }

  // The result of a kind, or -1.
  INLINE int64_t at(int64_t place, int kind) const {
    const int64_t i = apart() ? 2 * place - 1 + kind : place;
    return i < result ? i : -1;
  }
  // What tap 0 or 1 of a filter sees there; of all kinds' filters it is the same.
  INLINE int64_t seen(int64_t place, int filter, int tap) const {
    if (apart()) return place - 1 + tap;
    if (up) return place - 2 + 2 * filter + tap;
    return stride == 2 ? 2 * (place + tap) - 1 + filter : place - 1 + 2 * filter + tap;
  }
  // Which one of the convolution's that tap is.
  INLINE int tap(int filter, int tap) const {
    if (apart()) return 2 * (1 - tap) + filter;
    if (up) return 3 - 2 * filter - tap;
    return stride == 2 ? 2 * tap + filter : 2 * filter + tap;
  }

  // Cells: pairs of results, and what is left alone; both ends, where kinds differ.
  INLINE int64_t pairs() const { return apart() ? (source - 1) / 2 : result / 2; }
  INLINE int64_t cells() const {
    return apart() ? source + 1 - pairs() : result - pairs();
  }
  INLINE int64_t first(int64_t cell) const {
    if (!apart()) return 2 * cell;
    return cell <= pairs() ? at_least(0, 2 * cell - 1) : pairs() + cell;
  }
  INLINE int size(int64_t cell) const {
    cell -= apart();
    return cell >= 0 && cell < pairs() ? 2 : 1;
  }

  INLINE Sight sight(int64_t cell, int filter) const {
    Sight sight;
    const int results = size(cell);
    sight.minimal = results == 2;
    for (int i = 0; i < kSlots; ++i) {
      const int64_t from = i < 2 ? seen(first(cell), filter, i) : seen(first(cell) + 1, filter, 1);
      const bool there = i <= results && from >= 0 && from < source;
      sight.at[i] = there ? from : -1;
      sight.minimal &= there;
    }
    if (sight.minimal) {
      sight.count = 3;
      sight.products[0] = {0, 0, 0};
      sight.products[1] = {1, 1, 2};
      sight.products[2] = {2, 2, 1};
      return sight;
    }
    for (int i = 0; i < results; ++i) {
      for (int tap = 0; tap < 2; ++tap) {
        if (sight.at[i + tap] >= 0) sight.products[sight.count++] = {i + tap, 2 * tap, i};
      }
    }
    return sight;
  }
};

// A convolution's cells, along both axes, and what filters see in them.
struct Grid {
  const Axis y, x;
  const Buffer<Sight> sights_y, sights_x;  // by cells, and by filters

  Grid(const fastinfogan::ConvShape& s, bool up)
      : y{up ? s.rows : s.height, up ? s.height : s.rows, s.stride, up},
        x{up ? s.columns : s.width, up ? s.width : s.columns, s.stride, up},
        sights_y(y.cells() * y.summed()),
        sights_x(x.cells() * x.summed()) {
    for (int64_t i = 0; i < y.cells() * y.summed(); ++i) {
      sights_y.at[i] = y.sight(i / y.summed(), int(i % y.summed()));
    }
    for (int64_t i = 0; i < x.cells() * x.summed(); ++i) {
      sights_x.at[i] = x.sight(i / x.summed(), int(i % x.summed()));
    }
  }

  INLINE int64_t cells() const { return y.cells() * x.cells(); }
  INLINE int64_t row(int64_t cell) const { return cell / x.cells(); }
  INLINE int64_t column(int64_t cell) const { return cell % x.cells(); }
  INLINE int filters() const { return y.summed() * x.summed(); }
  INLINE int kinds() const { return y.kinds() * x.kinds(); }

  // What a filter sees in a cell.
  INLINE const Sight& sight_y(int64_t cell, int filter) const {
    return sights_y.at[row(cell) * y.summed() + filter / x.summed()];
  }
  INLINE const Sight& sight_x(int64_t cell, int filter) const {
    return sights_x.at[column(cell) * x.summed() + filter % x.summed()];
  }
  // The convolution's tap that tap (a, b) of a filter, or of a kind's, is.
  INLINE int tap(int filter, int a, int b) const {
    return y.tap(filter / 2, a) * fastinfogan::kTaps + x.tap(filter % 2, b);
  }
};

// Where what a filter sees in a cell of an image begins, and what of it is there.
template <class T>
struct Pixels {
  const T* from[kEach];
  bool there[kEach];

  INLINE Pixels(const Sight& y, const Sight& x, const T* image, int64_t width, int64_t channels) {
#pragma GCC unroll 9
    for (int i = 0; i < kEach; ++i) {
      const int64_t row = y.at[i / kSlots], column = x.at[i % kSlots];
      there[i] = row >= 0 && column >= 0;
      from[i] = image + (row * width + column) * channels;
    }
  }
};

// Makes slots of what they are made of.
template <class V>
INLINE void subtract(V (&d)[kSlots][kSlots], bool down, bool along) {
#pragma GCC unroll 3
  for (int i = 0; down && i < kSlots; ++i) {
    d[0][i] -= d[1][i];
    d[2][i] -= d[1][i];
  }
#pragma GCC unroll 3
  for (int i = 0; along && i < kSlots; ++i) {
    d[i][0] -= d[i][1];
    d[i][2] -= d[i][1];
  }
}

}  // namespace
