// exp, log and log1p of vectors, to a few units in the last place, on the domains stated.

#pragma once

#include "vector.h"

namespace {

// What the functions below need to know of a floating-point format. The numbers of terms are those
// that leave a series an error below half a unit in the last place.
template <class A>
struct Format;

template <>
struct Format<float> {
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 23, kExpTerms = 8, kLogTerms = 5, kLog1pTerms = 8;
  static constexpr uint32_t kBias = 127, kRootOfHalf = 0x3f3504f3;
  static constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kLowest = -86.0f;  // exp of less is taken as 0
};

template <>
struct Format<double> {
  typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 52, kExpTerms = 14, kLogTerms = 11, kLog1pTerms = 17;
  static constexpr uint64_t kBias = 1023, kRootOfHalf = 0x3fe6a09e667f3bcd;
  static constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93147180369123816490e-1, kLn2Low = 1.90821492927058770e-10;
  static constexpr double kLowest = -707.0;
};

template <class A, int N>
struct Coefficients {
  A c[N];
};

// 1 / k!
template <class A, int N>
constexpr Coefficients<A, N> exponential() {
  Coefficients<A, N> table{};
  A factorial = 1;
  for (int k = 0; k < N; ++k) {
    if (k > 0) factorial *= A(k);
    table.c[k] = A(1) / factorial;
  }
  return table;
}

// 2 / (2 k + 1)
template <class A, int N>
constexpr Coefficients<A, N> odd_reciprocals() {
  Coefficients<A, N> table{};
  for (int k = 0; k < N; ++k) table.c[k] = A(2) / A(2 * k + 1);
  return table;
}

template <class V, class A, int N>
INLINE V polynomial(V x, const Coefficients<A, N>& table) {
  V sum = V{} + table.c[N - 1];
  for (int k = N - 2; k >= 0; --k) sum = sum * x + table.c[k];
  return sum;
}

// 2 atanh(s) = log((1 + s) / (1 - s))
template <class A, int N, class V>
INLINE V twice_atanh(V s) {
  constexpr auto table = odd_reciprocals<A, N>();
  return s * polynomial(s * s, table);
}

// x up to 80; 0 below kLowest; NaN stays NaN.
template <class A, class V = typename Storage<A>::Vector>
INLINE V exp_of(V x) {
  using F = Format<A>;
  using Bits = typename F::Bits;
  constexpr auto table = exponential<A, F::kExpTerms>();
  const V lowest = V{} + F::kLowest;
  const V inside = x < lowest ? lowest : x;
  const V shifted = inside * A(1.4426950408889634) + F::kShift;
  const V n = shifted - F::kShift;
  const V rest = inside - n * F::kLn2High - n * F::kLn2Low;
  // The low bits of `shifted` are those of n.
  const V power = V((Bits(shifted) + F::kBias) << F::kMantissa);
  return x < lowest ? V{} : polynomial(rest, table) * power;
}

// x from 1 to infinity (excluded); NaN stays NaN.
template <class A, class V = typename Storage<A>::Vector>
INLINE V log_of(V x) {
  using F = Format<A>;
  using Bits = typename F::Bits;
  const Bits n = (Bits(x) - F::kRootOfHalf) >> F::kMantissa;
  const V m = V(Bits(x) - (n << F::kMantissa));  // in [sqrt(1/2), sqrt(2))
  constexpr auto kInteger = (F::kBias + F::kMantissa) << F::kMantissa;  // 2^kMantissa
  const V exponent = V(n + kInteger) - A(uint64_t(1) << F::kMantissa);
  const V log_m = twice_atanh<A, F::kLogTerms>(V((m - A(1)) / (m + A(1))));
  return exponent * F::kLn2High + (exponent * F::kLn2Low + log_m) + (x - x);
}

// x from 0 to 1; NaN stays NaN.
template <class A, class V = typename Storage<A>::Vector>
INLINE V log1p_of(V x) {
  return twice_atanh<A, Format<A>::kLog1pTerms>(V(x / (x + A(2))));
}

// softplus(x) = log(1 + e^x), and its derivative, the sigmoid of x.
template <class A, class V = VectorOf<A>>
INLINE V softplus(V x, V& sigmoid) {
  const V e = exp_of<A>(V(x < 0 ? x : -x));  // of -|x|
  sigmoid = (x < 0 ? e : V{} + A(1)) / (A(1) + e);
  return (x < 0 ? V{} : x) + log1p_of<A>(e);
}

}  // namespace
