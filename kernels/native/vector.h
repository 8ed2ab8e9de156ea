// SIMD vectors in GCC's and Clang's portable extension, as wide as the instruction set that the
// file is compiled for, and the storage types that they load from and store to.

#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

#define INLINE inline __attribute__((always_inline))
#define OUTLINED __attribute__((noinline))

INLINE int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t at_least(int64_t a, int64_t b) { return a < b ? b : a; }

struct bfloat16 {
  uint16_t bits;
};

template <class T>
struct Storage;

template <>
struct Storage<float> {
  using Accumulator = float;
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
};

template <>
struct Storage<double> {
  using Accumulator = double;
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
};

template <>
struct Storage<bfloat16> {
  using Accumulator = float;
  using Vector = Storage<float>::Vector;
};

template <class T>
using AccumulatorOf = typename Storage<T>::Accumulator;
template <class T>
using VectorOf = typename Storage<T>::Vector;

// Numbers in a vector.
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(AccumulatorOf<T>));

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef uint16_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));

// `lanes` numbers from p, zeros after them. Where it is a constant, the copy is one instruction.
template <class T>
INLINE VectorOf<T> load(const T* p, int lanes = kLanes<T>) {
  VectorOf<T> v = {};
  memcpy(&v, p, lanes * sizeof(T));
  return v;
}

// Each is one instruction, which GCC does not find by itself.
INLINE Words widen(HalfWords half) {
#if defined(__AVX512F__)
  return Words(_mm512_cvtepu16_epi32(__m256i(half)));
#elif defined(__AVX2__)
  return Words(_mm256_cvtepu16_epi32(__m128i(half)));
#else
  return __builtin_convertvector(half, Words);
#endif
}

// Words of at most 16 bits.
INLINE HalfWords narrow(Words words) {
#if defined(__AVX512F__)
  return HalfWords(_mm512_cvtepi32_epi16(__m512i(words)));
#elif defined(__AVX2__)
  return HalfWords(_mm_packus_epi32(_mm256_castsi256_si128(__m256i(words)),
                                    _mm256_extracti128_si256(__m256i(words), 1)));
#else
  return __builtin_convertvector(words, HalfWords);
#endif
}

template <>
INLINE VectorOf<bfloat16> load(const bfloat16* p, int lanes) {
  HalfWords half = {};
  memcpy(&half, p, lanes * sizeof(bfloat16));
  return VectorOf<bfloat16>(widen(half) << 16);
}

template <class T>
INLINE void store(T* p, VectorOf<T> v, int lanes = kLanes<T>) {
  memcpy(p, &v, lanes * sizeof(T));
}

// Rounds to nearest, ties to even; a NaN stays one.
template <>
INLINE void store(bfloat16* p, VectorOf<bfloat16> v, int lanes) {
  const Words bits = Words(v);
  const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const HalfWords half = narrow(v == v ? rounded : bits >> 16 | 0x40);
  memcpy(p, &half, lanes * sizeof(bfloat16));
}

// Calls f with a null pointer to float or double, as `dtype` says. module.cpp has refused others.
template <class F>
INLINE void with_wide_type(fastinfogan::Dtype dtype, F f) {
  if (dtype == fastinfogan::Dtype::float32) return f(static_cast<float*>(nullptr));
  if (dtype == fastinfogan::Dtype::float64) return f(static_cast<double*>(nullptr));
  abort();
}

// The same with bfloat16 among them.
template <class F>
INLINE void with_type(fastinfogan::Dtype dtype, F f) {
  if (dtype == fastinfogan::Dtype::bfloat16) return f(static_cast<bfloat16*>(nullptr));
  with_wide_type(dtype, f);
}

template <class T>
INLINE const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
INLINE T* out(void* p) {
  return static_cast<T*>(p);
}
template <class P>
struct Pointee;
template <class T>
struct Pointee<T*> {
  using Type = T;
};

}  // namespace
