// What the losses of Q's output share: the table of the codes' columns, and what is done with a
// vector's lanes.

#pragma once

#include "codes.h"
#include "elementary.h"

namespace {

// A row of the table that a layout.py makes: the code's kind, and its columns in Q's output, which
// begin at `first`.
struct Term {
  int32_t kind, first, width;
};

// The lanes combined to one number, by halves.
template <class V, class F>
INLINE auto combine(V v, F f) {
  using A = decltype(V{}[0] + V{}[0]);
  if constexpr (sizeof(V) > 16) {
    typedef A Half __attribute__((vector_size(sizeof(V) / 2)));
    Half low, high;
    memcpy(&low, &v, sizeof(Half));
    memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(Half), sizeof(Half));
    return combine(f(low, high), f);
  } else if constexpr (sizeof(A) == 4) {
    return f(f(v[0], v[1]), f(v[2], v[3]));
  } else {
    return f(v[0], v[1]);
  }
}

template <class V>
INLINE auto sum_of(V v) {
  return combine(v, [](auto a, auto b) { return a + b; });
}

template <class V>
INLINE auto largest_of(V v) {
  return combine(v, [](auto a, auto b) { return a > b ? a : b; });
}

// The first `lanes` of v, and `other` after them.
template <class A, class V = VectorOf<A>>
INLINE V first_lanes(V v, int lanes, A other) {
  typename Format<A>::Bits index = {};
  for (int i = 0; i < kLanes<A>; ++i) index[i] = i;
  return index < typename Format<A>::Bits{} + lanes ? v : V{} + other;
}

// `count` numbers that are `stride` apart, one per lane; 0 after them.
template <class T>
INLINE VectorOf<T> load_strided(const T* p, int64_t stride, int count) {
  AccumulatorOf<T> lanes[kLanes<T>] = {};
  for (int i = 0; i < count; ++i) lanes[i] = load(p + i * stride, 1)[0];
  return load<AccumulatorOf<T>>(lanes);
}

template <class A, class V = VectorOf<A>>
INLINE void store_strided(A* p, int64_t stride, V v, int count) {
  for (int i = 0; i < count; ++i) p[i * stride] = v[i];
}

}  // namespace
