// What follows a convolution's sums before they are written.

#pragma once

#include "product.h"

namespace {

// What becomes of the sums: a bias is added and a slope applied; or, where the result is the
// gradient of what a slope made x of, that slope's derivative.
template <class T>
struct After {
  const T *bias, *x;  // or null; not both
  const T* out;       // the result's first number, as x points to its own
  AccumulatorOf<T> slope;
};

template <class T>
INLINE VectorOf<T> finished(VectorOf<T> sum, VectorOf<T> sign, After<T> after) {
  return sign > 0 ? sum : sum * after.slope;
}

// Some numbers of a row: a call, as load_some is.
template <class T>
OUTLINED void finish_some(VectorOf<T> sum, After<T> after, int64_t column, int lanes, T* to) {
  if (after.bias) sum += load(after.bias + column, lanes);
  const VectorOf<T> sign = after.x ? load(after.x + (to - after.out), lanes) : sum;
  store(to, finished(sum, sign, after), lanes);
}

template <class T, int R>
INLINE void finish(const Tile<T, R>& tile, After<T> after, int64_t column, int64_t columns, T* out,
                   int64_t step) {
#pragma GCC unroll 2
  for (int side = 0; side < 2; ++side, column += kLanes<T>) {
    T* to = out + column;
    if (column + kLanes<T> <= columns) {
      VectorOf<T> bias = {};
      if (after.bias) bias = load(after.bias + column);
      if (after.x) {
        const T* x = after.x + (to - after.out);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          store(to + r * step, finished<T>(tile.sum[r][side], load(x + r * step), after));
        }
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const VectorOf<T> u = tile.sum[r][side] + bias;
          store(to + r * step, finished<T>(u, u, after));
        }
      }
    } else if (column < columns) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        finish_some<T>(tile.sum[r][side], after, column, int(columns - column), to + r * step);
      }
    }
  }
}

}  // namespace
