// The CPU kernels' entry points. Each is compiled once per instruction set, in a namespace of that
// name (CMakeLists.txt), and module.cpp calls the best one that the CPU has.
//
// Sources behind this header include nothing of the C++ library: an inline function of it, compiled
// for AVX-512, could be the copy that the linker keeps for everyone.

#pragma once

#include <stdint.h>

namespace fastinfogan {

enum class Dtype : int { float32, bfloat16, float64 };

// Shapes as in kernels/bn_act/triton_kernels.py: x, y, dy, dx (groups, rows, channels) of the storage
// type; all other arrays of the accumulator type: float, or double where the storage type is double.
struct BnActShape {
  Dtype dtype;
  int64_t rows, channels, groups;
};

// Adam's params, exp_avg, exp_avg_sq: (total,) of dtype, float or double; copy: (total,) bfloat16 or
// null. Per segment, in arrays of int64: a gradient's address and Dtype (with double: double), where
// the segment begins, a multiple of align, and its size. rate is lr / (1 - beta1^t), root
// 1 / sqrt(1 - beta2^t).

// Shapes as in kernels/mi_loss/__init__.py: q_params (rows, columns); logits of `logits` numbers, 0,
// rows or 2 rows; `terms` losses, the adversarial one and the codes'; rows are cut into `parts`. The
// constants are those of kernels/codes.py.
struct MiLossShape {
  Dtype dtype;
  int64_t rows, columns, logits, terms, parts;
  double log_sigma_bound, half_log_two_pi;
};

// Shapes as in kernels/conv/__init__.py: large (images, height, width, channels); small (images,
// rows, columns, maps); weight (maps, kTaps, kTaps, channels); stride 1 or 2. x, or null: like the
// result, which then is the gradient of what a slope made x of; y, or null: like small, the same.
// winograd_*: the same with fewer products, in float or double.
constexpr int kTaps = 4, kImageChannels = 4;  // TAPS and IMAGE_CHANNELS of kernels/conv/layout.py
struct ConvShape {
  Dtype dtype;
  int64_t images, height, width, channels, rows, columns, maps, stride;
};

// Shapes as in kernels/warp/__init__.py: x, y, dy, dx (images, height, width, channels) of the storage
// type; maps (images, 8), fill (channels,) float. Images are cut into `parts`, each with a scratch of
// (height + 5, width + 4, channels) of the accumulator type.
struct WarpShape {
  Dtype dtype;
  int64_t images, height, width, channels, parts;
};

// Shapes as in kernels/dense/__init__.py: layers of (sizes[l + 1], sizes[l]) weights; x, y, dy, dx
// (rows, features), hidden maps (features, padded). Addresses come in arrays of int64, 0 for none.
struct DenseShape {
  Dtype dtype;
  int64_t rows, padded, layers;
  bool threads;  // worth more than one
};

#define FASTINFOGAN_DECLARE(ISA)                                                                   \
  namespace ISA {                                                                                  \
  void bn_act_partials(BnActShape shape, const void* x, void* partials, int64_t parts);            \
  void bn_act_forward(BnActShape shape, const void* x, int64_t parts, const void* all,             \
                      int64_t all_parts, const void* weight, const void* bias, void* running_mean, \
                      void* running_var, void* y, void* stats, double slope, double momentum,      \
                      double eps, bool training);                                                  \
  void bn_act_backward_partials(BnActShape shape, const void* dy, const void* x,                   \
                                const void* weight, const void* bias, const void* stats,           \
                                void* partials, int64_t parts, double slope);                      \
  void bn_act_backward(BnActShape shape, const void* dy, const void* x, const void* weight,        \
                       const void* bias, const void* stats, int64_t parts, const void* own,        \
                       const void* all, int64_t all_parts, void* dx, void* dweight, void* dbias,   \
                       double slope, bool training);                                               \
  void adam(Dtype dtype, void* params, void* exp_avg, void* exp_avg_sq, void* copy,                \
            const void* grads, const void* dtypes, const void* starts, const void* sizes,          \
            int64_t segments, int64_t total, int64_t align, double inverse_scale, double beta1,    \
            double beta2, double eps, double rate, double root);                                   \
  int64_t mi_loss(MiLossShape shape, const void* logits, const void* q_params, const void* values, \
                  const void* table, const void* weights, void* grads, void* means, void* total);  \
  void consistency(Dtype dtype, int64_t rows, int64_t columns, int64_t codes, int64_t parts,       \
                   const void* q_image, const void* q_copy, const void* table, void* grads,        \
                   void* loss);                                                                    \
  void dense_forward(DenseShape shape, const void* sizes, const void* kinds, const void* slopes,   \
                     const void* x, const void* weights, const void* biases, const void* hidden,   \
                     void* y);                                                                     \
  void dense_backward(DenseShape shape, const void* sizes, const void* kinds, const void* slopes,  \
                      const void* dy, const void* x, const void* y, const void* weights,           \
                      const void* hidden, void* dx, const void* dweights, const void* dbiases);    \
  void latents(Dtype dtype, const void* seed, const void* offset, int64_t shift, int64_t batch,    \
               int64_t noise, const void* table, int64_t codes, int64_t words, int64_t width,      \
               void* inputs, void* values);                                                        \
  void linear_forward(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs,               \
                      const void* x, const void* weight, const void* bias, void* y);               \
  void linear_backward(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs,              \
                       const void* dy, const void* weight, void* dx);                              \
  void linear_weight(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs,                \
                     const void* dy, const void* x, void* dweight);                                \
  void winograd_down(ConvShape shape, const void* large, const void* weight, const void* bias,     \
                     const void* x, void* small, double slope);                                    \
  void winograd_up(ConvShape shape, const void* small, const void* weight, const void* bias,       \
                   const void* x, void* large, double slope);                                      \
  void winograd_weight(ConvShape shape, const void* large, const void* small, void* gradient);     \
  void conv_weight_image(ConvShape shape, const void* large, const void* small, const void* y,     \
                         void* gradient, void* bias, double slope);                                \
  int64_t gather(Dtype dtype, const void* images, int64_t count, int64_t size,                     \
                 const void* indices, int64_t batch, double low, double scale, void* result);      \
  void draw(Dtype dtype, const void* images, int64_t count, int64_t size, int64_t half_bits,       \
            const void* seed, const void* position, int64_t shift, int64_t batch, double low,      \
            double scale, void* result);                                                           \
  void order(const void* positions, int64_t n, int64_t count, int64_t half_bits,                   \
             const void* seed, void* indices);                                                     \
  void draw_maps(const void* seed, const void* offset, int64_t shift, int64_t batch,               \
                 int64_t stream, double rotation, double scale, double shear, double move,         \
                 double brightness, double contrast, double exposure, double flip,                 \
                 double half_range, void* maps);                                                   \
  void warp(WarpShape shape, const void* x, const void* maps, const void* fill, double middle,     \
            void* scratch, void* y);                                                               \
  void warp_backward(WarpShape shape, const void* dy, const void* maps, void* scratch, void* dx);  \
  }

// What is made of products, which a processor with bfloat16 arithmetic has besides.
#define FASTINFOGAN_DECLARE_PRODUCTS(ISA)                                                          \
  namespace ISA {                                                                                  \
  void conv_down(ConvShape shape, const void* large, const void* weight, const void* bias,         \
                 const void* x, void* small, double slope);                                        \
  void conv_up(ConvShape shape, const void* small, const void* weight, const void* bias,           \
               const void* x, void* large, double slope);                                          \
  void conv_up_image(ConvShape shape, const void* small, const void* weight, const void* bias,     \
                     void* large);                                                                 \
  void conv_weight(ConvShape shape, const void* large, const void* small, void* gradient);         \
  }

FASTINFOGAN_DECLARE(baseline)
FASTINFOGAN_DECLARE_PRODUCTS(baseline)
#ifdef FASTINFOGAN_X86
FASTINFOGAN_DECLARE(avx2)
FASTINFOGAN_DECLARE_PRODUCTS(avx2)
FASTINFOGAN_DECLARE(avx512)
FASTINFOGAN_DECLARE_PRODUCTS(avx512)
#endif
#ifdef FASTINFOGAN_AVX512_BF16
FASTINFOGAN_DECLARE_PRODUCTS(avx512_bf16)
#endif

}  // namespace fastinfogan
