// Philox4x32-10 on the CPU: the same numbers as kernels/philox.py.

#pragma once

#include <stdint.h>

#include "vector.h"

namespace {

// One stream per purpose: the names and numbers of kernels/philox.py.
constexpr uint32_t kStreamLatents = 0, kStreamOrder = 1;

struct Philox {
  uint32_t w0, w1, w2, w3;
};

// Written out by templates: a loop in the body would keep the caller's loop from being vectorised.
template <int Rounds>
INLINE Philox philox_rounds(Philox c, uint32_t k0, uint32_t k1) {
  if constexpr (Rounds == 0) {
    return c;
  } else {
    const uint64_t a = uint64_t(c.w0) * 0xD2511F53u, b = uint64_t(c.w2) * 0xCD9E8D57u;
    const Philox next{uint32_t(b >> 32) ^ c.w1 ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c.w3 ^ k1,
                      uint32_t(a)};
    return philox_rounds<Rounds - 1>(next, k0 + 0x9E3779B9u, k1 + 0xBB67AE85u);
  }
}

INLINE Philox philox(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  return philox_rounds<10>({c0, c1, c2, c3}, uint32_t(seed), uint32_t(seed >> 32));
}

}  // namespace
