// fastinfogan.kernels._native: the CPU kernels' Python module, and what choosing among them needs.
//
// torch must be imported before this module: it is compiled with OpenMP but not linked against an
// OpenMP library, so that its symbols resolve to the copy torch has loaded and both share one
// thread pool. kernels/native_module.py sees to the order; import through it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <type_traits>

#ifdef FASTINFOGAN_KERNELS
#include "codes.h"
#include "kernels.h"
#endif
#include "threads.h"

#ifdef __x86_64__
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace nb = nanobind;

namespace {

struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool avx512f = false;
  bool avx512_bf16 = false;
  bool amx_tile = false;
  bool amx_bf16 = false;
  bool neon = false;
};

#ifdef __x86_64__

// The register states that the operating system saves on a task switch (Intel SDM vol. 1, 13.3).
// An instruction set whose registers aren't saved must not be used, whatever CPUID says.
constexpr uint64_t kYmmState = 0x6;       // SSE, AVX
constexpr uint64_t kZmmState = 0xe6;      // those and opmask, both halves of ZMM
constexpr uint64_t kTileState = 0x60000;  // TILECFG, TILEDATA

uint64_t saved_states() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

// Linux lets a process use AMX tiles only once it has asked (kernel 5.16, Documentation/arch/x86/
// xstate.rst). Whether it will be granted shows in no other way; oneDNN, in torch, asks the same.
bool tiles_permitted() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return true;
#endif
}

// Whether torch is told to keep to narrower instructions: then our kernels do, too. (ATen's
// DispatchStub.cpp; it takes "default", "avx2" and "avx512".)
bool kept_to(const char* capability) {
  const char* told = std::getenv("ATEN_CPU_CAPABILITY");
  return told != nullptr && std::string(told) == capability;
}

CpuFeatures detect() {
  CpuFeatures found;
  uint32_t a, b, c, d;
  if (kept_to("default")) return found;
  const auto bit = [](uint32_t word, int index) { return (word >> index & 1) != 0; };
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return found;  // no OSXSAVE: no xgetbv
  const uint64_t saved = saved_states();
  const auto saves = [saved](uint64_t states) { return (saved & states) == states; };
  found.fma = bit(c, 12) && saves(kYmmState);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  found.avx2 = bit(b, 5) && saves(kYmmState);
  if (kept_to("avx2")) return found;
  found.avx512f = bit(b, 16) && saves(kZmmState);
  const bool avx512bw = bit(b, 30);  // which compilers take for granted where there is bfloat16
  found.amx_tile = bit(d, 24) && saves(kTileState) && tiles_permitted();
  found.amx_bf16 = bit(d, 22) && found.amx_tile;
  if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    found.avx512_bf16 = bit(a, 5) && found.avx512f && avx512bw;
  }
  return found;
}

#else

CpuFeatures detect() {
  CpuFeatures found;
#if defined(__aarch64__) || defined(__ARM_NEON)  // a part of every AArch64
  found.neon = true;
#endif
  return found;
}

#endif

nb::dict cpu_features() {
  const CpuFeatures found = detect();
  nb::dict names;
  names["avx2"] = found.avx2;
  names["fma"] = found.fma;
  names["avx512f"] = found.avx512f;
  names["avx512_bf16"] = found.avx512_bf16;
  names["amx_tile"] = found.amx_tile;
  names["amx_bf16"] = found.amx_bf16;
  names["neon"] = found.neon;
  return names;
}

// The processor's maker, as x86 names it; "" elsewhere.
std::string cpu_vendor() {
#ifdef __x86_64__
  uint32_t most, name[3];
  if (__get_cpuid(0, &most, &name[0], &name[2], &name[1])) {
    return std::string(reinterpret_cast<const char*>(name), sizeof(name));
  }
#endif
  return "";
}

#ifdef FASTINFOGAN_KERNELS

// A kernel of the widest instruction set that the CPU has.
#ifdef FASTINFOGAN_X86
#define FASTINFOGAN_BEST(KERNEL)                                                       \
  (features.avx512f && features.fma ? fastinfogan::avx512::KERNEL                      \
   : features.avx2 && features.fma  ? fastinfogan::avx2::KERNEL                        \
                                    : fastinfogan::baseline::KERNEL)
#else
#define FASTINFOGAN_BEST(KERNEL) fastinfogan::baseline::KERNEL
#endif

// The same for what is made of products, in bfloat16 too where the processor has these.
#ifdef FASTINFOGAN_AVX512_BF16
bool half_products(const CpuFeatures& features) { return features.avx512_bf16 && features.fma; }
#define FASTINFOGAN_BEST_PRODUCT(KERNEL) \
  (half_products(features) ? fastinfogan::avx512_bf16::KERNEL : FASTINFOGAN_BEST(KERNEL))
#else
bool half_products(const CpuFeatures&) { return false; }
#define FASTINFOGAN_BEST_PRODUCT(KERNEL) FASTINFOGAN_BEST(KERNEL)
#endif

// An array's address as torch's data_ptr() gives it; 0 for None.
using Address = uintptr_t;

using fastinfogan::Dtype;

// What a kernel computes in: one that isn't named here, or isn't among its own, is refused.
struct Types {
  const char* names;  // for the message
  unsigned bits;      // 1 << each

  Dtype operator()(int dtype) const {
    if (dtype >= 0 && dtype < 32 && bits >> dtype & 1) return Dtype(dtype);
    const std::string text = "dtype " + std::to_string(dtype) + "; " + names + " work";
    throw nb::value_error(text.c_str());
  }
};
constexpr unsigned kWideBits = 1u << int(Dtype::float32) | 1u << int(Dtype::float64);
constexpr Types kWide = {"float32 (0) and float64 (2)", kWideBits};
constexpr Types kAll = {"float32 (0), bfloat16 (1) and float64 (2)",
                        kWideBits | 1u << int(Dtype::bfloat16)};

// An argument as the kernel takes it.
template <class A, class P>
A given(P value, const Types& types) {
  if constexpr (std::is_enum_v<A>) return types(value);
  else return (A)value;
}

template <class A>
using Python = std::conditional_t<std::is_pointer_v<A>, Address,
                                  std::conditional_t<std::is_enum_v<A>, int, A>>;

// Turns a kernel into a function of addresses and numbers: nanobind knows no void*, nor Dtype.
template <class Result, class... Args>
void bind(nb::module_& module, const char* name, Types types, Result (*kernel)(Args...)) {
  module.def(
      name, [kernel, types](Python<Args>... args) { return kernel(given<Args>(args, types)...); },
      nb::call_guard<nb::gil_scoped_release>());
}

// The same for one that takes its sizes in a BnActShape.
template <class... Args>
void bind(nb::module_& module, const char* name, Types types,
          void (*kernel)(fastinfogan::BnActShape, Args...)) {
  module.def(
      name,
      [kernel, types](int dtype, int64_t rows, int64_t channels, int64_t groups,
                      Python<Args>... args) {
        kernel({types(dtype), rows, channels, groups}, (Args)args...);
      },
      nb::call_guard<nb::gil_scoped_release>());
}

// mi_loss, which takes its sizes in a MiLossShape, and gives where in values a category isn't one.
template <class... Args>
void bind(nb::module_& module, const char* name, Types types,
          int64_t (*kernel)(fastinfogan::MiLossShape, Args...)) {
  module.def(
      name,
      [kernel, types](int dtype, int64_t rows, int64_t columns, int64_t logits, int64_t terms,
                      int64_t parts, double log_sigma_bound, double half_log_two_pi,
                      Python<Args>... args) {
        return kernel({types(dtype), rows, columns, logits, terms, parts, log_sigma_bound,
                       half_log_two_pi},
                      (Args)args...);
      },
      nb::call_guard<nb::gil_scoped_release>());
}

// The same for one that takes them in a ConvShape.
template <class... Args>
void bind(nb::module_& module, const char* name, Types types,
          void (*kernel)(fastinfogan::ConvShape, Args...)) {
  module.def(
      name,
      [kernel, types](int dtype, int64_t images, int64_t height, int64_t width, int64_t channels,
                      int64_t rows, int64_t columns, int64_t maps, int64_t stride,
                      Python<Args>... args) {
        kernel({types(dtype), images, height, width, channels, rows, columns, maps, stride},
               (Args)args...);
      },
      nb::call_guard<nb::gil_scoped_release>());
}

// The same for one that takes them in a WarpShape.
template <class... Args>
void bind(nb::module_& module, const char* name, Types types,
          void (*kernel)(fastinfogan::WarpShape, Args...)) {
  module.def(
      name,
      [kernel, types](int dtype, int64_t images, int64_t height, int64_t width, int64_t channels,
                      int64_t parts, Python<Args>... args) {
        kernel({types(dtype), images, height, width, channels, parts}, (Args)args...);
      },
      nb::call_guard<nb::gil_scoped_release>());
}

// The same for one that takes them in a DenseShape.
template <class... Args>
void bind(nb::module_& module, const char* name, Types types,
          void (*kernel)(fastinfogan::DenseShape, Args...)) {
  module.def(
      name,
      [kernel, types](int dtype, int64_t rows, int64_t padded, int64_t layers, bool threads,
                      Python<Args>... args) {
        kernel({types(dtype), rows, padded, layers, threads}, (Args)args...);
      },
      nb::call_guard<nb::gil_scoped_release>());
}

void bind_kernels(nb::module_& module) {
  const CpuFeatures features = detect();
  const Types products = half_products(features) ? kAll : kWide;
  bind(module, "adam", kWide, FASTINFOGAN_BEST(adam));
  bind(module, "bn_act_partials", kAll, FASTINFOGAN_BEST(bn_act_partials));
  bind(module, "bn_act_forward", kAll, FASTINFOGAN_BEST(bn_act_forward));
  bind(module, "bn_act_backward_partials", kAll, FASTINFOGAN_BEST(bn_act_backward_partials));
  bind(module, "bn_act_backward", kAll, FASTINFOGAN_BEST(bn_act_backward));
  bind(module, "dense_forward", kWide, FASTINFOGAN_BEST(dense_forward));
  bind(module, "dense_backward", kWide, FASTINFOGAN_BEST(dense_backward));
  bind(module, "mi_loss", kAll, FASTINFOGAN_BEST(mi_loss));
  bind(module, "consistency", kAll, FASTINFOGAN_BEST(consistency));
  bind(module, "latents", kAll, FASTINFOGAN_BEST(latents));
  bind(module, "conv_down", products, FASTINFOGAN_BEST_PRODUCT(conv_down));
  bind(module, "conv_up", products, FASTINFOGAN_BEST_PRODUCT(conv_up));
  bind(module, "conv_up_image", products, FASTINFOGAN_BEST_PRODUCT(conv_up_image));
  bind(module, "conv_weight", products, FASTINFOGAN_BEST_PRODUCT(conv_weight));
  bind(module, "conv_weight_image", kAll, FASTINFOGAN_BEST(conv_weight_image));
  bind(module, "winograd_down", kWide, FASTINFOGAN_BEST(winograd_down));
  bind(module, "winograd_up", kWide, FASTINFOGAN_BEST(winograd_up));
  bind(module, "winograd_weight", kWide, FASTINFOGAN_BEST(winograd_weight));
  bind(module, "linear_forward", kWide, FASTINFOGAN_BEST(linear_forward));
  bind(module, "linear_backward", kWide, FASTINFOGAN_BEST(linear_backward));
  bind(module, "linear_weight", kWide, FASTINFOGAN_BEST(linear_weight));
  bind(module, "gather", kAll, FASTINFOGAN_BEST(gather));
  bind(module, "draw", kAll, FASTINFOGAN_BEST(draw));
  bind(module, "order", kAll, FASTINFOGAN_BEST(order));
  bind(module, "draw_maps", kAll, FASTINFOGAN_BEST(draw_maps));
  bind(module, "warp", kAll, FASTINFOGAN_BEST(warp));
  bind(module, "warp_backward", kAll, FASTINFOGAN_BEST(warp_backward));
}

nb::dict code_kinds() {
  nb::dict numbers;
  numbers["categorical"] = int(fastinfogan::kCategorical);
  numbers["uniform"] = int(fastinfogan::kUniform);
  numbers["gaussian"] = int(fastinfogan::kGaussian);
  numbers["bernoulli"] = int(fastinfogan::kBernoulli);
  return numbers;
}

#endif

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "CPU kernels of fastinfogan.";
  module.def("cpu_features", &cpu_features,
             nb::sig("def cpu_features() -> dict[str, bool]"),
             "Instruction sets that the CPU has and the operating system lets this process use.");
  module.def("cpu_vendor", &cpu_vendor, "The processor's maker, as x86 names it; \"\" elsewhere.");
  module.def("threads", &threads,
             "Threads that a kernel started from the calling thread runs on: torch's own number, "
             "or 1 where the module was built without OpenMP.");
#ifdef _OPENMP
  module.attr("OPENMP") = true;
#else
  module.attr("OPENMP") = false;
#endif
#ifdef FASTINFOGAN_KERNELS
  module.attr("KERNELS") = true;
  module.attr("HALF_PRODUCTS") = half_products(detect());  // else bfloat16 isn't for conv_*
  module.attr("CODE_KINDS") = code_kinds();
  module.attr("TAPS") = fastinfogan::kTaps;
  module.attr("IMAGE_CHANNELS") = fastinfogan::kImageChannels;
  module.attr("MAX_NOISE") = fastinfogan::kMaxNoise;
  module.attr("MAX_CODES") = fastinfogan::kMaxCodes;
  bind_kernels(module);
#else
  module.attr("KERNELS") = false;  // see CMakeLists.txt
#endif
}
