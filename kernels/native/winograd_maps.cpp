// Convolutions from one map to another on the CPU with fewer multiplications (winograd.h).
//
// As in conv_maps.cpp, the rows of a product's tile are one place of several images; here the place
// is a cell, one or two by one or two results. What the products of a few cells are of is made of
// the source first, and packed. Then, for a strip of the result's channels at a time, they are
// summed over the source's channels and over filters: first those that are for all of a cell's
// results, then those for a row or a column of them, to which the former are added, and at last
// those for one result.
//
// Which terms are added up in which order depends on the shape alone.

#include "after.h"
#include "product.h"
#include "threads.h"
#include "winograd.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Words of a slot that a thread makes at a time, but one cell's at least: of float32 all nine are 288
// KB, which stay in a second-level cache with a part of the weight.
constexpr int64_t kWordsOfSlot = 1 << 13;

// The sums of a cell, each after those that are added to it: the number of its target, and of these,
// or -1. The last four are results.
struct Goal {
  int target, first, second;
};
constexpr int kParts = 5;  // that are no results
constexpr Goal kGoals[kEach] = {{8, -1, -1}, {2, 0, -1}, {5, 0, -1}, {6, -1, -1}, {7, -1, -1},
                                {0, 1, 3},   {1, 1, 4},  {3, 2, 3},  {4, 2, 4}};

// A product: where its rows and its columns are packed.
struct Term {
  int64_t rows, columns;
};

// The products of each target, from two taps of four filters along both axes at most.
struct Terms {
  int count[kEach];
  Term of[kEach][16];
};

// Where a sum goes: to a result and what follows, or to a part.
template <class T>
struct Sum {
  const AccumulatorOf<T>*first, *second;  // that are added, or null
  AccumulatorOf<T>* part;
  T* out;  // or null
  int64_t column, columns, step;
};

// A sum's tile of R rows. A function for each R, as multiply_rows is.
template <class T, int R>
OUTLINED void sum_rows(const Term* terms, int count, const WordOf<T>* rows,
                       const WordOf<T>* columns, int64_t blocks, const Sum<T>& sum,
                       const After<T>& after) {
  Tile<T, R> tile = {};
  // As in convolve_rows: where it goes is fetched meanwhile.
  for (int r = 0; sum.out && r < 2 * R; ++r) {
    __builtin_prefetch(sum.out + r / 2 * sum.step + sum.column + r % 2 * kLanes<T>, 1);
  }
  for (int i = 0; i < count; ++i) {
    add_products<T, R, kLines>(tile, rows + terms[i].rows, columns + terms[i].columns, blocks);
  }
  if (sum.first) add_tile(tile, sum.first, kColumns<T>, kColumns<T>);
  if (sum.second) add_tile(tile, sum.second, kColumns<T>, kColumns<T>);
  if (sum.out) {
    finish<T, R>(tile, after, sum.column, sum.columns, sum.out, sum.step);
  } else {
    write_tile(tile, sum.part, kColumns<T>, kColumns<T>);
  }
}

// Makes the slots of a filter in a cell, `slot` words apart, of an image's channels.
template <class T, bool kMinimal>
INLINE void make_slots(const Sight& y, const Sight& x, const T* image, int64_t width,
                       int64_t channels, WordOf<T>* to, int64_t slot) {
  const Pixels<T> pixels(y, x, image, width, channels);
  const int64_t padded = pieces(channels, kDeep<T>) * kDeep<T>;
  for (int64_t c = 0; c < padded; c += kLanes<T>) {
    VectorOf<T> d[kSlots][kSlots] = {};
#pragma GCC unroll 9
    for (int i = 0; i < kEach; ++i) {
      if (!kMinimal && !pixels.there[i]) continue;
      d[i / kSlots][i % kSlots] = load_left(pixels.from[i] + c, channels - c);
    }
    subtract(d, kMinimal || y.minimal, kMinimal || x.minimal);
#pragma GCC unroll 9
    for (int i = 0; i < kEach; ++i) {
      if (kMinimal || pixels.there[i]) store(to + i * slot, d[i / kSlots][i % kSlots]);
    }
    to += kLanes<T>;
    if ((c + kLanes<T>) % kDeep<T> == 0) to += kRowsBlock<kLines> - kBlock;
  }
}

template <class T>
struct Winograd {
  const ConvShape& s;
  const Grid grid;
  const int64_t inputs, outputs, pixels;
  const Columns<T> shape;  // of the weight, packed: of each filter its factors
  const int64_t factor_words, slot_words;

  Winograd(const ConvShape& s, bool up)
      : s(s),
        grid(s, up),
        inputs(up ? s.maps : s.channels),
        outputs(up ? s.channels : s.maps),
        pixels(up ? s.height * s.width : s.rows * s.columns),
        shape{kWinogradFilters * kEach, inputs, outputs, 0, 0, 0},
        factor_words(shape.blocks() * kBlock * kColumns<T>),
        slot_words(shape.blocks() * kRowsBlock<kLines>) {}

  // Packs a strip of a filter's factors, which are put into `factors` first.
  INLINE void pack_weight(const T* weight, int64_t strip, int filter, T* factors,
                          WordOf<T>* to) const {
    const bool up = grid.y.up;
    const int64_t first = strip * kColumns<T>, wide = at_most(kColumns<T>, outputs - first);
    // A row of the weight is a map, whose taps have its channels one after the other.
    const int64_t row = kTaps * kTaps * s.channels;
    const int64_t rows = up ? inputs : wide, channels = up ? wide : inputs;
    const T* from = weight + (up ? first : first * row);
    for (int64_t r = 0; r < rows; ++r, from += row) {
      for (int64_t c = 0; c < channels; c += kLanes<T>) {
        const int lanes = int(at_most(kLanes<T>, channels - c));
        VectorOf<T> g[kFactors][kFactors];
        for (int i = 0; i < 4; ++i) {
          g[i / 2 * 2][i % 2 * 2] =
              load(from + grid.tap(filter, i / 2, i % 2) * s.channels + c, lanes);
        }
        for (int i = 0; i < kFactors; i += 2) g[i][1] = g[i][0] + g[i][2];
        for (int i = 0; i < kFactors; ++i) g[1][i] = g[0][i] + g[2][i];
        for (int i = 0; i < kEach; ++i) {
          store(factors + (i * rows + r) * channels + c, g[i / kFactors][i % kFactors], lanes);
        }
      }
    }
    to += strip * shape.words() + filter * kEach * factor_words;
    for (int i = 0; i < kEach; ++i, factors += rows * channels, to += factor_words) {
      pack_columns(factors, inputs, up ? channels : 1, wide, up ? 1 : channels, to);
    }
  }

  // Makes the slots of all filters in a cell, of one image.
  INLINE void make(const T* image, int64_t cell, WordOf<T>* to) const {
    for (int f = 0; f < grid.filters(); ++f, to += kEach * slot_words) {
      const Sight &y = grid.sight_y(cell, f), &x = grid.sight_x(cell, f);
      if (y.minimal && x.minimal) {
        make_slots<T, true>(y, x, image, grid.x.source, inputs, to, slot_words);
      } else {
        make_slots<T, false>(y, x, image, grid.x.source, inputs, to, slot_words);
      }
    }
  }

  // A cell's products. Columns are those of the first kind of results.
  INLINE void list(int64_t cell, Terms* terms) const {
    memset(terms->count, 0, sizeof(terms->count));
    for (int f = 0; f < grid.filters(); ++f) {
      const Sight &y = grid.sight_y(cell, f), &x = grid.sight_x(cell, f);
      for (int i = 0; i < y.count * x.count; ++i) {
        const Product &p = y.products[i / x.count], &q = x.products[i % x.count];
        const int target = p.target * kTargets + q.target;
        terms->of[target][terms->count[target]++] = {
            (f * kEach + p.slot * kSlots + q.slot) * slot_words,
            (f * kEach + p.factor * kFactors + q.factor) * factor_words};
      }
    }
  }

  // The pixel of a cell's result (i, k), of a kind, or -1.
  INLINE int64_t pixel_of(int64_t cell, int kind, int i, int k) const {
    const Axis &y = grid.y, &x = grid.x;
    const int64_t cy = grid.row(cell), cx = grid.column(cell);
    if (i >= y.size(cy) || k >= x.size(cx)) return -1;
    const int64_t row = y.at(y.first(cy) + i, kind / x.kinds());
    const int64_t column = x.at(x.first(cx) + k, kind % x.kinds());
    return row < 0 || column < 0 ? -1 : row * x.result + column;
  }

  // One of a cell's sums.
  INLINE void sum(int goal, const Terms& terms, const Share& images, int64_t cell, int kind,
                  int64_t strip, const WordOf<T>* rows, const WordOf<T>* columns,
                  AccumulatorOf<T>* parts, const After<T>& after, T* out) const {
    constexpr int64_t kTile = kRows * kColumns<T>;
    const int target = kGoals[goal].target;
    // A result that it is for: those of a pair are both there, or neither.
    const int64_t pixel = pixel_of(cell, kind, target / kTargets % 2, target % kTargets % 2);
    if (!terms.count[target] || pixel < 0) return;
    const auto part = [&](int i) {
      return i >= 0 && terms.count[kGoals[i].target] ? parts + i * kTile : nullptr;
    };
    Sum<T> sum = {part(kGoals[goal].first), part(kGoals[goal].second), parts + goal * kTile,
                  nullptr, strip * kColumns<T>, outputs, pixels * outputs};
    if (goal >= kParts) sum.out = out + (images.first * pixels + pixel) * outputs;
    with_number(images.size(), [&](auto n) {
      sum_rows<T, n.n>(terms.of[target], terms.count[target], rows, columns, shape.blocks(), sum,
                       after);
    });
  }

  void run(const T* in, const T* weight, const After<T>& after, T* out) const {
    const int64_t image = grid.y.source * grid.x.source * inputs;
    const int64_t room = grid.filters() * kEach * slot_words, strips = grid.kinds() * shape.strips();
    const int64_t most = at_least(1, kWordsOfSlot / (grid.filters() * slot_words));  // cells
    const int64_t tiles = pieces(s.images, kRows), groups = pieces(grid.cells(), most);
    const int64_t parts = at_most(strips, pieces(kUnits * threads(), groups * tiles));
    const Buffer<WordOf<T>> columns(shape.strips() * shape.words());

    // A result takes nine products for four of each filter.
#pragma omp parallel if (s.images * pixels * inputs * outputs * grid.filters() * 9 / 4 >= kFew)
    {
      const Buffer<T> factors(kEach * inputs * kColumns<T>);
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < kWinogradFilters * shape.strips(); ++i) {
        pack_weight(weight, i / kWinogradFilters, int(i % kWinogradFilters), factors.at,
                    columns.at);
      }
      const Buffer<WordOf<T>> rows(most * room);
      const Buffer<AccumulatorOf<T>> partial(most * kParts * kRows * kColumns<T>);
      const Buffer<Terms> terms(most);
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < tiles * groups * parts; ++unit) {
        const Share images(s.images, unit / (groups * parts), tiles);
        const Share cells(grid.cells(), unit / parts % groups, groups);
        const Share part(strips, unit % parts, parts);
        for (int64_t r = 0; r < images.size(); ++r) {
          for (int64_t c = 0; c < cells.size(); ++c) {
            make(in + (images.first + r) * image, cells.first + c, rows.at + c * room + r * kBlock);
          }
        }
        for (int64_t c = 0; c < cells.size(); ++c) list(cells.first + c, terms.at + c);
        for (int64_t n = part.first; n < part.last; ++n) {
          const int64_t strip = n % shape.strips();
          const int kind = int(n / shape.strips());
          const WordOf<T>* from = columns.at + strip * shape.words() + kind * kEach * factor_words;
          for (int goal = 0; goal < kEach; ++goal) {
            for (int64_t c = 0; c < cells.size(); ++c) {
              sum(goal, terms.at[c], images, cells.first + c, kind, strip, rows.at + c * room, from,
                  partial.at + c * kParts * kRows * kColumns<T>, after, out);
            }
          }
        }
      }
    }
  }
};

void winograd(const ConvShape& s, bool up, const void* from, const void* weight, const void* bias,
              const void* x, void* to, double slope) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    const After<T> after = {in<T>(bias), in<T>(x), in<T>(to), AccumulatorOf<T>(slope)};
    Winograd<T>(s, up).run(in<T>(from), in<T>(weight), after, out<T>(to));
  });
}

}  // namespace

void winograd_down(ConvShape s, const void* large, const void* weight, const void* bias,
                   const void* x, void* small, double slope) {
  winograd(s, false, large, weight, bias, x, small, slope);
}

void winograd_up(ConvShape s, const void* small, const void* weight, const void* bias,
                 const void* x, void* large, double slope) {
  winograd(s, true, small, weight, bias, x, large, slope);
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
