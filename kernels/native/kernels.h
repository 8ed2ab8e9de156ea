// The CPU kernels' entry points. Each is compiled once per instruction set, in a namespace of that
// name (CMakeLists.txt), and module.cpp calls the best one that the CPU has.
//
// Sources behind this header include nothing of the C++ library: an inline function of it, compiled
// for AVX-512, could be the copy that the linker keeps for everyone.

#pragma once

#include <stdint.h>

namespace fastinfogan {

enum class Dtype : int { float32, bfloat16, float64 };

// Shapes as in kernels/bn_act.py: x, y, dy, dx (groups, rows, channels) of the storage type; all
// other arrays of the accumulator type: float, or double where the storage type is double.
struct BnActShape {
  Dtype dtype;
  int64_t rows, channels, groups;
};

#define FASTINFOGAN_DECLARE(ISA)                                                                   \
  namespace ISA {                                                                                  \
  void bn_act_partials(BnActShape shape, const void* x, void* partials, int64_t parts);            \
  void bn_act_forward(BnActShape shape, const void* x, const void* partials, int64_t parts,        \
                      const void* weight, const void* bias, void* running_mean, void* running_var, \
                      void* y, void* stats, double slope, double momentum, double eps);            \
  void bn_act_backward_partials(BnActShape shape, const void* dy, const void* x,                   \
                                const void* weight, const void* bias, const void* stats,           \
                                void* partials, int64_t parts, double slope);                      \
  void bn_act_backward(BnActShape shape, const void* dy, const void* x, const void* weight,        \
                       const void* bias, const void* stats, const void* own, int64_t own_parts,    \
                       const void* partials, int64_t parts, void* dx, void* dweight, void* dbias,  \
                       void* scratch, double slope, bool training);                                \
  void latents(Dtype dtype, const void* seed, const void* offset, int64_t shift, int64_t batch,    \
               int64_t noise, const void* table, int64_t codes, int64_t words, int64_t width,      \
               void* inputs, void* values);                                                        \
  int64_t gather(Dtype dtype, const void* images, int64_t count, int64_t height, int64_t width,    \
                 int64_t channels, const void* indices, const void* flip, int64_t batch,           \
                 double low, double scale, void* result);                                          \
  void draw(Dtype dtype, const void* images, int64_t count, int64_t height, int64_t width,         \
            int64_t channels, int64_t half_bits, const void* seed, const void* position,           \
            int64_t shift, bool flip, int64_t batch, double low, double scale, void* result);      \
  void order(const void* positions, int64_t n, int64_t count, int64_t half_bits,                   \
             const void* seed, void* indices);                                                     \
  }

FASTINFOGAN_DECLARE(baseline)
#ifdef FASTINFOGAN_X86
FASTINFOGAN_DECLARE(avx2)
FASTINFOGAN_DECLARE(avx512)
#endif

}  // namespace fastinfogan
