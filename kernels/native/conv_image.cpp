// Transposed convolutions to an image's few channels on the CPU. The mathematics is in
// kernels/conv/__init__.py.
//
// A tile is two vectors of columns wide, far more than an image has channels. So here the columns
// are the 16 taps of all channels: the product makes patches, an image's at a time and in the
// accumulator type, and the image adds up those that overlap, in an order that the shape decides.

#include "product.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Row y of an image of N channels: sums over the patches that hold its pixels.
template <int N, int kStride, class T, class A>
INLINE void fold_row(const ConvShape& s, const A* patches, int64_t lines, const T* bias, int64_t y,
                     T* out) {
  constexpr int kSteps = kTaps / kStride;
  A shift[N] = {};
  for (int c = 0; bias && c < N; ++c) shift[c] = load(bias + c, 1)[0];
  const A* rows[kSteps];  // of patches, from the tap that reaches y on
  int count = 0;
  for (int i = 0; i < kSteps; ++i) {
    const int64_t row = (y + 1) / kStride - i;
    if (row < 0 || row >= s.rows) continue;
    const int64_t ky = (y + 1) % kStride + kStride * i;
    rows[count++] = patches + row * s.columns * lines + ky * kTaps * N;
  }
  // The pixels of a line of the stride see the same patches.
  for (int64_t q = 0; kStride * q - 1 < s.width; ++q) {
    for (int k = 0; k < kStride; ++k) {
      const int64_t x = kStride * q - 1 + k;
      if (x < 0 || x >= s.width) continue;
      A sum[N];
      for (int c = 0; c < N; ++c) sum[c] = shift[c];
      for (int i = 0; i < count; ++i) {
        for (int j = 0; j < kSteps; ++j) {
          if (q - j < 0 || q - j >= s.columns) continue;
          const A* from = rows[i] + (q - j) * lines + (k + kStride * j) * N;
          for (int c = 0; c < N; ++c) sum[c] += from[c];
        }
      }
      for (int c = 0; c < N; ++c) {
        VectorOf<T> v = {};
        v[0] = sum[c];
        store(out + x * N + c, v, 1);
      }
    }
  }
}

template <int N, class T>
void up_image(const ConvShape& s, const T* small, const T* weight, const T* bias, T* large) {
  using A = AccumulatorOf<T>;
  constexpr int64_t kWide = kTaps * kTaps * N;
  const Columns<T> shape = {1, s.maps, kWide, 0, kWide, 1};
  const int64_t pixels = s.rows * s.columns, blocks = shape.blocks();
  const int64_t lines = shape.strips() * kColumns<T>;
  const Buffer<WordOf<T>> columns(shape.strips() * shape.words());
  for (int64_t i = 0; i < shape.strips(); ++i) shape.pack(weight, i, 0, columns.at);
  const int64_t tiles = pieces(pixels, kRows);

#pragma omp parallel if (s.images * pixels * s.maps * kWide >= kFew)
  {
    const Buffer<A> patches(pixels * lines);
    const Buffer<WordOf<T>> rows(blocks * kRowsBlock<kLines>);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < s.images; ++i) {
      for (int64_t t = 0; t < tiles; ++t) {
        const Share here(pixels, t, tiles);
        for (int64_t p = here.first; p < here.last; ++p) {
          pack_run(small + (i * pixels + p) * s.maps, s.maps,
                   rows.at + (p - here.first) * kBlock);
        }
        for (int64_t j = 0; j < shape.strips(); ++j) {
          multiply_tile<T, kLines>(rows.at, here.size(), columns.at + j * shape.words(), kColumns<T>,
                                   blocks, false, patches.at + here.first * lines + j * kColumns<T>,
                                   lines);
        }
      }
      for (int64_t y = 0; y < s.height; ++y) {
        T* to = large + (i * s.height + y) * s.width * N;
        if (s.stride == 2) {
          fold_row<N, 2>(s, patches.at, lines, bias, y, to);
        } else {
          fold_row<N, 1>(s, patches.at, lines, bias, y, to);
        }
      }
    }
  }
}

}  // namespace

void conv_up_image(ConvShape s, const void* small, const void* weight, const void* bias,
                   void* large) {
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    with_number<kImageChannels>(s.channels, [&](auto channels) {
      up_image<channels.n>(s, in<T>(small), in<T>(weight), in<T>(bias), out<T>(large));
    });
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
