// Adam on the CPU. The mathematics is in kernels/adam/__init__.py.
//
// One pass over memory, which takes all the time: a thread has a contiguous run of blocks, and each
// block has one gradient.

#include "kernels.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Blocks below which starting threads costs more than they save.
constexpr int64_t kFew = 32;

template <class A>
struct Factors {
  A inverse_scale, beta2, weight1, weight2, eps, rate, root;
};

// The hardware's own prefetching stops at the end of a page, which a block is: asking half a page
// ahead took 7 % (one thread) to 13 % (two) off the time of 6.7 M parameters. Stores of the copy
// that pass by the caches took off no more than the noise.
template <class P>
INLINE void prefetch(P* p) {
  __builtin_prefetch(p + 512);
}

template <class V>
INLINE V square_root(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(v[0]) == 4) return V(_mm512_sqrt_ps(__m512(v)));
  else return V(_mm512_sqrt_pd(__m512d(v)));
#elif defined(__AVX2__)
  if constexpr (sizeof(v[0]) == 4) return V(_mm256_sqrt_ps(__m256(v)));
  else return V(_mm256_sqrt_pd(__m256d(v)));
#else
  for (int i = 0; i < int(sizeof(v) / sizeof(v[0])); ++i) {
    v[i] = sizeof(v[0]) == 4 ? __builtin_sqrtf(v[i]) : __builtin_sqrt(v[i]);
  }
  return v;
#endif
}

// A vector, of whose gradients `lanes` are there and the rest zeros. The other arrays go on with
// padding, whose zeros stay zeros.
template <class A, class G, bool Copy>
INLINE void update_vector(A* p, A* m, A* v, bfloat16* copy, const G* g, int lanes, Factors<A> f) {
  using V = VectorOf<A>;
  const V grad = load(g, lanes) * f.inverse_scale;
  V first = load(m), second = load(v), value = load(p);
  first += f.weight1 * (grad - first);
  second = f.beta2 * second + f.weight2 * grad * grad;
  // + 0, so that it is rounded before it is subtracted: checkpoints go on with the same bits.
  const V change = f.rate * (first / (square_root(second) * f.root + f.eps)) + V{};
  value -= change;
  store(m, first);
  store(v, second);
  store(p, value);
  if constexpr (Copy) store(copy, value);
}

template <class A, class G, bool Copy>
void update(A* p, A* m, A* v, bfloat16* copy, const G* g, int64_t size, Factors<A> f) {
  int64_t i = 0;
  for (; i + kLanes<A> <= size; i += kLanes<A>) {
    prefetch(p + i);
    prefetch(m + i);
    prefetch(v + i);
    prefetch(g + i);
    update_vector<A, G, Copy>(p + i, m + i, v + i, copy + i, g + i, kLanes<A>, f);
  }
  if (i < size) {
    update_vector<A, G, Copy>(p + i, m + i, v + i, copy + i, g + i, int(size - i), f);
  }
}

template <class A>
void adam_of(A* params, A* exp_avg, A* exp_avg_sq, bfloat16* copy, const int64_t* grads,
             const int64_t* dtypes, const int64_t* starts, const int64_t* sizes, int64_t segments,
             int64_t total, int64_t align, Factors<A> f) {
  const int64_t blocks = total / align;
#pragma omp parallel for schedule(static) if (blocks >= kFew)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t at = b * align;
    int64_t s = 0;
    while (s + 1 < segments && starts[s + 1] <= at) ++s;
    const int64_t inner = at - starts[s];
    const int64_t left = sizes[s] - inner, size = left < align ? left : align;
    with_type(Dtype(dtypes[s]), [&](auto type) {
      using G = typename Pointee<decltype(type)>::Type;
      if constexpr (sizeof(AccumulatorOf<G>) == sizeof(A)) {
        const G* g = reinterpret_cast<const G*>(grads[s]) + inner;
        A *p = params + at, *m = exp_avg + at, *v = exp_avg_sq + at;
        if constexpr (sizeof(A) == 4) {
          if (copy) return update<A, G, true>(p, m, v, copy + at, g, size, f);
        }
        update<A, G, false>(p, m, v, nullptr, g, size, f);
      }
    });
  }
}

}  // namespace

void adam(Dtype dtype, void* params, void* exp_avg, void* exp_avg_sq, void* copy, const void* grads,
          const void* dtypes, const void* starts, const void* sizes, int64_t segments,
          int64_t total, int64_t align, double inverse_scale, double beta1, double beta2,
          double eps, double rate, double root) {
  with_wide_type(dtype, [&](auto type) {
    using A = typename Pointee<decltype(type)>::Type;
    const Factors<A> f = {A(inverse_scale), A(beta2), A(1 - beta1), A(1 - beta2),
                          A(eps),           A(rate),  A(root)};
    adam_of<A>(out<A>(params), out<A>(exp_avg), out<A>(exp_avg_sq), out<bfloat16>(copy),
               in<int64_t>(grads), in<int64_t>(dtypes), in<int64_t>(starts), in<int64_t>(sizes),
               segments, total, align, f);
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
