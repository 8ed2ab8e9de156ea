// Batches of images on the CPU. The mathematics is in kernels/gather/__init__.py.

#include "kernels.h"
#include "philox.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

struct Images {
  const uint8_t* pixels;  // (count, height, width, channels)
  int64_t count, height, width, channels;
};

INLINE int64_t image_at(uint64_t seed, int64_t position, int64_t count, int64_t half_bits) {
  int64_t epoch = position / count, remainder = position % count;
  if (remainder < 0) --epoch, remainder += count;
  const uint64_t mask = (uint64_t(1) << half_bits) - 1;
  uint64_t index = uint64_t(remainder);
  do {  // cycle walking
    uint64_t left = index >> half_bits, right = index & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint32_t word = philox(seed, uint32_t((right << 2) + round), uint32_t(epoch),
                                   uint32_t(uint64_t(epoch) >> 32), kStreamOrder)
                                .w0;
      const uint64_t next = left ^ (word & mask);
      left = right, right = next;
    }
    index = left << half_bits | right;
  } while (index >= uint64_t(count));
  return int64_t(index);
}

INLINE bool mirrored_at(uint64_t seed, int64_t position) {
  const uint64_t counter = uint64_t(position);
  return philox(seed, uint32_t(counter), uint32_t(counter >> 32), 0, kStreamFlip).w0 >> 31;
}

INLINE void put(float* to, float value) { *to = value; }
INLINE void put(double* to, double value) { *to = value; }
INLINE void put(bfloat16* to, float value) {  // to nearest, ties to even; never a NaN
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  to->bits = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T>
void convert(Images images, int64_t index, bool mirrored, AccumulatorOf<T> low,
             AccumulatorOf<T> scale, T* to) {
  using A = AccumulatorOf<T>;
  const int64_t channels = images.channels, line = images.width * channels;
  const int64_t size = images.height * line;
  const uint8_t* from = images.pixels + index * size;
  if (!mirrored) {
    for (int64_t i = 0; i < size; ++i) put(to + i, A(from[i]) * scale + low);
    return;
  }
  for (int64_t y = 0; y < images.height; ++y) {
    for (int64_t x = 0; x < images.width; ++x) {
      const uint8_t* pixel = from + y * line + (images.width - 1 - x) * channels;
      for (int64_t c = 0; c < channels; ++c) put(to++, A(pixel[c]) * scale + low);
    }
  }
}

}  // namespace

int64_t gather(Dtype dtype, const void* images, int64_t count, int64_t height, int64_t width,
               int64_t channels, const void* indices, const void* flip, int64_t batch, double low,
               double scale, void* result) {
  const int64_t* index = in<int64_t>(indices);
  for (int64_t i = 0; i < batch; ++i) {
    if (index[i] < 0 || index[i] >= count) return i;
  }
  const Images from{in<uint8_t>(images), count, height, width, channels};
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    for (int64_t i = 0; i < batch; ++i) {
      const bool mirrored = flip && in<uint8_t>(flip)[i];
      convert<T>(from, index[i], mirrored, A(low), A(scale),
                 out<T>(result) + i * height * width * channels);
    }
  });
  return -1;
}

void draw(Dtype dtype, const void* images, int64_t count, int64_t height, int64_t width,
          int64_t channels, int64_t half_bits, const void* seed, const void* position,
          int64_t shift, bool flip, int64_t batch, double low, double scale, void* result) {
  const Images from{in<uint8_t>(images), count, height, width, channels};
  const uint64_t key = uint64_t(*in<int64_t>(seed));
  const int64_t first = int64_t(uint64_t(*in<int64_t>(position)) + uint64_t(shift));
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    for (int64_t i = 0; i < batch; ++i) {
      convert<T>(from, image_at(key, first + i, count, half_bits),
                 flip && mirrored_at(key, first + i), A(low), A(scale),
                 out<T>(result) + i * height * width * channels);
    }
  });
}

void order(const void* positions, int64_t n, int64_t count, int64_t half_bits, const void* seed,
           void* indices) {
  const uint64_t key = uint64_t(*in<int64_t>(seed));
  for (int64_t i = 0; i < n; ++i) {
    out<int64_t>(indices)[i] = image_at(key, in<int64_t>(positions)[i], count, half_bits);
  }
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
