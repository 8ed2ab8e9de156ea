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

// Shapes as in kernels/conv.py: large (images, height, width, channels); patches (images, rows,
// columns, 4, 4, channels); stride 1 or 2; float32 or float64.
struct ConvShape {
  Dtype dtype;
  int64_t images, height, width, channels, rows, columns, stride;
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
  void conv_patches(ConvShape shape, const void* large, void* patches);                            \
  void conv_fold(ConvShape shape, const void* patches, const void* bias, void* large);             \
  }

FASTINFOGAN_DECLARE(baseline)
#ifdef FASTINFOGAN_X86
FASTINFOGAN_DECLARE(avx2)
FASTINFOGAN_DECLARE(avx512)
#endif

}  // namespace fastinfogan
