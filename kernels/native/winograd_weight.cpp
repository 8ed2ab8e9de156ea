// The gradient of a convolution's weight on the CPU with fewer multiplications (winograd.h).
//
// As in conv_weight.cpp, a block of a product's sum is one place in several images. Here the place
// is a cell: of the large map what products multiply is made, and of the small one the results
// that they go to, one or the sum of several. Both are packed, for some cells at a time, and read
// by the sums of all filters and factors, of which the taps' gradients are made at the end.
//
// Which terms are added up in which order depends on the shape alone.

#include "blocks.h"
#include "threads.h"
#include "winograd.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kWordsOfPlaces = 1 << 19;  // that are packed at a time: 2 MB of float32
constexpr int kPieces = 4 * kUnits;          // of work for each thread, for factors differ in theirs

template <class T>
struct Winograd {
  using A = AccumulatorOf<T>;
  static constexpr int64_t kRowsBlock = ::kRowsBlock<kAcross>;
  const ConvShape& s;
  const Grid grid;
  const int64_t tiles, strips;  // of maps, of channels
  const int64_t cells, places;  // of an image; of all blocks of images

  explicit Winograd(const ConvShape& s)
      : s(s),
        grid(s, false),
        tiles(pieces(s.maps, kRows)),
        strips(pieces(s.channels, kColumns<T>)),
        cells(grid.cells()),
        places(pieces(s.images, kImages<T>) * cells) {}

  // Words of what a place is packed to: rows by targets, and columns by filters and slots.
  INLINE int64_t words_of_rows() const { return kEach * tiles * kRowsBlock; }
  INLINE int64_t words() const {
    return words_of_rows() + kWinogradFilters * kEach * strips * kColumnsBlock<T>;
  }

  // A vector of channels; as in conv_weight.cpp, what follows them in the map is read with them.
  INLINE static VectorOf<T> read(const T* from, const T* end) { return load_left(from, end - from); }

  // Packs a place of image k of its block.
  INLINE void pack(const T* large, const T* small, int64_t place, int64_t k, WordOf<T>* to) const {
    const int64_t cell = place % cells, image = place / cells * kImages<T> + k;
    WordOf<T>* rows = to + k * kAcrossLine;
    WordOf<T>* columns = to + words_of_rows() + k * kColumns<T>;
    if (image < s.images) {
      pack_targets(small, image, cell, rows);
      for (int f = 0; f < kWinogradFilters; ++f, columns += kEach * strips * kColumnsBlock<T>) {
        pack_slots(large, image, cell, f, columns);
      }
      return;
    }
    for (int64_t i = 0; i < kEach * tiles; ++i) {
      memset(rows + i * kRowsBlock, 0, kAcrossLine * sizeof(T));
    }
    for (int64_t i = 0; i < kWinogradFilters * kEach * strips; ++i) {
      memset(columns + i * kColumnsBlock<T>, 0, kColumns<T> * sizeof(T));
    }
  }

  // A line of each target: y0, y1 and y0 + y1, along both axes.
  INLINE void pack_targets(const T* small, int64_t image, int64_t cell, WordOf<T>* to) const {
    const Axis &y = grid.y, &x = grid.x;
    const int64_t row = grid.row(cell), column = grid.column(cell), line = s.columns * s.maps;
    const int64_t pixel = (image * s.rows + y.first(row)) * s.columns + x.first(column);
    const T* end = small + s.images * s.rows * line;
    const bool below = y.size(row) == 2, beside = x.size(column) == 2;
    for (int64_t t = 0; t < tiles; ++t, to += kRowsBlock) {
      const T* from = small + pixel * s.maps + Share(s.maps, t, tiles).first;
      for (int c = 0; c < kAcrossLine; c += kLanes<T>, from += kLanes<T>) {
        VectorOf<T> v[kTargets][kTargets] = {};
        v[0][0] = read(from, end);
        if (beside) v[0][1] = read(from + s.maps, end);
        if (below) v[1][0] = read(from + line, end);
        if (below && beside) v[1][1] = read(from + line + s.maps, end);
        for (int i = 0; i < 2; ++i) v[i][2] = v[i][0] + v[i][1];
        for (int i = 0; i < kTargets; ++i) v[2][i] = v[0][i] + v[1][i];
#pragma GCC unroll 9
        for (int i = 0; i < kEach; ++i) {
          store(to + i * tiles * kRowsBlock + c, v[i / kTargets][i % kTargets]);
        }
      }
    }
  }

  // A line of each slot of a filter.
  INLINE void pack_slots(const T* large, int64_t image, int64_t cell, int filter,
                         WordOf<T>* to) const {
    const Sight &y = grid.sight_y(cell, filter), &x = grid.sight_x(cell, filter);
    const int64_t size = s.height * s.width * s.channels;
    const T* end = large + s.images * size;
    const Pixels<T> pixels(y, x, large + image * size, s.width, s.channels);
    for (int64_t j = 0; j < strips; ++j, to += kColumnsBlock<T>) {
      for (int64_t c = 0; c < kColumns<T>; c += kLanes<T>) {
        VectorOf<T> d[kSlots][kSlots] = {};
#pragma GCC unroll 9
        for (int i = 0; i < kEach; ++i) {
          if (!pixels.there[i]) continue;
          d[i / kSlots][i % kSlots] = read(pixels.from[i] + j * kColumns<T> + c, end);
        }
        subtract(d, y.minimal, x.minimal);
#pragma GCC unroll 9
        for (int i = 0; i < kEach; ++i) {
          if (!pixels.there[i]) continue;
          store(to + i * strips * kColumnsBlock<T> + c, d[i / kSlots][i % kSlots]);
        }
      }
    }
  }

  // Adds to the sums of a filter and a factor what some places give.
  INLINE void add(const Share& here, int filter, int factor, const Share& mine,
                  const WordOf<T>* packed, A* sums) const {
    Blocks<T> blocks;
    const auto flush = [&] {
      for (int64_t j = 0; j < strips; ++j) {
        for (int64_t t = mine.first; t < mine.last; ++t) {
          add_blocks(blocks, Share(s.maps, t, tiles).size(), t * kRowsBlock, j * kColumnsBlock<T>,
                     sums + (t * strips + j) * kTile<T>);
        }
      }
      blocks.count = 0;
    };
    for (int64_t place = here.first; place < here.last; ++place, packed += words()) {
      const Sight &y = grid.sight_y(place % cells, filter),
                  &x = grid.sight_x(place % cells, filter);
      for (int i = 0; i < y.count; ++i) {
        const Product& p = y.products[i];
        if (p.factor != factor / kFactors) continue;
        for (int k = 0; k < x.count; ++k) {
          const Product& q = x.products[k];
          if (q.factor != factor % kFactors) continue;
          const int target = p.target * kTargets + q.target, slot = p.slot * kSlots + q.slot;
          blocks.rows[blocks.count] = packed + target * tiles * kRowsBlock;
          blocks.columns[blocks.count++] =
              packed + words_of_rows() + (filter * kEach + slot) * strips * kColumnsBlock<T>;
          if (blocks.count == kBlocks) flush();
        }
      }
    }
    if (blocks.count) flush();
  }

  // Writes a tap's gradient: the sums of the four factors that it is part of.
  INLINE void write(int filter, int a, int b, const A* sums, T* gradient) const {
    sums += filter * kEach * tiles * strips * kTile<T>;
    write_gradient(s, grid.tap(filter, a, b), gradient, [&](int64_t at) {
      VectorOf<T> sum = {};
      for (int i = 0; i < 4; ++i) {
        const int64_t factor = (a + i / 2) * kFactors + b + i % 2;
        sum += load<A>(sums + factor * tiles * strips * kTile<T> + at);
      }
      return sum;
    });
  }

  void run(const T* large, const T* small, T* gradient) const {
    const int64_t most = at_most(places, at_least(1, kWordsOfPlaces / words()));
    const int64_t groups = at_most(tiles, pieces(kPieces * threads(), kEach));
    const int64_t size = tiles * strips * kTile<T>;
    const Buffer<A> sums(kWinogradFilters * kEach * size);
    const Buffer<WordOf<T>> packed(most * words());

#pragma omp parallel if (s.images * s.rows * s.columns * s.maps * s.channels >= kFew)
    {
      for (int64_t first = 0; first < places; first += most) {
        const Share here(first, at_most(places, first + most));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < here.size() * kImages<T>; ++i) {
          pack(large, small, first + i / kImages<T>, i % kImages<T>, packed.at + i / kImages<T> * words());
        }
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < kEach * groups; ++unit) {
          const Share mine(tiles, unit % groups, groups);
          const int factor = int(unit / groups);
          for (int filter = 0; filter < kWinogradFilters; ++filter) {
            A* own = sums.at + (filter * kEach + factor) * size;
            if (first == 0) {
              memset(own + mine.first * strips * kTile<T>, 0,
                     mine.size() * strips * kTile<T> * sizeof(A));
            }
            add(here, filter, factor, mine, packed.at, own);
          }
        }
      }
#pragma omp for schedule(static)
      for (int i = 0; i < kTaps * kTaps; ++i) {
        write(i / 4, i / 2 % 2, i % 2, sums.at, gradient);
      }
    }
  }
};

}  // namespace

void winograd_weight(ConvShape s, const void* large, const void* small, void* gradient) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    Winograd<T>(s).run(in<T>(large), in<T>(small), out<T>(gradient));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
