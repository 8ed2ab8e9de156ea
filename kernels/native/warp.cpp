// Random maps, images as they show them, and the gradient, on the CPU. The mathematics is in
// kernels/warp/__init__.py.
//
// An image is copied into scratch with a margin of its fill around it, so that no place needs a
// look whether it has a pixel: places further out are moved to the margin. Going back, the gradient
// gathers in such a scratch, one pixel after the other, and the margin's share is dropped.

#include "kernels.h"
#include "philox.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int kMargin = 2;   // pixels: a place further out lies between two of them
constexpr int kPixels = 64;  // of a row, taken at once
constexpr int kNumbers = 8;  // of a map

// A number of channels: N where it is known when compiling, any where N is 0.
template <int N>
struct Channels {
  int64_t n;
  INLINE int64_t operator*() const { return N ? N : n; }
};

// The scratch of an image: (height + 2 kMargin, pitch, channels), and a line for a row of numbers.
INLINE int64_t pitch(const WarpShape& s) { return s.width + 2 * kMargin; }
INLINE int64_t scratch_size(const WarpShape& s) {
  return (s.height + 2 * kMargin + 1) * pitch(s) * s.channels;
}

// A map between pixels: (column, row) of the result shows the place
// (xx (column - centre_x) + xy (row - centre_y) + x, yx (...) + yy (...) + y).
template <class A>
struct Places {
  A xx, xy, x, yx, yy, y, centre_x, centre_y, width, height, gain, bias;

  INLINE Places(const WarpShape& s, const float* map)
      : centre_x(A(0.5) * A(s.width - 1)),
        centre_y(A(0.5) * A(s.height - 1)),
        width(A(s.width)),
        height(A(s.height)) {
    xx = A(map[0]), xy = A(map[1]) * (width / height), x = A(0.5) * A(map[2]) * width + centre_x;
    yx = A(map[3]) * (height / width), yy = A(map[4]), y = A(0.5) * A(map[5]) * height + centre_y;
    // A map that isn't finite makes all that it shows NaN.
    gain = A(map[6]) + A(0) * (xx + xy + x + yx + yy + y), bias = A(map[7]);
  }
};

// Of kPixels pixels: where in scratch, in pixels, the first of the four around its place is, and
// how far beyond that it lies.
template <class A>
struct Taps {
  alignas(64) int32_t at[kPixels];
  alignas(64) A right[kPixels], down[kPixels];
};

// NaN counts as low.
template <class A>
INLINE A clamp(A value, A low, A high) {
  const A raised = value > low ? value : low;
  return raised < high ? raised : high;
}

template <class A>
INLINE void find(const Places<A>& places, int64_t first, int64_t row, int32_t pitch, Taps<A>* taps) {
  const A up = A(row) - places.centre_y, start = A(first) - places.centre_x;
  for (int i = 0; i < kPixels; ++i) {
    const A along = start + A(i);
    const A x = clamp(places.xx * along + places.xy * up + places.x, A(-kMargin), places.width);
    const A y = clamp(places.yx * along + places.yy * up + places.y, A(-kMargin), places.height);
    int32_t column = int32_t(x), line = int32_t(y);
    column -= x < A(column), line -= y < A(line);
    taps->right[i] = x - A(column);
    taps->down[i] = y - A(line);
    taps->at[i] = (line + kMargin) * pitch + (column + kMargin);
  }
}

// Between the storage type and its accumulator.
template <class From, class To>
INLINE void convert(const From* from, int64_t n, To* to) {
  constexpr int kStep = kLanes<To>;
  for (int64_t i = 0; i < n; i += kStep) {
    const int lanes = n - i < kStep ? int(n - i) : kStep;
    store(to + i, load(from + i, lanes), lanes);
  }
}

// An image into scratch, `fill` around it; gives scratch's last line, which is left as it is.
template <class T, class A, class C>
INLINE A* surround(const WarpShape& s, C channels, const T* image, const float* fill, A* scratch) {
  const int64_t c = *channels, line = s.width * c, beside = kMargin * c;
  const auto margin = [&](A* to, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      for (int64_t k = 0; k < c; ++k) to[i * c + k] = A(fill[k]);
    }
    return to + pixels * c;
  };
  scratch = margin(scratch, kMargin * pitch(s));
  for (int64_t row = 0; row < s.height; ++row) {
    margin(scratch, kMargin);
    convert(image + row * line, line, scratch + beside);
    scratch = margin(scratch + beside + line, kMargin);
  }
  return margin(scratch, kMargin * pitch(s));
}

template <class T, class C>
void show(const WarpShape& s, C channels, const T* image, const float* map, const float* fill,
          AccumulatorOf<T> middle, AccumulatorOf<T>* scratch, T* result) {
  using A = AccumulatorOf<T>;
  const Places<A> places(s, map);
  const A shift = middle - places.gain * middle + places.bias;
  const int64_t c = *channels, below = pitch(s) * c, line = s.width * c;
  A* shown = surround(s, channels, image, fill, scratch);
  Taps<A> taps;
  for (int64_t row = 0; row < s.height; ++row) {
    for (int64_t first = 0; first < s.width; first += kPixels) {
      find(places, first, row, int32_t(pitch(s)), &taps);
      const int pixels = s.width - first < kPixels ? int(s.width - first) : kPixels;
      for (int64_t k = 0; k < c; ++k) {
        A* to = shown + first * c + k;
        for (int i = 0; i < pixels; ++i) {
          const A* from = scratch + taps.at[i] * c + k;
          const A top = from[0] + taps.right[i] * (from[c] - from[0]);
          const A bottom = from[below] + taps.right[i] * (from[below + c] - from[below]);
          to[i * c] = places.gain * (top + taps.down[i] * (bottom - top)) + shift;
        }
      }
    }
    convert(shown, line, result + row * line);
  }
}

template <class T, class C>
void gather_back(const WarpShape& s, C channels, const T* dy, const float* map,
                 AccumulatorOf<T>* scratch, T* dx) {
  using A = AccumulatorOf<T>;
  const Places<A> places(s, map);
  const int64_t c = *channels, below = pitch(s) * c, line = s.width * c;
  A* grads = scratch + (s.height + 2 * kMargin) * below;
  for (A* at = scratch; at < grads; ++at) *at = A(0);
  Taps<A> taps;
  for (int64_t row = 0; row < s.height; ++row) {
    convert(dy + row * line, line, grads);
    for (int64_t first = 0; first < s.width; first += kPixels) {
      find(places, first, row, int32_t(pitch(s)), &taps);
      const int pixels = s.width - first < kPixels ? int(s.width - first) : kPixels;
      const int half = (pixels + 1) / 2;
      const auto give = [&](int i) {
        A* to = scratch + taps.at[i] * c;
        for (int64_t k = 0; k < c; ++k) {
          const A grad = grads[(first + i) * c + k];
          const A bottom = grad * taps.down[i], top = grad - bottom;
          to[k] += top - top * taps.right[i];
          to[c + k] += top * taps.right[i];
          to[below + k] += bottom - bottom * taps.right[i];
          to[below + c + k] += bottom * taps.right[i];
        }
      };
      // By turns, because a pixel waits for its neighbour's sum to be written.
      for (int i = 0; i < half; ++i) {
        give(i);
        if (half + i < pixels) give(half + i);
      }
    }
  }
  for (int64_t row = 0; row < s.height; ++row) {
    const A* from = scratch + (row + kMargin) * below + kMargin * c;
    for (int64_t i = 0; i < line; ++i) grads[i] = places.gain * from[i];
    convert(grads, line, dx + row * line);
  }
}

// Calls f(channels, image, scratch) for every image, each part of them with a scratch of its own.
template <class A, class F>
INLINE void every_image(const WarpShape& s, A* scratch, F f) {
#pragma omp parallel for schedule(static) if (s.parts > 1)
  for (int64_t part = 0; part < s.parts; ++part) {
    const int64_t last = s.images * (part + 1) / s.parts;
    for (int64_t image = s.images * part / s.parts; image < last; ++image) {
      A* own = scratch + part * scratch_size(s);
      if (s.channels == 1) {
        f(Channels<1>{1}, image, own);
      } else if (s.channels == 3) {
        f(Channels<3>{3}, image, own);
      } else {
        f(Channels<0>{s.channels}, image, own);
      }
    }
  }
}

// (word + 0.5) / 2^32, correctly rounded, from -1 to 1 instead of 0 to 1.
INLINE float even(uint32_t word) {
  const float u = float(int32_t(word >> 16)) * 65536.0f + (float(int32_t(word & 0xffff)) + 0.5f);
  return 2.0f * (u * 0x1p-32f) - 1.0f;
}

}  // namespace

void draw_maps(const void* seed, const void* offset, int64_t shift, int64_t batch, int64_t stream,
               double rotation, double scale, double shear, double move, double brightness,
               double contrast, double exposure, double flip, double half_range, void* maps) {
  const uint64_t key = uint64_t(*in<int64_t>(seed));
  const uint64_t first = uint64_t(*in<int64_t>(offset)) + uint64_t(shift);
  for (int64_t i = 0; i < batch; ++i) {
    const uint64_t n = first + uint64_t(i);
    const uint32_t low = uint32_t(n), high = uint32_t(n >> 32);
    const Philox p = philox(key, low, high, 0, uint32_t(stream));
    const Philox q = philox(key, low, high, 1, uint32_t(stream));
    const Philox r = philox(key, low, high, 2, uint32_t(stream));
    const float angle = float(rotation) * even(p.w0), k = 1.0f + float(scale) * even(p.w1);
    const float s = float(shear) * even(p.w2);
    const float cos = __builtin_cosf(angle), sin = __builtin_sinf(angle);
    const float mirror = float(flip) * even(q.w3) > 0.0f ? -1.0f : 1.0f;
    float* map = out<float>(maps) + i * kNumbers;
    map[0] = mirror * k * cos;
    map[1] = mirror * k * (s * cos - sin);
    map[2] = mirror * float(move) * even(p.w3);
    map[3] = k * sin;
    map[4] = k * (s * sin + cos);
    map[5] = float(move) * even(q.w0);
    const float gain = 1.0f + float(contrast) * even(q.w1);
    const float lighter = float(exposure) * even(r.w0);
    map[6] = gain * (1.0f + lighter);
    map[7] = (gain * lighter + float(brightness) * even(q.w2)) * float(half_range);
  }
}

void warp(WarpShape shape, const void* x, const void* maps, const void* fill, double middle,
          void* scratch, void* y) {
  with_type(shape.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    const int64_t size = shape.height * shape.width * shape.channels;
    every_image(shape, out<A>(scratch), [&](auto channels, int64_t image, A* own) {
      show<T>(shape, channels, in<T>(x) + image * size, in<float>(maps) + image * kNumbers,
              in<float>(fill), A(middle), own, out<T>(y) + image * size);
    });
  });
}

void warp_backward(WarpShape shape, const void* dy, const void* maps, void* scratch, void* dx) {
  with_type(shape.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    const int64_t size = shape.height * shape.width * shape.channels;
    every_image(shape, out<A>(scratch), [&](auto channels, int64_t image, A* own) {
      gather_back<T>(shape, channels, in<T>(dy) + image * size, in<float>(maps) + image * kNumbers,
                     own, out<T>(dx) + image * size);
    });
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
