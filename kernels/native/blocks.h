// Products whose sum runs over blocks here and there in memory.

#pragma once

#include "product.h"

namespace {

constexpr int kBlocks = 16;  // of a sum that stays in registers

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

}  // namespace
