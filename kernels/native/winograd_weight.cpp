// The gradient of a convolution's weight on the CPU with fewer multiplications (winograd.h).
//
// As in conv_weight.cpp, a block of a product's sum is one place in several images. Here the place
// is a cell: of the large map what products multiply is made, and of the small one the results
// that they go to, one or the sum of several. Both are packed, for some cells at a time, and read
// by the sums of all filters and factors, of which the taps' gradients are made at the end.
//
// Which terms are added up in which order depends on the shape alone.

#include "product.h"
#include "threads.h"
#include "winograd.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int kBlocks = 16;                // of a sum that stays in registers
constexpr int64_t kWordsOfCells = 1 << 19;  // that are packed at a time: 2 MB

// Adds a tile of R rows, summed over some blocks, to a sum: by itself first, for long sums lose more.
template <class T, int R>
OUTLINED void add_rows(int64_t count, const WordOf<T>* const* rows, int64_t row,
                       const WordOf<T>* const* columns, int64_t column, AccumulatorOf<T>* sum) {
  Tile<T, R> tile = {};
  for (int64_t b = 0; b < count; ++b) {
    add_products<T, R, kAcross>(tile, rows[b] + row, columns[b] + column, 1);
  }
  add_tile(tile, sum, kColumns<T>, kColumns<T>);
  write_tile(tile, sum, kColumns<T>, kColumns<T>);
}

// The products of a filter in a cell that a factor's sum is made of: at most two along each axis.
struct Pairs {
  int count;
  struct {
    int slot, target;
  } of[4];
};

template <class T>
struct Winograd {
  using A = AccumulatorOf<T>;
  static constexpr int64_t kTile = kRows * kColumns<T>;
  static constexpr int64_t kRowsBlock = ::kRowsBlock<kAcross>;
  static constexpr int64_t kColumnsBlock = kBlock * kColumns<T>;
  static constexpr int64_t kImages = kDeep<T>;  // of a block
  const ConvShape& s;
  const Grid grid;
  const int64_t tiles, strips;  // of maps, of channels
  const int64_t cells, places;  // of an image; of all blocks of images
  const Buffer<Pairs> products;  // by cells, filters and factors

  explicit Winograd(const ConvShape& s)
      : s(s),
        grid(s, false),
        tiles(pieces(s.maps, kRows)),
        strips(pieces(s.channels, kColumns<T>)),
        cells(grid.cells()),
        places(pieces(s.images, kImages) * cells),
        products(cells * kWinogradFilters * kEach) {
    for (int64_t i = 0; i < cells * kWinogradFilters * kEach; ++i) products.at[i].count = 0;
    for (int64_t i = 0; i < cells * kWinogradFilters; ++i) {
      const int64_t cell = i / kWinogradFilters;
      const int filter = int(i % kWinogradFilters);
      with_products(grid.above(cell, filter), grid.beside(cell, filter),
                    [&](int slot, int factor, int target) {
                      Pairs& pairs = products.at[i * kEach + factor];
                      pairs.of[pairs.count++] = {slot, target};
                    });
    }
  }


  // Words of what a place is packed to: rows by targets, and columns by filters and slots.
  INLINE int64_t words_of_rows() const { return kEach * tiles * kRowsBlock; }
  INLINE int64_t words() const {
    return words_of_rows() + kWinogradFilters * kEach * strips * kColumnsBlock;
  }

  // A vector of channels. Where the map goes on, what follows is read with them: that costs less
  // than leaving it out, and makes sums that nobody looks at.
  INLINE static VectorOf<T> read(const T* from, const T* end) {
    return from + kLanes<T> <= end ? load(from) : load_some(from, at_least(0, end - from));
  }

  // Packs a place.
  INLINE void pack(const T* large, const T* small, int64_t place, WordOf<T>* to) const {
    const int64_t cell = place % cells, first = place / cells * kImages;
    for (int64_t k = 0; k < kImages; ++k) {
      if (first + k >= s.images) {
        for (int64_t i = 0; i < kEach * tiles; ++i) {
          memset(to + i * kRowsBlock + k * kAcrossLine, 0, kAcrossLine * sizeof(T));
        }
        for (int64_t i = 0; i < kWinogradFilters * kEach * strips; ++i) {
          memset(to + words_of_rows() + i * kColumnsBlock + k * kColumns<T>, 0,
                 kColumns<T> * sizeof(T));
        }
        continue;
      }
      pack_targets(small, first + k, cell, to + k * kAcrossLine);
      for (int f = 0; f < kWinogradFilters; ++f) {
        pack_slots(large, first + k, cell, f,
                   to + words_of_rows() + f * kEach * strips * kColumnsBlock + k * kColumns<T>);
      }
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
    const Sight &y = grid.above(cell, filter), &x = grid.beside(cell, filter);
    const T* end = large + s.images * s.height * s.width * s.channels;
    const T* from[kEach];
    bool there[kEach];
#pragma GCC unroll 9
    for (int i = 0; i < kEach; ++i) {
      const int64_t row = y.at[i / kSlots], column = x.at[i % kSlots];
      there[i] = row >= 0 && column >= 0;
      from[i] = large + ((image * s.height + row) * s.width + column) * s.channels;
    }
    for (int64_t j = 0; j < strips; ++j, to += kColumnsBlock) {
      for (int64_t c = 0; c < kColumns<T>; c += kLanes<T>) {
        VectorOf<T> d[kSlots][kSlots] = {};
#pragma GCC unroll 9
        for (int i = 0; i < kEach; ++i) {
          if (there[i]) d[i / kSlots][i % kSlots] = read(from[i] + j * kColumns<T> + c, end);
        }
        subtract(d, y.minimal, x.minimal);
#pragma GCC unroll 9
        for (int i = 0; i < kEach; ++i) {
          if (there[i]) store(to + i * strips * kColumnsBlock + c, d[i / kSlots][i % kSlots]);
        }
      }
    }
  }

  // Adds blocks to the sums of a filter and a factor.
  struct Blocks {
    int64_t count = 0;
    const WordOf<T>*rows[kBlocks], *columns[kBlocks];
  };
  INLINE void add(const Blocks& blocks, const Share& mine, A* sums) const {
    for (int64_t j = 0; j < strips; ++j) {
      for (int64_t t = mine.first; t < mine.last; ++t) {
        with_number(Share(s.maps, t, tiles).size(), [&](auto n) {
          add_rows<T, n.n>(blocks.count, blocks.rows, t * kRowsBlock, blocks.columns,
                           j * kColumnsBlock, sums + (t * strips + j) * kTile);
        });
      }
    }
  }

  // The same for all blocks of some places.
  INLINE void add_all(const Share& here, int filter, int factor, const Share& mine,
                      const WordOf<T>* packed, A* sums) const {
    Blocks blocks;
    for (int64_t place = here.first; place < here.last; ++place, packed += words()) {
      const Pairs& pairs = products.at[(place % cells * kWinogradFilters + filter) * kEach + factor];
      for (int i = 0; i < pairs.count; ++i) {
        blocks.rows[blocks.count] = packed + pairs.of[i].target * tiles * kRowsBlock;
        blocks.columns[blocks.count++] =
            packed + words_of_rows() +
            (filter * kEach + pairs.of[i].slot) * strips * kColumnsBlock;
        if (blocks.count < kBlocks) continue;
        add(blocks, mine, sums);
        blocks.count = 0;
      }
    }
    if (blocks.count) add(blocks, mine, sums);
  }

  // Writes a tap's gradient: the sums of the four factors that it is part of.
  INLINE void write(int filter, int a, int b, const A* sums, T* gradient) const {
    const int64_t tap = grid.tap(filter, a, b);
    sums += filter * kEach * tiles * strips * kTile;
    for (int64_t t = 0; t < tiles; ++t) {
      const Share maps(s.maps, t, tiles);
      for (int64_t row = maps.first; row < maps.last; ++row) {
        T* to = gradient + (row * kTaps * kTaps + tap) * s.channels;
        for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
          VectorOf<T> sum = {};
          for (int i = 0; i < 4; ++i) {
            const int64_t factor = (a + i / 2) * kFactors + b + i % 2;
            sum += load<A>(sums + ((factor * tiles + t) * strips + c / kColumns<T>) * kTile +
                           (row - maps.first) * kColumns<T> + c % kColumns<T>);
          }
          store(to + c, sum, int(at_most(kLanes<T>, s.channels - c)));
        }
      }
    }
  }

  void run(const T* large, const T* small, T* gradient) const {
    const int64_t most = at_most(places, at_least(1, kWordsOfCells / words()));
    const int64_t groups = at_most(tiles, pieces(4 * kUnits * threads(), kEach));
    const int64_t size = tiles * strips * kTile;
    const Buffer<A> sums(kWinogradFilters * kEach * size);
    const Buffer<WordOf<T>> packed(most * words());

#pragma omp parallel if (s.images * s.rows * s.columns * s.maps * s.channels >= kFew)
    {
      for (int64_t first = 0; first < places; first += most) {
        const Share here(first, at_most(places, first + most));
#pragma omp for schedule(dynamic)
        for (int64_t place = here.first; place < here.last; ++place) {
          pack(large, small, place, packed.at + (place - first) * words());
        }
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < kEach * groups; ++unit) {
          const Share mine(tiles, unit % groups, groups);
          const int factor = int(unit / groups);
          for (int filter = 0; filter < kWinogradFilters; ++filter) {
            A* mine_of = sums.at + (filter * kEach + factor) * size;
            if (first == 0) {
              memset(mine_of + mine.first * strips * kTile, 0,
                     mine.size() * strips * kTile * sizeof(A));
            }
            add_all(here, filter, factor, mine, packed.at, mine_of);
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
