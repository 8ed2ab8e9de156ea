// What the kernels know of latent codes, as in kernels/codes.py: tests/test_codes.py compares them
// through module.cpp.

#pragma once

#include <stdint.h>

namespace fastinfogan {

// Kinds of codes; kNone is no code at all.
enum Kind : int32_t { kNone, kCategorical, kUniform, kGaussian, kBernoulli };

constexpr int64_t kMaxNoise = 4096, kMaxCodes = 64;

}  // namespace fastinfogan
