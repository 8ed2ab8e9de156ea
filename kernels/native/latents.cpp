// Noise and latent codes on the CPU. The mathematics is in kernels/latents/__init__.py.
//
// Counters are numbered through a few rows at a time, so that the loops over them are long whatever
// the width of a row, and the compiler makes vectors of them.

#include "codes.h"
#include "kernels.h"
#include "philox.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kCounters = 1280;  // taken at once
static_assert(4 * kCounters >= kMaxNoise + 2 * kMaxCodes, "the widest row has no room");

// A row of the table that kernels/latents/layout.py makes: the code's kind, its width in G's input,
// its first column of words, and its first column of G's input.
struct Entry {
  int64_t kind, width, word, column;
};

// (word + 0.5) / 2^32, below 1, correctly rounded: only the last addition rounds.
INLINE float uniform(uint32_t word) {
  const float u = float(int32_t(word >> 16)) * 65536.0f + (float(int32_t(word & 0xffff)) + 0.5f);
  const float scaled = u * 0x1p-32f, largest = 1.0f - 0x1p-24f;
  return scaled < largest ? scaled : largest;
}

// log u to within an ulp or so: u = 2^e (1 + f), 1 + f in (sqrt(1/2), sqrt(2)), and a polynomial.
INLINE float log_of(float u) {
  uint32_t bits;
  memcpy(&bits, &u, sizeof bits);
  const uint32_t shifted = bits - 0x3f3504f3;  // sqrt(1/2)
  const int32_t exponent = int32_t(shifted) >> 23;
  bits = (shifted & 0x007fffff) + 0x3f3504f3;
  float f;
  memcpy(&f, &bits, sizeof f);
  f -= 1.0f;
  float p = 0.06971611f;  // (log(1 + f) - f + f^2 / 2) / f^3, interpolated in Chebyshev's points
  p = p * f - 0.11479734f;
  p = p * f + 0.11685420f;
  p = p * f - 0.12425687f;
  p = p * f + 0.14249058f;
  p = p * f - 0.16667802f;
  p = p * f + 0.20000716f;
  p = p * f - 0.24999997f;
  p = p * f + 0.33333331f;
  const float square = f * f;
  return float(exponent) * 0.69314718f + (f - (0.5f * square - square * f * p));
}

// Two independent normal numbers from two words (Box and Muller 1958).
INLINE void normal_pair(uint32_t word1, uint32_t word2, float* first, float* second) {
  const float radius = __builtin_sqrtf(-2.0f * log_of(uniform(word1)));
  // The angle is quarter + f quarter turns, -1/2 <= f <= 1/2, without an error.
  const float turns = 4.0f * uniform(word2);
  const int32_t quarter = int32_t(turns + 0.5f);
  const float f = turns - float(quarter), z = f * f;
  float s = 1.5820629e-4f;  // sin(pi f / 2) / f
  s = s * z - 4.6812663e-3f;
  s = s * z + 7.9692583e-2f;
  s = s * z - 6.4596410e-1f;
  s = (s * z + 1.5707963f) * f;
  float c = 9.0362806e-4f;  // cos(pi f / 2)
  c = c * z - 2.0860070e-2f;
  c = c * z + 2.5366920e-1f;
  c = c * z - 1.2337005f;
  c = c * z + 1.0f;
  const bool odd = quarter & 1;
  const float along = odd ? s : c, across = odd ? c : s;
  *first = radius * ((quarter + 1) & 2 ? -along : along);
  *second = radius * (quarter & 2 ? -across : across);
}

INLINE void convert(const float* from, int64_t n, float* to) {
  memcpy(to, from, n * sizeof(float));
}
INLINE void convert(const float* from, int64_t n, double* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
INLINE void convert(const float* from, int64_t n, bfloat16* to) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const int lanes = n - i < kLanes<float> ? int(n - i) : kLanes<float>;
    store(to + i, load(from + i, lanes), lanes);
  }
}

template <class T>
void draw(uint64_t seed, uint64_t first, int64_t batch, int64_t noise, const Entry* table,
          int64_t codes, int64_t words, int64_t width, T* inputs, float* values) {
  const int64_t blocks = (words + 3) / 4;
  const int64_t rows_at_once = kCounters / blocks;
  alignas(64) uint32_t low[kCounters], high[kCounters], block[kCounters];
  alignas(64) uint32_t drawn[kCounters * 4];
  alignas(64) float normal[kCounters * 4];
  for (int64_t start = 0; start < batch; start += rows_at_once) {
    const int64_t rows = batch - start < rows_at_once ? batch - start : rows_at_once;
    const int64_t counters = rows * blocks;
    for (int64_t r = 0; r < rows; ++r) {
      const uint64_t sample = first + uint64_t(start + r);
      for (int64_t b = 0; b < blocks; ++b) {
        low[r * blocks + b] = uint32_t(sample);
        high[r * blocks + b] = uint32_t(sample >> 32);
        block[r * blocks + b] = uint32_t(b);
      }
    }
    for (int64_t i = 0; i < counters; ++i) {
      const Philox p = philox(seed, low[i], high[i], block[i], kStreamLatents);
      drawn[4 * i] = p.w0;
      drawn[4 * i + 1] = p.w1;
      drawn[4 * i + 2] = p.w2;
      drawn[4 * i + 3] = p.w3;
    }
    for (int64_t i = 0; i < 2 * counters; ++i) {
      normal_pair(drawn[2 * i], drawn[2 * i + 1], normal + 2 * i, normal + 2 * i + 1);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const uint32_t* word = drawn + r * blocks * 4;
      const float* gaussian = normal + r * blocks * 4;
      T* input = inputs + (start + r) * width;
      convert(gaussian, noise, input);
      for (int64_t j = noise; j < width; ++j) input[j] = T{};
      for (int64_t i = 0; i < codes; ++i) {
        const Entry code = table[i];
        float value = 0.0f;
        int64_t category = 0;
        switch (code.kind) {
          case kCategorical:
            category = int64_t(uint64_t(word[code.word]) * uint64_t(code.width) >> 32);
            value = float(category);
            break;
          case kUniform:
            value = 2.0f * uniform(word[code.word]) - 1.0f;
            break;
          case kGaussian:
            value = gaussian[code.word];
            break;
          case kBernoulli:
            value = float(word[code.word] >> 31);
            break;
        }
        values[(start + r) * codes + i] = value;
        const float shown = code.kind == kCategorical ? 1.0f : value;
        convert(&shown, 1, input + code.column + category);
      }
    }
  }
}

}  // namespace

void latents(Dtype dtype, const void* seed, const void* offset, int64_t shift, int64_t batch,
             int64_t noise, const void* table, int64_t codes, int64_t words, int64_t width,
             void* inputs, void* values) {
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    draw<T>(uint64_t(*in<int64_t>(seed)), uint64_t(*in<int64_t>(offset)) + uint64_t(shift), batch,
            noise, in<Entry>(table), codes, words, width, out<T>(inputs), out<float>(values));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
