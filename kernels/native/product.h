// The matrix product that convolutions and fully connected layers are made of: a tile of a few rows
// by two vectors of columns, which stays in registers while the sum runs.
//
// Factors are packed into words that a kernel reads in their order. A word is one number, or with
// bfloat16 two neighbours of the sum, whose two products one instruction adds up in float32. The sum
// is cut into blocks of kBlock words. Per block,
//
//     rows     kBlock words each: a line per row, kRows of them (kLines), or a line per place of
//              the sum (kAcross), of which the tile's rows are a part;
//     columns  kBlock lines of kColumns<T> words, a line per place of the sum.
//
// Within a block every address is a constant apart from the first, so that a tile needs two pointers
// however many rows it has. (Goto and van de Geijn 2008 have the reasons for packing.)

#pragma once

#include "buffer.h"
#include "kernels.h"
#include "vector.h"

namespace {

constexpr int kBlock = 16;

// Multiplications below which starting threads costs more than they save.
constexpr int64_t kFew = 1 << 18;

// Rows of a tile: with two vectors of columns and one of rows, all registers of AVX-512; six of the
// 16 that others have hold twice as many sums.
#if defined(__AVX512F__)
constexpr int kRows = 14;
#else
constexpr int kRows = 6;
#endif

#if defined(__AVX512BF16__)
#define FASTINFOGAN_PAIRS
#endif

template <class T>
struct Packed {
  using Word = T;
  using Words = VectorOf<T>;
  static constexpr int kNumbers = 1;  // in a word
};

#ifdef FASTINFOGAN_PAIRS
template <>
struct Packed<bfloat16> {
  using Word = uint32_t;
  using Words = ::Words;
  static constexpr int kNumbers = 2;
};
#endif

template <class T>
using WordOf = typename Packed<T>::Word;
template <class T>
using WordsOf = typename Packed<T>::Words;

template <class T>
constexpr int kColumns = 2 * kLanes<T>;
// Numbers of T that a block sums over.
template <class T>
constexpr int kDeep = kBlock * Packed<T>::kNumbers;

// How many pieces of `size`, the last of which may be shorter, n is cut into.
INLINE int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

// first ... last - 1: those two, or part i of `parts` equal ones of n.
struct Share {
  int64_t first, last;
  INLINE Share(int64_t n, int64_t i, int64_t parts)
      : first(n * i / parts), last(n * (i + 1) / parts) {}
  INLINE Share(int64_t first, int64_t last) : first(first), last(last) {}
  INLINE int64_t size() const { return last - first; }
};

template <class W>
INLINE W words_at(const void* p) {
  W words;
  memcpy(&words, p, sizeof(W));
  return words;
}

INLINE VectorOf<double> everywhere(double x) { return x - VectorOf<double>{}; }
INLINE VectorOf<float> everywhere(float x) { return x - VectorOf<float>{}; }
INLINE Words everywhere(uint32_t x) { return x - Words{}; }

// sum + x y, with bfloat16 sum + both products.
template <class V>
INLINE V plus_product(V sum, V x, V y) {
  return sum + x * y;
}
#ifdef FASTINFOGAN_PAIRS
INLINE VectorOf<float> plus_product(VectorOf<float> sum, Words x, Words y) {
  return VectorOf<float>(_mm512_dpbf16_ps(__m512(sum), __m512bh(x), __m512bh(y)));
}
#endif

// The sums of R rows by N vectors of columns.
template <class T, int R, int N = 2>
struct Tile {
  VectorOf<T> sum[R][N];
};

// Adds a place of the sum: a word of each row, `step` from one to the next, times N vectors.
template <class T, int R, int N>
INLINE void add_place(Tile<T, R, N>& tile, const WordOf<T>* rows, int64_t step,
                      const WordsOf<T> (&columns)[N]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto x = everywhere(rows[r * step]);
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) tile.sum[r][j] = plus_product(tile.sum[r][j], x, columns[j]);
  }
}

// A part of a vector. By a call, whose instructions would drive a tile out of the registers.
template <class T>
OUTLINED VectorOf<T> load_some(const T* p, int64_t lanes) {
  return load(p, int(lanes));
}
template <class T>
OUTLINED void store_some(T* p, VectorOf<T> v, int64_t lanes) {
  store(p, v, int(lanes));
}

// A vector of the `left` numbers from p on, or of as many as there are.
template <class T>
INLINE VectorOf<T> load_left(const T* p, int64_t left) {
  return left >= kLanes<T> ? load(p) : load_some(p, at_least(0, left));
}

// Adds rows of a matrix to a tile's sums; `columns` of them are there.
template <class T, int R, int N>
INLINE void add_tile(Tile<T, R, N>& tile, const AccumulatorOf<T>* from, int64_t step,
                     int64_t columns) {
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    const int64_t left = columns - j * kLanes<T>;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if (left <= 0) break;
      tile.sum[r][j] += load_left(from + r * step + j * kLanes<T>, left);
    }
  }
}

// Writes them there.
template <class T, int R, int N>
INLINE void write_tile(const Tile<T, R, N>& tile, AccumulatorOf<T>* to, int64_t step,
                       int64_t columns) {
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    const int64_t left = columns - j * kLanes<T>;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if (left <= 0) break;
      auto* at = to + r * step + j * kLanes<T>;
      if (left >= kLanes<T>) {
        store(at, tile.sum[r][j]);
      } else {
        store_some<AccumulatorOf<T>>(at, tile.sum[r][j], left);
      }
    }
  }
}

constexpr bool kLines = false, kAcross = true;
constexpr int kAcrossLine = kRows > 8 ? 16 : 8;  // words, the tile's rows first
template <bool kHow>
constexpr int kRowsBlock = kBlock * (kHow == kAcross ? kAcrossLine : kRows);  // words

template <class T, int R, bool kHow>
INLINE void add_products(Tile<T, R>& tile, const WordOf<T>* rows, const WordOf<T>* columns,
                         int64_t blocks) {
  for (; blocks > 0; --blocks) {
#pragma GCC unroll 4
    for (int k = 0; k < kBlock; ++k) {
      const WordsOf<T> line[] = {words_at<WordsOf<T>>(columns + k * kColumns<T>),
                                 words_at<WordsOf<T>>(columns + k * kColumns<T> + kLanes<T>)};
      add_place<T>(tile, rows + (kHow == kAcross ? k * kAcrossLine : k),
                   kHow == kAcross ? 1 : kBlock, line);
    }
    rows += kRowsBlock<kHow>;
    columns += kBlock * kColumns<T>;
  }
}

// As with_type, for the types that there is a product of: bfloat16 where the processor has one.
template <class F>
INLINE void with_product_type(fastinfogan::Dtype dtype, F f) {
#ifdef FASTINFOGAN_PAIRS
  with_type(dtype, f);
#else
  with_wide_type(dtype, f);
#endif
}

// Calls f with a number, 1 ... N, as a constant: of a tile's rows, or an image's channels.
template <int N>
struct Number {
  static constexpr int n = N;
};
template <int N = kRows, class F>
INLINE void with_number(int64_t number, F f) {
  if constexpr (N > 1) {
    if (number < N) return with_number<N - 1>(number, f);
  }
  f(Number<N>());
}

// A product of R packed rows and of columns, of which `wide` are there, written `step` from one row
// to the next, or added to what is there. A function for each R: compiled once for all callers, and
// with all registers for its tile.
template <class T, bool kHow, int R>
OUTLINED void multiply_rows(const WordOf<T>* rows, const WordOf<T>* columns, int64_t wide,
                            int64_t blocks, bool add, AccumulatorOf<T>* to, int64_t step) {
  Tile<T, R> tile = {};
  add_products<T, R, kHow>(tile, rows, columns, blocks);
  if (add) add_tile(tile, to, step, wide);
  write_tile(tile, to, step, wide);
}

// The same for `count` rows.
template <class T, bool kHow>
INLINE void multiply_tile(const WordOf<T>* rows, int64_t count, const WordOf<T>* columns,
                          int64_t wide, int64_t blocks, bool add, AccumulatorOf<T>* to,
                          int64_t step) {
  with_number(count, [&](auto n) {
    multiply_rows<T, kHow, n.n>(rows, columns, wide, blocks, add, to, step);
  });
}

#ifdef FASTINFOGAN_PAIRS
// Words of two lines of n numbers: of the first, and of the second or of zeros.
INLINE void pack_pairs(const bfloat16* first, const bfloat16* second, int64_t n, uint32_t* to) {
  const auto pair = [&](int64_t i, int lanes) {
    HalfWords low = {}, high = {};
    memcpy(&low, first + i, lanes * sizeof(bfloat16));
    if (second) memcpy(&high, second + i, lanes * sizeof(bfloat16));
    const Words words = widen(low) | widen(high) << 16;
    memcpy(to + i, &words, lanes * sizeof(uint32_t));
  };
  int64_t i = 0;
  for (; i + kLanes<bfloat16> <= n; i += kLanes<bfloat16>) pair(i, kLanes<bfloat16>);
  if (i < n) pair(i, int(n - i));
}
#endif

// Packs a matrix of factors as columns: numbers of places `deep` of the sum and `wide` columns,
// the number of place k and column n at from[k * down + n * along]; where there are none, zeros.
template <class T>
INLINE void pack_columns(const T* from, int64_t deep, int64_t down, int64_t wide, int64_t along,
                         WordOf<T>* to) {
  constexpr int kNumbers = Packed<T>::kNumbers;
  const int64_t padded = pieces(deep, kDeep<T>) * kDeep<T>;
  if (deep < padded || wide < kColumns<T>) memset(to, 0, padded * kColumns<T> * sizeof(T));
  if (along == 1) {
    for (int64_t k = 0; k < deep; k += kNumbers, to += kColumns<T>, from += kNumbers * down) {
      if constexpr (kNumbers == 1) {
        memcpy(to, from, wide * sizeof(T));
      } else {
        pack_pairs(from, k + 1 < deep ? from + down : nullptr, wide, to);
      }
    }
    return;
  }
  T* numbers = reinterpret_cast<T*>(to);
  const auto place = [&](int64_t k, int64_t n) -> T& {
    return numbers[(k / kNumbers * kColumns<T> + n) * kNumbers + k % kNumbers];
  };
  // Lines of a block at a time, so that they stay in cache while they are filled crosswise.
  for (int64_t first = 0; first < deep; first += kDeep<T>) {
    const int64_t last = at_most(first + kDeep<T>, deep);
    for (int64_t n = 0; n < wide; ++n) {
      for (int64_t k = first; k < last; ++k) place(k, n) = from[k * down + n * along];
    }
  }
}

// A run of numbers as lines of a row; what is left of the last one is zeros.
template <class T>
INLINE void pack_run(const T* from, int64_t n, WordOf<T>* to) {
  constexpr int64_t kBytes = kBlock * sizeof(WordOf<T>);
  for (; n >= kDeep<T>; n -= kDeep<T>, from += kDeep<T>, to += kRowsBlock<kLines>) {
    memcpy(to, from, kBytes);
  }
  if (n > 0) {
    memset(to, 0, kBytes);
    memcpy(to, from, n * sizeof(T));
  }
}

// The weight as columns: strips of kColumns<T>, and in each the taps one after the other.
template <class T>
struct Columns {
  int64_t taps, deep, wide;  // places of the sum of each tap, columns
  int64_t tap, down, along;  // steps between taps, places, columns
  INLINE int64_t blocks() const { return pieces(deep, kDeep<T>); }
  INLINE int64_t strips() const { return pieces(wide, kColumns<T>); }
  INLINE int64_t words() const { return taps * blocks() * kBlock * kColumns<T>; }  // of a strip

  INLINE void pack(const T* weight, int64_t strip, int64_t t, WordOf<T>* to) const {
    const int64_t first = strip * kColumns<T>;
    pack_columns(weight + t * tap + first * along, deep, down,
                 at_most(kColumns<T>, wide - first), along,
                 to + strip * words() + t * blocks() * kBlock * kColumns<T>);
  }
};

}  // namespace
