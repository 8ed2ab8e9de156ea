// Convolutions from one map to another on the CPU, without patches in memory. The mathematics is in
// kernels/conv/__init__.py.
//
// A pixel of the result is the sum, over the taps that reach a pixel of the source, of that pixel's
// channels times the tap's weight: up to 16 taps, going up with stride 2 up to four. All images
// have the same taps at a pixel, so the rows of a product's tile are one pixel of several images:
// what lies outside of the map takes no part, neither as zeros in memory nor as arithmetic. Where a
// source's pixel is too short for that, as an image's 1 or 3 channels, the rows are patches of
// adjacent pixels, with their zeros.
//
// Which terms are added up in which order depends on the shape alone.

#include "product.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Words of rows that are made before columns are read: half of a second-level cache.
constexpr int64_t kWordsOfRows = 1 << 16;

// From (images, in_height, in_width, in_channels) to (images, out_height, out_width, out_channels).
struct Maps {
  int64_t images, in_height, in_width, in_channels, out_height, out_width, out_channels, stride;
  bool up;
  INLINE int64_t in_pixels() const { return in_height * in_width; }
  INLINE int64_t out_pixels() const { return out_height * out_width; }
};

// The taps that reach the source from a pixel of the result, and where.
struct Taps {
  int count = 0;
  int tap[kTaps * kTaps];
  int64_t pixel[kTaps * kTaps];
};

INLINE Taps taps_at(const Maps& m, int64_t y, int64_t x) {
  Taps taps;
  // Where tap k along an axis leads from i, or -1.
  const auto source = [&](int64_t i, int k, int64_t size) -> int64_t {
    int64_t j = m.up ? i + 1 - k : m.stride * i - 1 + k;
    if (m.up) {
      if (j < 0 || j % m.stride) return -1;
      j /= m.stride;
    }
    return j < size ? j : -1;
  };
  for (int ky = 0; ky < kTaps; ++ky) {
    const int64_t row = source(y, ky, m.in_height);
    if (row < 0) continue;
    for (int kx = 0; kx < kTaps; ++kx) {
      const int64_t column = source(x, kx, m.in_width);
      if (column < 0) continue;
      taps.tap[taps.count] = ky * kTaps + kx;
      taps.pixel[taps.count++] = row * m.in_width + column;
    }
  }
  return taps;
}

// What becomes of the sums.
template <class T>
struct After {
  const T* bias;  // or null
  AccumulatorOf<T> slope;
};

template <class T, int R>
INLINE void finish(const Tile<T, R>& tile, After<T> after, int64_t column, int64_t columns, T* out,
                   int64_t step) {
  using V = VectorOf<T>;
  const auto write = [&](int side, auto lanes) {
    const int64_t first = column + side * kLanes<T>;
    V bias = {};
    if (after.bias) bias = load(after.bias + first, lanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V u = tile.sum[r][side] + bias;
      store(out + r * step + first, u > 0 ? u : u * after.slope, lanes);
    }
  };
  for (int side = 0; side < 2; ++side) {
    const int64_t left = columns - column - side * kLanes<T>;
    if (left >= kLanes<T>) {
      write(side, kLanes<T>);
    } else if (left > 0) {
      write(side, int(left));
    }
  }
}

// The rows of a tile, packed, and where the result goes.
template <class T>
struct Strip {
  const WordOf<T>* rows;
  int64_t count, blocks;  // rows, and blocks of a tap
  Taps taps;
  T* out;
  int64_t step;  // from row to row of the result
};

// Columns of a tile's result: `columns` begins with the first tap's.
template <class T>
INLINE void multiply(const Strip<T>& strip, const WordOf<T>* columns, After<T> after,
                     int64_t column, int64_t all) {
  with_rows(strip.count, [&](auto rows) {
    Tile<T, rows.n> tile = {};
    const WordOf<T>* from = strip.rows;
    const int64_t block = kBlock * kColumns<T> * strip.blocks;
    for (int i = 0; i < strip.taps.count; ++i) {
      const WordOf<T>* tap = columns + strip.taps.tap[i] * block;
      add_products<T, rows.n, kLines>(tile, from, tap, strip.blocks);
      from += strip.blocks * kBlock * kBlock;
    }
    finish<T, rows.n>(tile, after, column, all, strip.out, strip.step);
  });
}

// A number of channels: N where it is known when compiling, so that a run of few numbers is copied
// by a few instructions, or any where N is 0.
template <int N>
struct Channels {
  INLINE explicit Channels(int64_t) {}
  INLINE int64_t operator*() const { return N; }
};
template <>
struct Channels<0> {
  int64_t n;
  INLINE explicit Channels(int64_t n) : n(n) {}
  INLINE int64_t operator*() const { return n; }
};

// The patch of pixel (y, x), 16 channels of it, in the order of the weight.
template <class T, class C>
INLINE void gather_patch(const Maps& m, C channels, const T* image, int64_t y, int64_t x, T* to) {
  const int64_t c = *channels, row = m.stride * y - 1, column = m.stride * x - 1;
  for (int ky = 0; ky < kTaps; ++ky, to += kTaps * c) {
    const bool inside = row + ky >= 0 && row + ky < m.in_height;
    const T* from = image + ((row + ky) * m.in_width + column) * c;
    if (inside && column >= 0 && column + kTaps <= m.in_width) {
      memcpy(to, from, kTaps * c * sizeof(T));
      continue;
    }
    for (int kx = 0; kx < kTaps; ++kx) {
      const bool here = inside && column + kx >= 0 && column + kx < m.in_width;
      for (int64_t i = 0; i < c; ++i) to[kx * c + i] = here ? from[kx * c + i] : T{};
    }
  }
}

// A pixel of several images at a time.
template <class T>
void by_pixels(const Maps& m, const T* in, const T* weight, After<T> after, T* out) {
  const int64_t inputs = m.in_channels, outputs = m.out_channels;
  constexpr int64_t kAll = kTaps * kTaps;
  const int64_t row = kAll * (m.up ? outputs : inputs);  // of the weight
  const Columns<T> shape = m.up ? Columns<T>{kAll, inputs, outputs, outputs, row, 1}
                                : Columns<T>{kAll, inputs, outputs, inputs, 1, row};
  const Buffer<WordOf<T>> columns(shape.strips() * shape.words());
  const int64_t blocks = shape.blocks(), strips = shape.strips();

  // Pixels that have the same taps inside of the map one after the other.
  const int64_t pixels = m.out_pixels(), phases = m.up ? m.stride : 1;
  const Buffer<int64_t> order(pixels);
  for (int64_t phase = 0, n = 0; phase < phases * phases; ++phase) {
    for (int64_t y = phase / phases; y < m.out_height; y += phases) {
      for (int64_t x = phase % phases; x < m.out_width; x += phases) {
        order.at[n++] = y * m.out_width + x;
      }
    }
  }
  const int64_t tiles = pieces(m.images, kRows);
  const int64_t taps = kAll / (phases * phases);
  const int64_t words = taps * blocks * kBlock * kBlock;  // of the rows of a tile
  constexpr int64_t kMost = 8;
  const int64_t together = words * kMost <= kWordsOfRows ? kMost
                           : words < kWordsOfRows        ? kWordsOfRows / words
                                                         : 1;
  const int64_t groups = pieces(pixels, together);

#pragma omp parallel if (m.images * pixels * outputs * inputs * taps >= kFew)
  {
    const Buffer<WordOf<T>> rows(together * words);
    Strip<T> strip[kMost];
#pragma omp for schedule(static)
    for (int64_t i = 0; i < strips * shape.taps; ++i) {
      shape.pack(weight, i / shape.taps, i % shape.taps, columns.at);
    }
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < tiles * groups; ++i) {
      const Share images(m.images, i / groups, tiles);
      const Share here(pixels, i % groups, groups);
      for (int64_t p = here.first; p < here.last; ++p) {
        const int64_t pixel = order.at[p];
        Strip<T>& s = strip[p - here.first];
        WordOf<T>* to = rows.at + (p - here.first) * words;
        s = {to, images.last - images.first, blocks,
             taps_at(m, pixel / m.out_width, pixel % m.out_width),
             out + (images.first * pixels + pixel) * outputs, pixels * outputs};
        for (int64_t r = 0; r < s.count; ++r) {
          const T* image = in + (images.first + r) * m.in_pixels() * inputs;
          for (int t = 0; t < s.taps.count; ++t) {
            pack_run(image + s.taps.pixel[t] * inputs, inputs,
                     to + t * blocks * kBlock * kBlock + r * kBlock);
          }
        }
      }
      for (int64_t j = 0; j < strips; ++j) {
        for (int64_t p = 0; p < here.last - here.first; ++p) {
          multiply(strip[p], columns.at + j * shape.words(), after, j * kColumns<T>, outputs);
        }
      }
    }
  }
}

// Patches of adjacent pixels, going down.
template <class T, class C>
void by_patches(const Maps& m, C channels, const T* in, const T* weight, After<T> after, T* out) {
  const int64_t patch = kTaps * kTaps * m.in_channels, outputs = m.out_channels;
  const Columns<T> shape = {1, patch, outputs, 0, 1, patch};
  const Buffer<WordOf<T>> columns(shape.strips() * shape.words());
  const int64_t blocks = shape.blocks(), pixels = m.out_pixels();
  for (int64_t i = 0; i < shape.strips(); ++i) shape.pack(weight, i, 0, columns.at);
  const int64_t tiles = pieces(m.images * pixels, kRows);

#pragma omp parallel if (m.images * pixels * outputs * patch >= kFew)
  {
    const Buffer<WordOf<T>> rows(blocks * kBlock * kBlock);
    const Buffer<T> gathered(blocks * kDeep<T>);
#pragma omp for schedule(dynamic, 64)
    for (int64_t i = 0; i < tiles; ++i) {
      const Share here(m.images * pixels, i, tiles);
      for (int64_t p = here.first; p < here.last; ++p) {
        gather_patch(m, channels, in + p / pixels * m.in_pixels() * m.in_channels,
                     p % pixels / m.out_width, p % m.out_width, gathered.at);
        pack_run(gathered.at, patch, rows.at + (p - here.first) * kBlock);
      }
      Strip<T> strip = {rows.at, here.last - here.first, blocks, {}, out + here.first * outputs,
                        outputs};
      strip.taps.count = 1;
      strip.taps.tap[0] = 0;
      for (int64_t j = 0; j < shape.strips(); ++j) {
        multiply(strip, columns.at + j * shape.words(), after, j * kColumns<T>, outputs);
      }
    }
  }
}

}  // namespace

void conv_down(ConvShape s, const void* large, const void* weight, const void* bias, void* small,
               double slope) {
  const Maps m = {s.images,  s.height, s.width,  s.channels, s.rows,
                  s.columns, s.maps,   s.stride, false};
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    const After<T> after = {in<T>(bias), AccumulatorOf<T>(slope)};
    const auto run = [&](auto channels) {
      by_patches<T>(m, channels, in<T>(large), in<T>(weight), after, out<T>(small));
    };
    if (m.in_channels == 1) return run(Channels<1>(1));
    if (m.in_channels == 3) return run(Channels<3>(3));
    if (m.in_channels < kDeep<T>) return run(Channels<0>(m.in_channels));
    by_pixels<T>(m, in<T>(large), in<T>(weight), after, out<T>(small));
  });
}

void conv_up(ConvShape s, const void* small, const void* weight, const void* bias, void* large,
             double slope) {
  const Maps m = {s.images, s.rows,     s.columns, s.maps, s.height,
                  s.width,  s.channels, s.stride,  true};
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    const After<T> after = {in<T>(bias), AccumulatorOf<T>(slope)};
    by_pixels<T>(m, in<T>(small), in<T>(weight), after, out<T>(large));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
