// Q's consistency and its gradient on the CPU. The mathematics is in kernels/consistency/__init__.py.
//
// Rows are taken a vector's worth at a time, as in mi_loss.cpp: a vector holds one row's logits of a
// categorical code, and the logits of all the rows of a Bernoulli one. Whatever is done to p's logits
// is done to q's by the same functions, so that equal inputs give exactly 0.

#include "elementary.h"
#include "kernels.h"
#include "terms.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

template <class T>
struct Arrays {
  using A = AccumulatorOf<T>;
  int64_t rows, columns, codes;
  const T *image, *copy;  // (rows, columns): logits of p and of q
  const Term* terms;
  A* dq;  // (rows, columns)
};

// One row's softmax over a code's logits, of which the last vector stays in registers.
template <class T>
struct Softmax {
  VectorOf<T> last, exp_last;  // logits minus the largest, -infinity after the code's; their exp
  AccumulatorOf<T> largest, sum;  // sum of exp(logit - largest)
};

// `tail`: where the last vector begins, of which `left` are the code's; `end`: of the array.
template <class T>
INLINE Softmax<T> softmax_of(const T* logits, int64_t tail, int left, const T* end) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  Softmax<T> s;
  // Where the vector ends before the array does, taking along what comes after the code's columns is
  // faster than a copy of some of the lanes.
  const bool room = end - (logits + tail) >= kLanes<T>;
  V last = room ? load(logits + tail) : load(logits + tail, left);
  last = first_lanes<A>(last, left, -A(__builtin_inf()));
  V most = last;
  for (int64_t k = 0; k < tail; k += kLanes<T>) {
    const V l = load(logits + k);
    most = most > l ? most : l;
  }
  s.largest = largest_of(most);
  s.last = last - s.largest;
  s.exp_last = exp_of<A>(s.last);
  V total = s.exp_last;
  for (int64_t k = 0; k < tail; k += kLanes<T>) {
    total += exp_of<A>(V(load(logits + k) - s.largest));
  }
  s.sum = sum_of(total);
  return s;
}

// A code's sum over rows `row` to `row + count - 1`, `count` at most a vector's lanes; writes the
// gradients, and whatever comes after them within a vector: terms come in order.
template <class T>
INLINE AccumulatorOf<T> categorical(const Arrays<T>& a, Term term, int64_t row, int count) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const A batch = A(a.rows);
  const int64_t tail = (term.width - 1) / kLanes<T> * kLanes<T>, numbers = a.rows * a.columns;
  const int left = int(term.width - tail);
  const bool inside = term.first + tail + kLanes<T> <= a.columns;
  // Of each row, sum of p (difference of the shifted logits), and the sums of both softmaxes.
  A distances[kLanes<T>] = {}, sums_p[kLanes<T>], sums_q[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) sums_p[i] = sums_q[i] = 1;
  for (int i = 0; i < count; ++i) {
    const int64_t offset = (row + i) * a.columns + term.first;
    const T *image = a.image + offset, *copy = a.copy + offset;
    A* d = a.dq + offset;
    const Softmax<T> of_p = softmax_of(image, tail, left, a.image + numbers);
    const Softmax<T> of_q = softmax_of(copy, tail, left, a.copy + numbers);
    sums_p[i] = of_p.sum;
    sums_q[i] = of_q.sum;
    // Divisions: a product would become one operation with the difference, which then isn't 0 where
    // p = q.
    const V p = of_p.exp_last / of_p.sum, q = of_q.exp_last / of_q.sum;
    V distance = first_lanes<A>(V(p * (of_p.last - of_q.last)), left, A(0));
    const V last = (q - p) / batch;
    for (int64_t k = 0; k < tail; k += kLanes<T>) {
      const V shifted_p = load(image + k) - of_p.largest, shifted_q = load(copy + k) - of_q.largest;
      const V p = exp_of<A>(shifted_p) / of_p.sum, q = exp_of<A>(shifted_q) / of_q.sum;
      distance += p * (shifted_p - shifted_q);
      store<A>(d + k, V((q - p) / batch));
    }
    if (inside) {
      store<A>(d + tail, last);
    } else {
      store<A>(d + tail, last, left);
    }
    distances[i] = sum_of(distance);
  }
  const V kl = load<A>(distances) + (log_of<A>(load<A>(sums_q)) - log_of<A>(load<A>(sums_p)));
  return sum_of(first_lanes<A>(V(kl < 0 ? V{} : kl), count, A(0)));  // rounding may go below 0
}

template <class T>
INLINE AccumulatorOf<T> bernoulli(const Arrays<T>& a, Term term, int64_t row, int count) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const int64_t offset = row * a.columns + term.first;
  const V of_p = load_strided(a.image + offset, a.columns, count);
  const V of_q = load_strided(a.copy + offset, a.columns, count);
  V p, not_p, q, not_q;  // -log p = softplus(-logit), -log(1 - p) = softplus(logit)
  const V ones = softplus<A>(V(-of_q), not_q) - softplus<A>(V(-of_p), not_p);
  const V zeros = softplus<A>(of_q, q) - softplus<A>(of_p, p);
  const V kl = p * ones + not_p * zeros;
  store_strided<A>(a.dq + offset, a.columns, V((q - p) / A(a.rows)), count);
  return sum_of(first_lanes<A>(V(kl < 0 ? V{} : kl), count, A(0)));
}

// A code that takes no part has columns all the same, unless it isn't regularised.
template <class T>
INLINE void nothing(const Arrays<T>& a, Term term, int64_t row, int count) {
  for (int i = 0; i < count; ++i) {
    auto* d = a.dq + (row + i) * a.columns + term.first;
    for (int32_t k = 0; k < term.width; ++k) d[k] = 0;
  }
}

// The sum over one part of the rows.
template <class T>
double part_of(const Arrays<T>& a, int64_t first, int64_t last) {
  double sum = 0;
  for (int64_t row = first; row < last; row += kLanes<T>) {
    const int count = int(last - row < kLanes<T> ? last - row : kLanes<T>);
    for (int64_t t = 0; t < a.codes; ++t) {
      const Term term = a.terms[t];
      if (term.kind == kCategorical) {
        sum += categorical(a, term, row, count);
      } else if (term.kind == kBernoulli) {
        sum += bernoulli(a, term, row, count);
      } else {
        nothing(a, term, row, count);
      }
    }
  }
  return sum;
}

}  // namespace

void consistency(Dtype dtype, int64_t rows, int64_t columns, int64_t codes, int64_t parts,
                 const void* q_image, const void* q_copy, const void* table, void* grads,
                 void* loss) {
  with_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    const Arrays<T> a = {rows,         columns,         codes,        in<T>(q_image),
                         in<T>(q_copy), in<Term>(table), out<A>(grads)};
    double* partials = static_cast<double*>(__builtin_alloca(parts * sizeof(double)));
#pragma omp parallel for schedule(static) if (parts > 1)
    for (int64_t p = 0; p < parts; ++p) {
      partials[p] = part_of(a, rows * p / parts, rows * (p + 1) / parts);
    }
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) sum += partials[p];
    *out<A>(loss) = A(sum / double(rows));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
