// The gradient of the weight beside an image on the CPU. The mathematics is in
// kernels/conv/__init__.py.
//
// An image's channels would leave most of a tile's columns empty. So here the columns are the small
// map's channels, and the rows the taps of a line of the kernel, which lie one after the other in an
// image with zeros around it. Some rows of the small map at a time are brought into the accumulator
// type, times a slope's derivative if there is one, and read by all taps. Images are cut into parts
// that have sums of their own, which are added up in their order.

#include "product.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kParts = 64;   // of the images, at most
constexpr int64_t kPixels = 64;  // whose products stay in registers, rounded up to rows of the map

#if defined(__AVX512F__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

// Images of N channels. Sums are kTaps lines of kLine numbers, each for all channels of the small map
// (`maps`: rounded up to tiles of kWide vectors); and then the small map's own.
template <int N, class T>
struct WeightImage {
  using A = AccumulatorOf<T>;
  static constexpr int kLine = kTaps * N;
  static constexpr int kMost = (kRegisters - 4) / kLine;  // four for factors
  static constexpr int kWide = kMost >= 4 ? 4 : kMost >= 2 ? 2 : 1;
  static constexpr int64_t kTile = kWide * kLanes<A>;
  const ConvShape& s;
  const int64_t maps, width, band;  // of the image with zeros, in numbers; rows at a time

  explicit WeightImage(const ConvShape& s)
      : s(s),
        maps(pieces(s.maps, kTile) * kTile),
        width((s.width + kTaps) * N),
        band(at_most(s.rows, pieces(kPixels, s.columns))) {}

  INLINE int64_t sums() const { return (kTaps * kLine + 1) * maps; }
  INLINE int64_t room() const { return (s.height + kTaps) * width + band * s.columns * maps; }

  // An image, beginning with a row and a pixel of zeros.
  INLINE void surround(const T* image, A* to) const {
    memset(to, 0, (s.height + kTaps) * width * sizeof(A));
    for (int64_t y = 0; y < s.height; ++y) {
      A* row = to + (y + 1) * width + N;
      const T* from = image + y * s.width * N;
      int64_t i = 0;
      for (; i + kLanes<T> <= s.width * N; i += kLanes<T>) store<A>(row + i, load(from + i));
      const int left = int(s.width * N - i);
      store<A>(row + i, load(from + i, left), left);
    }
  }

  // Pixels of the small map, with zeros behind their channels; and their sum.
  INLINE void bring(const T* small, const T* y, A slope, int64_t pixels, A* to, A* sum) const {
    const auto vector = [&](int64_t c, auto lanes) {
      VectorOf<T> v = load(small + c, lanes);
      if (y) v = load(y + c, lanes) > 0 ? v : v * slope;
      store<A>(to + c, v);
      store<A>(sum + c, load<A>(sum + c) + v);
    };
    for (int64_t p = 0; p < pixels; ++p, small += s.maps, y += y ? s.maps : 0, to += maps) {
      int64_t c = 0;
      for (; c + kLanes<T> <= s.maps; c += kLanes<T>) vector(c, kLanes<T>);
      for (; c < maps; c += kLanes<T>) vector(c, int(at_least(0, s.maps - c)));
    }
  }

  // Adds what rows first ... last - 1 of an image's small map give.
  INLINE void add(const A* image, const A* small, const Share& rows, A* sums) const {
    for (int64_t ky = 0; ky < kTaps; ++ky) {
      for (int64_t c = 0; c < maps; c += kTile) {
        Tile<A, kLine, kWide> tile = {};
        const A* columns = small + c;
        for (int64_t y = rows.first; y < rows.last; ++y) {
          const A* from = image + (s.stride * y + ky) * width;
          for (int64_t x = 0; x < s.columns; ++x, from += s.stride * N, columns += maps) {
            VectorOf<A> vectors[kWide];
#pragma GCC unroll 4
            for (int j = 0; j < kWide; ++j) vectors[j] = load<A>(columns + j * kLanes<A>);
            add_place<A>(tile, from, 1, vectors);
          }
        }
        A* sum = sums + ky * kLine * maps + c;
        add_tile(tile, sum, maps, kTile);
        write_tile(tile, sum, maps, kTile);
      }
    }
  }
};

template <int N, class T>
void weight_image(const ConvShape& s, const T* large, const T* small, const T* y, T* gradient,
                  T* bias, AccumulatorOf<T> slope) {
  using A = AccumulatorOf<T>;
  const WeightImage<N, T> w(s);
  const int64_t parts = at_most(s.images, kParts), pixels = s.rows * s.columns;
  const Buffer<A> sums(parts * w.sums());

#pragma omp parallel if (s.images * pixels * s.maps * kTaps * w.kLine >= kFew)
  {
    const Buffer<A> image(w.room());
    A* map = image.at + (s.height + kTaps) * w.width;
#pragma omp for schedule(dynamic)
    for (int64_t part = 0; part < parts; ++part) {
      A* sum = sums.at + part * w.sums();
      memset(sum, 0, w.sums() * sizeof(A));
      const Share images(s.images, part, parts);
      for (int64_t i = images.first; i < images.last; ++i) {
        w.surround(large + i * s.height * s.width * N, image.at);
        for (int64_t row = 0; row < s.rows; row += w.band) {
          const Share rows(row, at_most(row + w.band, s.rows));
          const int64_t first = (i * pixels + row * s.columns) * s.maps;
          w.bring(small + first, y ? y + first : nullptr, slope, rows.size() * s.columns, map,
                  sum + kTaps * w.kLine * w.maps);
          w.add(image.at, map, rows, sum);
        }
      }
    }
  }
  for (int64_t line = 0; line <= kTaps * w.kLine; ++line) {
    for (int64_t c = 0; c < s.maps; c += kLanes<T>) {
      VectorOf<T> v = {};
      for (int64_t part = 0; part < parts; ++part) {
        v += load<A>(sums.at + part * w.sums() + line * w.maps + c);
      }
      const int64_t last = at_most(kLanes<T>, s.maps - c);
      if (line < kTaps * w.kLine) {
        for (int64_t i = 0; i < last; ++i) {
          VectorOf<T> number = {};
          number[0] = v[i];
          store(gradient + (c + i) * kTaps * w.kLine + line, number, 1);
        }
      } else if (bias) {
        store(bias + c, v, int(last));
      }
    }
  }
}

}  // namespace

void conv_weight_image(ConvShape s, const void* large, const void* small, const void* y,
                       void* gradient, void* bias, double slope) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    with_number<kImageChannels>(s.channels, [&](auto channels) {
      weight_image<channels.n>(s, in<T>(large), in<T>(small), in<T>(y), out<T>(gradient),
                               out<T>(bias), AccumulatorOf<T>(slope));
    });
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
