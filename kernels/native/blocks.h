// What both ways to a weight's gradient share: products whose sum runs over blocks here and there in
// memory, a place in several images each, and how sums are kept and written.

#pragma once

#include "product.h"

namespace {

constexpr int kBlocks = 16;  // of a sum that stays in registers

// Images of a block.
template <class T>
constexpr int kImages = kDeep<T>;
// Words of a tile, and of a block's columns.
template <class T>
constexpr int64_t kTile = kRows * kColumns<T>;
template <class T>
constexpr int64_t kColumnsBlock = kBlock * kColumns<T>;

// Some blocks of the sum: the first row's and the first column's of each.
template <class T>
struct Blocks {
  int64_t count = 0;
  const WordOf<T>*rows[kBlocks], *columns[kBlocks];
};

// Adds what they give, R rows from `row` on by the columns from `column` on, to a sum: by itself
// first, for long sums lose more. A function for each R, as multiply_rows is.
template <class T, int R>
OUTLINED void add_blocks_rows(const Blocks<T>& blocks, int64_t row, int64_t column,
                              AccumulatorOf<T>* sum) {
  Tile<T, R> tile = {};
  for (int64_t b = 0; b < blocks.count; ++b) {
    add_products<T, R, kAcross>(tile, blocks.rows[b] + row, blocks.columns[b] + column, 1);
  }
  add_tile<T>(tile, sum, kColumns<T>, kColumns<T>);
  write_tile<T>(tile, sum, kColumns<T>, kColumns<T>);
}

// The same for `number` rows.
template <class T>
INLINE void add_blocks(const Blocks<T>& blocks, int64_t number, int64_t row, int64_t column,
                       AccumulatorOf<T>* sum) {
  with_number(number, [&](auto n) { add_blocks_rows<T, n.n>(blocks, row, column, sum); });
}

// Writes the gradient of a tap. Its sums are tiles of maps by strips of channels; `sum` gives a vector
// of them, which is that far from the first.
template <class T, class F>
INLINE void write_gradient(const fastinfogan::ConvShape& s, int64_t tap, T* gradient, F sum) {
  constexpr int kTaps = fastinfogan::kTaps;
  const int64_t tiles = pieces(s.maps, kRows), strips = pieces(s.channels, kColumns<T>);
  for (int64_t t = 0; t < tiles; ++t) {
    const Share maps(s.maps, t, tiles);
    for (int64_t row = maps.first; row < maps.last; ++row) {
      T* to = gradient + (row * kTaps * kTaps + tap) * s.channels;
      for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
        const int64_t at = (t * strips + c / kColumns<T>) * kTile<T> +
                           (row - maps.first) * kColumns<T> + c % kColumns<T>;
        store(to + c, sum(at), int(at_most(kLanes<T>, s.channels - c)));
      }
    }
  }
}

}  // namespace
