// Convolutions from one map to another on the CPU, without patches in memory. The mathematics is in
// kernels/conv/__init__.py.
//
// A pixel of the result is the sum, over the taps that reach a pixel of the source, of that pixel's
// channels times the tap's weight: up to 16 taps, going up with stride 2 up to four. All images
// have the same taps at a pixel, so the rows of a product's tile are one pixel of several images:
// what lies outside of the map takes no part, neither as zeros in memory nor as arithmetic. Where a
// source's pixel is too short for that, as an image's 1 or 3 channels, the rows are patches of
// adjacent pixels, with their zeros. Several images' source is packed once, a band of rows at a time
// if it is large, and read by all pixels that see it.
//
// Which terms are added up in which order depends on the shape alone.

#include "after.h"
#include "product.h"
#include "threads.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Words of the source that a thread packs at a time: 1 MB, about a second-level cache.
constexpr int64_t kWordsOfSource = 1 << 18;

// From (images, in_height, in_width, in_channels) to (images, out_height, out_width, out_channels).
struct Maps {
  int64_t images, in_height, in_width, in_channels, out_height, out_width, out_channels, stride;
  bool up;
  INLINE int64_t in_pixels() const { return in_height * in_width; }
  INLINE int64_t out_pixels() const { return out_height * out_width; }
};

// Along an axis, the taps that reach the source from a place of the result, and where.
struct Reach {
  int count = 0;
  int64_t tap[kTaps], from[kTaps];
};

INLINE Reach reach(const Maps& m, int64_t i, int64_t size) {
  Reach taps;
  for (int k = 0; k < kTaps; ++k) {
    int64_t j = m.up ? i + 1 - k : m.stride * i - 1 + k;
    if (j < 0 || (m.up && j % m.stride)) continue;
    if (m.up) j /= m.stride;
    if (j >= size) continue;
    taps.tap[taps.count] = k;
    taps.from[taps.count++] = j;
  }
  return taps;
}

// A tile of R rows of the result: `rows` has row 0 of the source, packed, `columns` the first tap's,
// both with `blocks` for a pixel or a tap. A function for each R, as multiply_rows is.
template <class T, int R>
OUTLINED void convolve_rows(const Maps& m, const Reach& y, const Reach& x, const WordOf<T>* rows,
                            const WordOf<T>* columns, int64_t blocks, const After<T>& after,
                            int64_t column, T* out, int64_t step) {
  Tile<T, R> tile = {};
  // Where it goes is fetched meanwhile, or what is stored would wait for it.
  for (int r = 0; r < 2 * R; ++r) {
    __builtin_prefetch(out + r / 2 * step + column + r % 2 * kLanes<T>, 1);
  }
  for (int i = 0; i < y.count; ++i) {
    for (int j = 0; j < x.count; ++j) {
      add_products<T, R, kLines>(
          tile, rows + (y.from[i] * m.in_width + x.from[j]) * blocks * kRowsBlock<kLines>,
          columns + (y.tap[i] * kTaps + x.tap[j]) * blocks * kBlock * kColumns<T>, blocks);
    }
  }
  finish<T, R>(tile, after, column, m.out_channels, out, step);
}

// The same for `count` rows.
template <class T>
INLINE void convolve(const Maps& m, const Reach& y, const Reach& x, const WordOf<T>* rows,
                     int64_t count, const WordOf<T>* columns, int64_t blocks,
                     const After<T>& after, int64_t column, T* out, int64_t step) {
  with_number(count, [&](auto n) {
    convolve_rows<T, n.n>(m, y, x, rows, columns, blocks, after, column, out, step);
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

// What pixels see along both axes, and how their work is cut for threads and caches, which has no
// part in the results: into groups of tiles, bands of rows, and parts of the strips of columns.
struct Cut {
  const Maps& m;
  const int64_t line, tiles;  // words of a row of the source, packed; tiles of images
  const Buffer<Reach> down, along;
  int64_t bands = 1, together, groups, parts;  // `together`: tiles of a group at most

  Cut(const Maps& m, int64_t line, int64_t strips)
      : m(m), line(line), tiles(pieces(m.images, kRows)), down(m.out_height), along(m.out_width) {
    for (int64_t y = 0; y < m.out_height; ++y) down.at[y] = reach(m, y, m.in_height);
    for (int64_t x = 0; x < m.out_width; ++x) along.at[x] = reach(m, x, m.in_width);
    while (bands < m.out_height && room() > kWordsOfSource) ++bands;
    together = bands > 1 ? 1 : at_least(1, kWordsOfSource / room());
    groups = pieces(tiles, together);
    const int64_t units = kUnits * threads();
    bands = at_most(m.out_height, at_least(bands, pieces(units, groups * strips)));
    parts = at_most(strips, pieces(units, groups * bands));
  }

  // The rows of the source that rows of the result see.
  INLINE Share seen(const Share& band) const {
    const Reach &top = down.at[band.first], &bottom = down.at[band.last - 1];
    int64_t first = m.in_height, last = 0;
    for (int i = 0; i < top.count; ++i) first = at_most(first, top.from[i]);
    for (int i = 0; i < bottom.count; ++i) last = at_least(last, bottom.from[i] + 1);
    return Share(first, last);
  }
  // Words of what a band sees, at most, of a tile's images.
  INLINE int64_t room() const {
    int64_t rows = 0;
    for (int64_t i = 0; i < bands; ++i) {
      rows = at_least(rows, seen(Share(m.out_height, i, bands)).size());
    }
    return rows * line;
  }
};

// A pixel of several images at a time.
template <class T>
void by_pixels(const Maps& m, const T* in, const T* weight, After<T> after, T* out) {
  const int64_t inputs = m.in_channels, outputs = m.out_channels, pixels = m.out_pixels();
  constexpr int64_t kAll = kTaps * kTaps;
  const int64_t row = kAll * (m.up ? outputs : inputs);  // of the weight
  const Columns<T> shape = m.up ? Columns<T>{kAll, inputs, outputs, outputs, row, 1}
                                : Columns<T>{kAll, inputs, outputs, inputs, 1, row};
  const Buffer<WordOf<T>> columns(shape.strips() * shape.words());
  const int64_t blocks = shape.blocks(), pixel = blocks * kRowsBlock<kLines>;
  const Cut cut(m, m.in_width * pixel, shape.strips());
  const int64_t room = cut.room(), units = cut.groups * cut.bands * cut.parts;
  const int64_t phases = m.up ? m.stride : 1;

#pragma omp parallel if (m.images * pixels * outputs * inputs * kAll / (phases * phases) >= kFew)
  {
    const Buffer<WordOf<T>> rows(cut.together * room);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < shape.strips() * shape.taps; ++i) {
      shape.pack(weight, i / shape.taps, i % shape.taps, columns.at);
    }
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < units; ++i) {
      const Share group(cut.tiles, i / (cut.bands * cut.parts), cut.groups);
      const Share band(m.out_height, i / cut.parts % cut.bands, cut.bands);
      const Share part(shape.strips(), i % cut.parts, cut.parts), source = cut.seen(band);
      for (int64_t t = group.first; t < group.last; ++t) {
        const Share images(m.images, t, cut.tiles);
        for (int64_t p = 0; p < source.size() * m.in_width; ++p) {
          const T* from = in + (source.first * m.in_width + p) * inputs;
          WordOf<T>* to = rows.at + (t - group.first) * room + p * pixel;
          for (int64_t r = images.first; r < images.last; ++r, to += kBlock) {
            pack_run(from + r * m.in_pixels() * inputs, inputs, to);
          }
        }
      }
      for (int64_t j = part.first; j < part.last; ++j) {
        // Pixels that have the same taps, but for the border, one after the other.
        for (int64_t phase = 0; phase < phases * phases; ++phase) {
          const int64_t first = (phase / phases + phases - band.first % phases) % phases;
          for (int64_t t = group.first; t < group.last; ++t) {
            const Share images(m.images, t, cut.tiles);
            const WordOf<T>* top = rows.at + (t - group.first) * room - source.first * cut.line;
            for (int64_t y = band.first + first; y < band.last; y += phases) {
              for (int64_t x = phase % phases; x < m.out_width; x += phases) {
                T* to = out + (images.first * pixels + y * m.out_width + x) * outputs;
                convolve<T>(m, cut.down.at[y], cut.along.at[x], top, images.size(),
                            columns.at + j * shape.words(), blocks, after, j * kColumns<T>, to,
                            pixels * outputs);
              }
            }
          }
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
    const Buffer<WordOf<T>> rows(blocks * kRowsBlock<kLines>);
    const Buffer<T> gathered(blocks * kDeep<T>);
#pragma omp for schedule(dynamic, 64)
    for (int64_t i = 0; i < tiles; ++i) {
      const Share here(m.images * pixels, i, tiles);
      for (int64_t p = here.first; p < here.last; ++p) {
        gather_patch(m, channels, in + p / pixels * m.in_pixels() * m.in_channels,
                     p % pixels / m.out_width, p % m.out_width, gathered.at);
        pack_run(gathered.at, patch, rows.at + (p - here.first) * kBlock);
      }
      const Reach only = {1, {0}, {0}};
      for (int64_t j = 0; j < shape.strips(); ++j) {
        convolve<T>(m, only, only, rows.at, here.size(), columns.at + j * shape.words(), blocks,
                    after, j * kColumns<T>, out + here.first * outputs, outputs);
      }
    }
  }
}

}  // namespace

void conv_down(ConvShape s, const void* large, const void* weight, const void* bias, const void* x,
               void* small, double slope) {
  const Maps m = {s.images,  s.height, s.width,  s.channels, s.rows,
                  s.columns, s.maps,   s.stride, false};
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    const After<T> after = {in<T>(bias), in<T>(x), in<T>(small), AccumulatorOf<T>(slope)};
    const auto run = [&](auto channels) {
      by_patches<T>(m, channels, in<T>(large), in<T>(weight), after, out<T>(small));
    };
    if (m.in_channels == 1) return run(Channels<1>(1));
    if (m.in_channels == 3) return run(Channels<3>(3));
    if (m.in_channels < kDeep<T>) return run(Channels<0>(m.in_channels));
    by_pixels<T>(m, in<T>(large), in<T>(weight), after, out<T>(small));
  });
}

void conv_up(ConvShape s, const void* small, const void* weight, const void* bias, const void* x,
             void* large, double slope) {
  const Maps m = {s.images, s.rows,     s.columns, s.maps, s.height,
                  s.width,  s.channels, s.stride,  true};
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    const After<T> after = {in<T>(bias), in<T>(x), in<T>(large), AccumulatorOf<T>(slope)};
    by_pixels<T>(m, in<T>(small), in<T>(weight), after, out<T>(large));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
