// Memory for what a kernel makes on the way.

#pragma once

#include <stdint.h>
#include <stdlib.h>

namespace {

constexpr uintptr_t kLine = 64;  // bytes of a cache line

// Room for n of W, from the beginning of a cache line on; freed at the end of the block. (Not by
// aligned_alloc, which Windows lacks.)
template <class W>
struct Buffer {
  void* all;
  W* at;
  explicit Buffer(int64_t n) : all(malloc(n * sizeof(W) + kLine)) {
    if (!all) abort();  // nothing may be thrown out of a parallel region
    at = reinterpret_cast<W*>((reinterpret_cast<uintptr_t>(all) + kLine - 1) / kLine * kLine);
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { free(all); }
};

}  // namespace
