// How many threads a parallel region gets.

#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

// Of work for each thread, where it is cut, so that none waits long for the others.
constexpr int kUnits = 4;

// Torch's own number, or 1 where this is compiled without OpenMP.
inline int threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace
