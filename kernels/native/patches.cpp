// The 4x4 patches of maps, and their sums, on the CPU. The mathematics is in
// kernels/conv/__init__.py.
//
// In channels-last memory the four pixels of a patch's row are one run of numbers, so patches are
// copied by runs. Going back, a run of `stride` pixels of the map adds up 16 / stride^2 runs of the
// patches, in an order that the shape alone decides.

#include "kernels.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int kTaps = 4;

// Numbers in the patches below which starting threads costs more than they save.
constexpr int64_t kSmall = 1 << 14;

// A run of pixels `first` ... `first + count - 1`, cut to those within 0 ... `width - 1`.
struct Run {
  int64_t first;
  int skipped, count;
  INLINE Run(int64_t start, int pixels, int64_t width) {
    const int64_t last = start + pixels < width ? start + pixels : width;
    first = start < 0 ? 0 : start;
    skipped = int(first - start);
    count = last > first ? int(last - first) : 0;
  }
};

// A number of channels: N where it is known when compiling, so that copying and adding few numbers
// compiles to a few instructions, or any where N is 0.
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

// The patches of row `row` of the small map.
template <class T, class C>
INLINE void patches_of_row(ConvShape s, C channels, const T* image, int64_t row, T* out) {
  const int64_t c = *channels;
  for (int64_t column = 0; column < s.columns; ++column) {
    const Run run(s.stride * column - 1, kTaps, s.width);
    for (int ky = 0; ky < kTaps; ++ky, out += kTaps * c) {
      const int64_t y = s.stride * row - 1 + ky;
      if (y < 0 || y >= s.height) {
        memset(out, 0, kTaps * c * sizeof(T));
      } else if (run.count == kTaps) {
        memcpy(out, image + (y * s.width + run.first) * c, kTaps * c * sizeof(T));
      } else {
        memset(out, 0, kTaps * c * sizeof(T));
        memcpy(out + run.skipped * c, image + (y * s.width + run.first) * c,
               run.count * c * sizeof(T));
      }
    }
  }
}

// Runs of the patches that overlap on a run of the map's pixels.
template <class T>
struct Runs {
  const T* from[kTaps * kTaps];
  int count = 0;
  const T* bias = nullptr;  // added as it is, wherever the others start
};

// The sum of the runs, `offset` numbers further on, of n numbers.
template <class T>
INLINE void sum_runs(const Runs<T>& runs, int64_t offset, int64_t n, T* out) {
  constexpr int kUnroll = 4;
  int64_t i = 0;
  for (; i + kUnroll * kLanes<T> <= n; i += kUnroll * kLanes<T>) {
    VectorOf<T> sum[kUnroll] = {};
    if (runs.bias) {
      for (int u = 0; u < kUnroll; ++u) sum[u] = load(runs.bias + i + u * kLanes<T>);
    }
    for (int k = 0; k < runs.count; ++k) {
      const T* from = runs.from[k] + offset + i;
      for (int u = 0; u < kUnroll; ++u) sum[u] += load(from + u * kLanes<T>);
    }
    for (int u = 0; u < kUnroll; ++u) store(out + i + u * kLanes<T>, sum[u]);
  }
  for (; i < n; i += kLanes<T>) {
    const int lanes = n - i < kLanes<T> ? int(n - i) : kLanes<T>;
    VectorOf<T> sum = {};
    if (runs.bias) sum = load(runs.bias + i, lanes);
    for (int k = 0; k < runs.count; ++k) sum += load(runs.from[k] + offset + i, lanes);
    store(out + i, sum, lanes);
  }
}

// The same for a few numbers, known when compiling.
template <int N, class T>
INLINE void sum_short_runs(const Runs<T>& runs, int64_t offset, T* out) {
  T sum[N] = {};
  if (runs.bias) {
    for (int i = 0; i < N; ++i) sum[i] = runs.bias[i];
  }
  for (int k = 0; k < runs.count; ++k) {
    const T* from = runs.from[k] + offset;
    for (int i = 0; i < N; ++i) sum[i] += from[i];
  }
  for (int i = 0; i < N; ++i) out[i] = sum[i];
}

template <class T>
INLINE void sum_pixels(Channels<0> channels, const Runs<T>& runs, int64_t offset, int pixels,
                       T* out) {
  sum_runs(runs, offset, pixels * *channels, out);
}

template <class T, int N>
INLINE void sum_pixels(Channels<N>, const Runs<T>& runs, int64_t offset, int pixels, T* out) {
  if (pixels == 2) {
    sum_short_runs<2 * N>(runs, offset, out);
  } else {
    sum_short_runs<N>(runs, offset, out);
  }
}

// Row y of an image: sums over the patches that hold its pixels. bias: `stride` times, or null.
template <class T, class C>
INLINE void fold_row(ConvShape s, C channels, const T* patches, const T* bias, int64_t y, T* out) {
  const int64_t c = *channels, patch = kTaps * kTaps * c;
  const int steps = int(kTaps / s.stride);
  const auto runs_of = [&](int64_t q, int skipped) {
    Runs<T> runs;
    runs.bias = bias ? bias + skipped * c : nullptr;
    for (int i = 0; i < steps; ++i) {
      const int64_t row = (y + 1) / s.stride - i, ky = (y + 1) % s.stride + s.stride * i;
      if (row < 0 || row >= s.rows) continue;
      for (int j = 0; j < steps; ++j) {
        const int64_t column = q - j, kx = s.stride * j + skipped;
        if (column < 0 || column >= s.columns) continue;
        runs.from[runs.count++] =
            patches + (row * s.columns + column) * patch + (ky * kTaps + kx) * c;
      }
    }
    return runs;
  };
  for (int64_t q = 0; s.stride * q - 1 < s.width; ++q) {
    const Run run(s.stride * q - 1, int(s.stride), s.width);
    const Runs<T> runs = runs_of(q, run.skipped);
    // From here on, until a patch fewer reaches them, pixels differ by the offset alone.
    int64_t alike = 1;
    if (q >= steps - 1 && run.skipped == 0) {
      while (q + alike < s.columns && s.stride * (q + alike + 1) - 1 <= s.width) ++alike;
    }
    for (int64_t k = 0; k < alike; ++k) {
      sum_pixels(channels, runs, k * patch, run.count, out + (run.first + k * s.stride) * c);
    }
    q += alike - 1;
  }
}

template <class T, class C>
void patches_of(ConvShape s, C channels, const T* large, T* patches) {
  const int64_t map = s.height * s.width * *channels;
  const int64_t row = s.columns * kTaps * kTaps * *channels;
#pragma omp parallel for schedule(static) if (s.images * s.rows * row >= kSmall)
  for (int64_t i = 0; i < s.images * s.rows; ++i) {
    patches_of_row(s, channels, large + i / s.rows * map, i % s.rows, patches + i * row);
  }
}

template <class T, class C>
void fold(ConvShape s, C channels, const T* patches, const T* bias, T* large) {
  const int64_t row = s.width * *channels;
  const int64_t image = s.rows * s.columns * kTaps * kTaps * *channels;
#pragma omp parallel for schedule(static) if (s.images * image >= kSmall)
  for (int64_t i = 0; i < s.images * s.height; ++i) {
    fold_row(s, channels, patches + i / s.height * image, bias, i % s.height, large + i * row);
  }
}

// Calls f with Channels: 1 and 3 are those of images.
template <class F>
INLINE void with_channels(int64_t channels, F f) {
  if (channels == 1) return f(Channels<1>(channels));
  if (channels == 3) return f(Channels<3>(channels));
  f(Channels<0>(channels));
}

// As with_type, but for bfloat16: kernels/conv/native.py says why.
template <class F>
INLINE void with_wide_type(Dtype dtype, F f) {
  if (dtype == Dtype::float64) return f(static_cast<double*>(nullptr));
  f(static_cast<float*>(nullptr));
}

}  // namespace

void conv_patches(ConvShape s, const void* large, void* patches) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    with_channels(s.channels, [&](auto c) { patches_of(s, c, in<T>(large), out<T>(patches)); });
  });
}

void conv_fold(ConvShape s, const void* patches, const void* bias, void* large) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    with_channels(s.channels, [&](auto c) {
      fold(s, c, in<T>(patches), in<T>(bias), out<T>(large));
    });
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
