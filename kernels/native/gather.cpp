// Batches of images on the CPU. The mathematics is in kernels/gather/__init__.py.

#include "kernels.h"
#include "philox.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

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

INLINE void put(float* to, float value) { *to = value; }
INLINE void put(double* to, double value) { *to = value; }
INLINE void put(bfloat16* to, float value) {  // to nearest, ties to even; never a NaN
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  to->bits = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T>
void convert(const uint8_t* from, int64_t size, AccumulatorOf<T> low, AccumulatorOf<T> scale,
             T* to) {
  using A = AccumulatorOf<T>;
  for (int64_t i = 0; i < size; ++i) put(to + i, A(from[i]) * scale + low);
}

}  // namespace

// Images are (count, size) bytes here, and the result is (batch, size).

int64_t gather(Dtype dtype, const void* images, int64_t count, int64_t size, const void* indices,
               int64_t batch, double low, double scale, void* result) {
  const int64_t* index = in<int64_t>(indices);
  for (int64_t i = 0; i < batch; ++i) {
    if (index[i] < 0 || index[i] >= count) return i;
  }
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    for (int64_t i = 0; i < batch; ++i) {
      convert<T>(in<uint8_t>(images) + index[i] * size, size, A(low), A(scale),
                 out<T>(result) + i * size);
    }
  });
  return -1;
}

void draw(Dtype dtype, const void* images, int64_t count, int64_t size, int64_t half_bits,
          const void* seed, const void* position, int64_t shift, int64_t batch, double low,
          double scale, void* result) {
  const uint64_t key = uint64_t(*in<int64_t>(seed));
  const int64_t first = int64_t(uint64_t(*in<int64_t>(position)) + uint64_t(shift));
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    for (int64_t i = 0; i < batch; ++i) {
      const int64_t index = image_at(key, first + i, count, half_bits);
      convert<T>(in<uint8_t>(images) + index * size, size, A(low), A(scale),
                 out<T>(result) + i * size);
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
