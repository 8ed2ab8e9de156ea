// The losses' adversarial and information terms and their gradients on the CPU. The mathematics is
// in kernels/mi_loss/__init__.py.
//
// Rows are taken a vector's worth at a time. A categorical code's logits lie side by side in memory,
// so that a vector holds one row's logits; everything else is computed for all the rows at once.

#include "elementary.h"
#include "kernels.h"
#include "terms.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

template <class T>
struct Arrays {
  using A = AccumulatorOf<T>;
  MiLossShape shape;
  const T *logits, *q_params;
  const A* values;  // (rows, terms - 1)
  const Term* terms;  // term 0 is the adversarial one, of no kind
  const A* weights;   // (terms,)
  A *dq, *dlogits;
};

// A term's sum over rows `row` to `row + count - 1`, `count` at most a vector's lanes; writes the
// gradients. `bad`: the first category that isn't one, as an index into values.
template <class T>
INLINE AccumulatorOf<T> categorical(const Arrays<T>& a, Term term, int64_t index, int64_t row,
                                    int count, AccumulatorOf<T> scale, int64_t& bad) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const int64_t columns = a.shape.columns, codes = a.shape.terms - 1;
  const T* end = a.q_params + a.shape.rows * columns;
  const int64_t tail = (term.width - 1) / kLanes<T> * kLanes<T>;  // where the last vector begins
  const int left = int(term.width - tail);
  A sums[kLanes<T>], distances[kLanes<T>] = {};  // sum of exp(l - max l); max l - l[c]
  for (int i = 0; i < kLanes<T>; ++i) sums[i] = 1;
  for (int i = 0; i < count; ++i) {
    const int64_t at = (row + i) * codes + index - 1;
    const A value = a.values[at];
    int64_t category = 0;
    if (value >= 0 && value < A(term.width) && A(int64_t(value)) == value) {
      category = int64_t(value);
    } else if (bad < 0) {
      bad = at;
    }
    const int64_t offset = (row + i) * columns + term.first;
    const T* logits = a.q_params + offset;
    A* d = a.dq + offset;
    // The last vector stays in a register. Where it ends before the array does, its load takes what
    // comes after the code's columns along: faster than a copy of some of the lanes.
    const bool room = end - (logits + tail) >= kLanes<T>;
    V last = room ? load(logits + tail) : load(logits + tail, left);
    last = first_lanes<A>(last, left, -A(__builtin_inf()));
    V most = last;
    for (int64_t k = 0; k < tail; k += kLanes<T>) {
      const V l = load(logits + k);
      most = most > l ? most : l;
    }
    const A largest = largest_of(most);
    last = exp_of<A>(V(last - largest));
    V total = last;
    for (int64_t k = 0; k < tail; k += kLanes<T>) {
      const V e = exp_of<A>(V(load(logits + k) - largest));
      store<A>(d + k, e);
      total += e;
    }
    sums[i] = sum_of(total);
    distances[i] = largest - load(logits + category, 1)[0];
    const A factor = scale / sums[i];
    for (int64_t k = 0; k < tail; k += kLanes<T>) store<A>(d + k, load<A>(d + k) * factor);
    // What a whole vector writes after the code's columns is overwritten: terms come in order.
    const bool inside = term.first + tail + kLanes<T> <= columns;
    if (inside) {
      store<A>(d + tail, V(last * factor));
    } else {
      store<A>(d + tail, V(last * factor), left);
    }
    d[category] -= scale;
  }
  const V nll = log_of<A>(load<A>(sums)) + load<A>(distances);
  return sum_of(first_lanes<A>(nll, count, A(0)));
}

template <class T>
INLINE AccumulatorOf<T> gaussian(const Arrays<T>& a, Term term, int64_t index, int64_t row,
                                 int count, AccumulatorOf<T> scale) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const int64_t columns = a.shape.columns, codes = a.shape.terms - 1;
  const int64_t offset = row * columns + term.first;
  const V value = load_strided(a.values + row * codes + index - 1, codes, count);
  const V difference = value - load_strided(a.q_params + offset, columns, count);
  V nll = V{} + A(a.shape.half_log_two_pi);
  if (term.width == 1) {  // sigma is 1
    nll += A(0.5) * difference * difference;
    store_strided<A>(a.dq + offset, columns, V(-scale * difference), count);
  } else {
    // log sigma = b tanh(s / b); tanh(x) = (1 - e^-2x) / (1 + e^-2x)
    const A bound = A(a.shape.log_sigma_bound);
    const V s = load_strided(a.q_params + offset + 1, columns, count);
    const V e = exp_of<A>(V((s < 0 ? s : -s) * (A(2) / bound)));
    const V magnitude = (A(1) - e) / (A(1) + e);
    const V log_sigma = bound * (s < 0 ? -magnitude : magnitude);
    const V inverse = exp_of<A>(V(-log_sigma));
    const V error = difference * inverse;
    nll += A(0.5) * error * error + log_sigma;
    store_strided<A>(a.dq + offset, columns, V(-scale * error * inverse), count);
    const V slope = A(1) - magnitude * magnitude;
    store_strided<A>(a.dq + offset + 1, columns, V(scale * (A(1) - error * error) * slope), count);
  }
  return sum_of(first_lanes<A>(nll, count, A(0)));
}

template <class T>
INLINE AccumulatorOf<T> bernoulli(const Arrays<T>& a, Term term, int64_t index, int64_t row,
                                  int count, AccumulatorOf<T> scale) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const int64_t columns = a.shape.columns, codes = a.shape.terms - 1;
  const int64_t offset = row * columns + term.first;
  const V value = load_strided(a.values + row * codes + index - 1, codes, count);
  const V logit = load_strided(a.q_params + offset, columns, count);
  V sigmoid;
  // softplus(l) - c l, which is this without its cancellation for c = 1
  const V nll = softplus<A>(V(-logit), sigmoid) + (A(1) - value) * logit;
  store_strided<A>(a.dq + offset, columns, V(scale * ((A(1) - value) - sigmoid)), count);
  return sum_of(first_lanes<A>(nll, count, A(0)));
}

// softplus(-real) + softplus(fake), or softplus(-logit) where there is one half only.
template <class T>
INLINE AccumulatorOf<T> adversarial(const Arrays<T>& a, int64_t row, int count,
                                    AccumulatorOf<T> scale) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  V sigmoid;
  V loss = softplus<A>(V(-load(a.logits + row, count)), sigmoid);
  store<A>(a.dlogits + row, V(-scale * sigmoid), count);
  if (a.shape.logits > a.shape.rows) {
    row += a.shape.rows;
    loss += softplus<A>(load(a.logits + row, count), sigmoid);
    store<A>(a.dlogits + row, V(scale * sigmoid), count);
  }
  return sum_of(first_lanes<A>(loss, count, A(0)));
}

// One part of the rows; returns `bad` as categorical() has it.
template <class T>
int64_t part_of(const Arrays<T>& a, int64_t first, int64_t last, double* sums) {
  using A = AccumulatorOf<T>;
  int64_t bad = -1;
  for (int64_t t = 0; t < a.shape.terms; ++t) sums[t] = 0;
  for (int64_t row = first; row < last; row += kLanes<T>) {
    const int count = int(last - row < kLanes<T> ? last - row : kLanes<T>);
    for (int64_t t = 0; t < a.shape.terms; ++t) {
      const Term term = a.terms[t];
      const A scale = a.weights[t] / A(a.shape.rows);
      switch (term.kind) {
        case kCategorical:
          sums[t] += categorical(a, term, t, row, count, scale, bad);
          break;
        case kUniform:
        case kGaussian:
          sums[t] += gaussian(a, term, t, row, count, scale);
          break;
        case kBernoulli:
          sums[t] += bernoulli(a, term, t, row, count, scale);
          break;
        case kNone:
          if (t == 0 && a.shape.logits > 0) sums[t] += adversarial(a, row, count, scale);
          break;
      }
    }
  }
  return bad;
}

template <class T>
int64_t loss(const Arrays<T>& a, AccumulatorOf<T>* means, AccumulatorOf<T>* total) {
  using A = AccumulatorOf<T>;
  const int64_t parts = a.shape.parts, terms = a.shape.terms;
  // (parts, terms): 8 KiB for 64 codes
  double* partials = static_cast<double*>(__builtin_alloca(parts * terms * sizeof(double)));
  int64_t bad = -1;
#pragma omp parallel for schedule(static) if (parts > 1) reduction(max : bad)
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t first = a.shape.rows * p / parts, last = a.shape.rows * (p + 1) / parts;
    const int64_t found = part_of(a, first, last, partials + p * terms);
    bad = found > bad ? found : bad;
  }
  double weighted = 0;
  for (int64_t t = 0; t < terms; ++t) {
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) sum += partials[p * terms + t];
    means[t] = A(sum / double(a.shape.rows));
    weighted += double(a.weights[t]) * sum / double(a.shape.rows);
  }
  *total = A(weighted);
  return bad;
}

}  // namespace

int64_t mi_loss(MiLossShape s, const void* logits, const void* q_params, const void* values,
                const void* table, const void* weights, void* grads, void* means, void* total) {
  int64_t bad = -1;
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    const Arrays<T> arrays = {s,
                              in<T>(logits),
                              in<T>(q_params),
                              in<A>(values),
                              in<Term>(table),
                              in<A>(weights),
                              out<A>(grads),
                              out<A>(grads) + s.rows * s.columns};
    bad = loss<T>(arrays, out<A>(means), out<A>(total));
  });
  return bad;
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
