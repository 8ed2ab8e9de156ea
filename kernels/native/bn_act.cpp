// Batchnorm + (leaky) ReLU on the CPU. The mathematics is in kernels/bn_act.py.
//
// A pass goes over the rows in tiles, kTile rows by a few vectors of channels. A tile stays in the
// first-level cache, so the statistics take two passes over it (mean, then squares about it) and
// one over memory. Tiles are merged by the rule of Chan, Golub and LeVeque (1979). Work is shared
// out by parts of the rows and strips of the channels, so that wide layers with few rows keep all
// threads busy too.

#include "kernels.h"
#include "vector.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kTile = 64;    // rows
constexpr int64_t kStrip = 512;  // channels
constexpr int kUnroll = 4;       // vectors of channels side by side: hides the latency of sums

// Numbers in a tensor below which starting threads costs more than they save.
constexpr int64_t kSmall = 1 << 14;

// The channels of a tile: N vectors from `first` on, the last with `left` numbers unless Full.
template <class T, int N, bool Full>
struct Columns {
  static constexpr int vectors = N;
  int64_t first;
  int left;
  INLINE int lanes() const { return Full ? kLanes<T> : left; }
};

struct Range {
  int64_t first, last;
};

template <class T, class F>
INLINE void for_columns(Range strip, F f) {
  int64_t c = strip.first;
  for (; c + kUnroll * kLanes<T> <= strip.last; c += kUnroll * kLanes<T>) {
    f(Columns<T, kUnroll, true>{c, 0});
  }
  for (; c + kLanes<T> <= strip.last; c += kLanes<T>) f(Columns<T, 1, true>{c, 0});
  if (c < strip.last) f(Columns<T, 1, false>{c, int(strip.last - c)});
}

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE int64_t strips(BnActShape s) { return (s.channels + kStrip - 1) / kStrip; }

INLINE Range strip(BnActShape s, int64_t i) {
  return {i * kStrip, smaller((i + 1) * kStrip, s.channels)};
}

// Where part p of `parts` begins in `rows` rows.
INLINE int64_t part(int64_t rows, int64_t p, int64_t parts) { return rows * p / parts; }

// Part p's row k of group g: partials are (parts, 3, groups, channels).
template <class A>
INLINE A* partial(A* partials, BnActShape s, int64_t p, int k, int64_t g) {
  return partials + ((p * 3 + k) * s.groups + g) * s.channels;
}

template <class T>
void statistics(const T* x, int64_t rows, int64_t channels, Range strip, AccumulatorOf<T>* mean,
                AccumulatorOf<T>* m2) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  for (int64_t c = strip.first; c < strip.last; ++c) mean[c] = m2[c] = 0;
  for (int64_t start = 0; start < rows; start += kTile) {
    const int64_t n = smaller(kTile, rows - start);
    const A inverse = A(1) / A(n);
    const A weight = A(n) / A(start + n);  // of this tile's mean in the mean so far
    const A spread = A(start) * A(n) / A(start + n);
    for_columns<T>(strip, [&](auto columns) {
      constexpr int N = decltype(columns)::vectors;
      const int lanes = columns.lanes();
      const T* tile = x + start * channels + columns.first;
      V sum[N] = {}, squares[N] = {};
      for (int64_t r = 0; r < n; ++r) {
        for (int i = 0; i < N; ++i) sum[i] += load(tile + r * channels + i * kLanes<T>, lanes);
      }
      for (int i = 0; i < N; ++i) sum[i] *= inverse;
      for (int64_t r = 0; r < n; ++r) {
        for (int i = 0; i < N; ++i) {
          const V d = load(tile + r * channels + i * kLanes<T>, lanes) - sum[i];
          squares[i] += d * d;
        }
      }
      for (int i = 0; i < N; ++i) {
        const int64_t c = columns.first + i * kLanes<T>;
        const V before = load<A>(mean + c, lanes), d = sum[i] - before;
        store<A>(mean + c, before + d * weight, lanes);
        store<A>(m2 + c, load<A>(m2 + c, lanes) + squares[i] + d * d * spread, lanes);
      }
    });
  }
}

template <class T>
void partials_of(BnActShape s, const T* x, AccumulatorOf<T>* partials, int64_t parts) {
  using A = AccumulatorOf<T>;
#pragma omp parallel for collapse(3) schedule(static) if (s.rows * s.channels >= kSmall)
  for (int64_t g = 0; g < s.groups; ++g) {
    for (int64_t p = 0; p < parts; ++p) {
      for (int64_t i = 0; i < strips(s); ++i) {
        const int64_t first = part(s.rows, p, parts), last = part(s.rows, p + 1, parts);
        A* count = partial(partials, s, p, 0, g);
        for (int64_t c = strip(s, i).first; c < strip(s, i).last; ++c) count[c] = A(last - first);
        statistics(x + (g * s.rows + first) * s.channels, last - first, s.channels, strip(s, i),
                   partial(partials, s, p, 1, g), partial(partials, s, p, 2, g));
      }
    }
  }
}

// Merges the parts of group g, writes stats (mean, 1 / sigma) and moves the running statistics.
template <class A>
void finish_statistics(BnActShape s, Range strip, const A* partials, int64_t parts, int64_t g,
                       A* stats, A* running_mean, A* running_var, A momentum, A eps) {
  A* mean = stats + g * s.channels;
  A* m2 = stats + (s.groups + g) * s.channels;  // until the last line makes 1 / sigma of it
  for (int64_t c = strip.first; c < strip.last; ++c) mean[c] = m2[c] = 0;
  A total = 0;
  for (int64_t p = 0; p < parts; ++p) {
    const A n = partial(partials, s, p, 0, g)[strip.first];
    if (n == 0) continue;
    const A weight = n / (total + n), spread = total * weight;
    const A* mean_p = partial(partials, s, p, 1, g);
    const A* m2_p = partial(partials, s, p, 2, g);
    for (int64_t c = strip.first; c < strip.last; ++c) {
      const A d = mean_p[c] - mean[c];
      mean[c] += d * weight;
      m2[c] += m2_p[c] + d * d * spread;
    }
    total += n;
  }
  if (running_mean) {
    for (int64_t c = strip.first; c < strip.last; ++c) {
      running_mean[c] += momentum * (mean[c] - running_mean[c]);
      running_var[c] += momentum * (m2[c] / (total - 1) - running_var[c]);
    }
  }
  for (int64_t c = strip.first; c < strip.last; ++c) {
    m2[c] = A(1) / A(__builtin_sqrt(m2[c] / total + eps));
  }
}

template <class T>
void forward(BnActShape s, const T* x, const AccumulatorOf<T>* partials, int64_t parts,
             const AccumulatorOf<T>* weight, const AccumulatorOf<T>* bias,
             AccumulatorOf<T>* running_mean, AccumulatorOf<T>* running_var, T* y,
             AccumulatorOf<T>* stats, AccumulatorOf<T> slope, AccumulatorOf<T> momentum,
             AccumulatorOf<T> eps) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
#pragma omp parallel for schedule(static) if (strips(s) > 1)
  for (int64_t i = 0; i < strips(s); ++i) {
    for (int64_t g = 0; g < s.groups; ++g) {
      if (partials) {
        finish_statistics<A>(s, strip(s, i), partials, parts, g, stats, running_mean, running_var,
                             momentum, eps);
        continue;
      }
      for (int64_t c = strip(s, i).first; c < strip(s, i).last; ++c) {
        stats[g * s.channels + c] = running_mean[c];
        stats[(s.groups + g) * s.channels + c] = A(1) / A(__builtin_sqrt(running_var[c] + eps));
      }
    }
  }
  const int64_t tiles = (s.rows + kTile - 1) / kTile;
#pragma omp parallel for collapse(3) schedule(static) if (s.rows * s.channels >= kSmall)
  for (int64_t g = 0; g < s.groups; ++g) {
    for (int64_t t = 0; t < tiles; ++t) {
      for (int64_t i = 0; i < strips(s); ++i) {
        const int64_t n = smaller(kTile, s.rows - t * kTile);
        const A* mean = stats + g * s.channels;
        const A* rstd = stats + (s.groups + g) * s.channels;
        for_columns<T>(strip(s, i), [&](auto columns) {
          constexpr int N = decltype(columns)::vectors;
          const int lanes = columns.lanes();
          const int64_t offset = (g * s.rows + t * kTile) * s.channels + columns.first;
          V m[N], k[N], w[N], b[N];
          for (int i = 0; i < N; ++i) {
            const int64_t c = columns.first + i * kLanes<T>;
            m[i] = load<A>(mean + c, lanes);
            k[i] = load<A>(rstd + c, lanes);
            w[i] = load<A>(weight + c, lanes);
            b[i] = load<A>(bias + c, lanes);
          }
          for (int64_t r = 0; r < n; ++r) {
            for (int i = 0; i < N; ++i) {
              const int64_t at = offset + r * s.channels + i * kLanes<T>;
              const V u = (load(x + at, lanes) - m[i]) * k[i] * w[i] + b[i];
              store(y + at, u > 0 ? u : u * slope, lanes);
            }
          }
        });
      }
    }
  }
}

// The sums over one part's rows: g = dy act'(u), and g x_hat.
template <class T>
void backward_sums(const T* dy, const T* x, int64_t rows, int64_t channels, Range strip,
                   const AccumulatorOf<T>* mean, const AccumulatorOf<T>* rstd,
                   const AccumulatorOf<T>* weight, const AccumulatorOf<T>* bias,
                   AccumulatorOf<T> slope, AccumulatorOf<T>* sum, AccumulatorOf<T>* product) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  for (int64_t c = strip.first; c < strip.last; ++c) sum[c] = product[c] = 0;
  for (int64_t start = 0; start < rows; start += kTile) {
    const int64_t n = smaller(kTile, rows - start);
    for_columns<T>(strip, [&](auto columns) {
      constexpr int N = decltype(columns)::vectors;
      const int lanes = columns.lanes();
      const int64_t offset = start * channels + columns.first;
      V m[N], k[N], w[N], b[N], s[N] = {}, p[N] = {};
      for (int i = 0; i < N; ++i) {
        const int64_t c = columns.first + i * kLanes<T>;
        m[i] = load<A>(mean + c, lanes);
        k[i] = load<A>(rstd + c, lanes);
        w[i] = load<A>(weight + c, lanes);
        b[i] = load<A>(bias + c, lanes);
      }
      for (int64_t r = 0; r < n; ++r) {
        for (int i = 0; i < N; ++i) {
          const int64_t at = offset + r * channels + i * kLanes<T>;
          const V normal = (load(x + at, lanes) - m[i]) * k[i];
          const V d = load(dy + at, lanes);
          const V g = normal * w[i] + b[i] > 0 ? d : d * slope;
          s[i] += g;
          p[i] += g * normal;
        }
      }
      for (int i = 0; i < N; ++i) {
        const int64_t c = columns.first + i * kLanes<T>;
        store<A>(sum + c, load<A>(sum + c, lanes) + s[i], lanes);
        store<A>(product + c, load<A>(product + c, lanes) + p[i], lanes);
      }
    });
  }
}

template <class T>
void backward_partials_of(BnActShape s, const T* dy, const T* x, const AccumulatorOf<T>* weight,
                          const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats,
                          AccumulatorOf<T>* partials, int64_t parts, AccumulatorOf<T> slope) {
  using A = AccumulatorOf<T>;
#pragma omp parallel for collapse(3) schedule(static) if (s.rows * s.channels >= kSmall)
  for (int64_t g = 0; g < s.groups; ++g) {
    for (int64_t p = 0; p < parts; ++p) {
      for (int64_t i = 0; i < strips(s); ++i) {
        const int64_t first = part(s.rows, p, parts), last = part(s.rows, p + 1, parts);
        const int64_t offset = (g * s.rows + first) * s.channels;
        A* count = partial(partials, s, p, 0, g);
        for (int64_t c = strip(s, i).first; c < strip(s, i).last; ++c) count[c] = A(last - first);
        backward_sums(dy + offset, x + offset, last - first, s.channels, strip(s, i),
                      stats + g * s.channels, stats + (s.groups + g) * s.channels, weight, bias,
                      slope, partial(partials, s, p, 1, g), partial(partials, s, p, 2, g));
      }
    }
  }
}

// Sums over the parts of group g; returns the count.
template <class A>
A add_parts(BnActShape s, Range strip, const A* partials, int64_t parts, int64_t g, A* sum,
            A* product) {
  A total = 0;
  for (int64_t c = strip.first; c < strip.last; ++c) sum[c] = product[c] = 0;
  for (int64_t p = 0; p < parts; ++p) {
    total += partial(partials, s, p, 0, g)[strip.first];
    const A* sum_p = partial(partials, s, p, 1, g);
    const A* product_p = partial(partials, s, p, 2, g);
    for (int64_t c = strip.first; c < strip.last; ++c) sum[c] += sum_p[c];
    for (int64_t c = strip.first; c < strip.last; ++c) product[c] += product_p[c];
  }
  return total;
}

// Adds group g to the gradients of the parameters (this rank's), and takes the means for dx
// (everyone's; 0 in eval mode, where the statistics don't depend on x).
template <class A>
void finish_sums(BnActShape s, Range strip, const A* own, int64_t own_parts, const A* partials,
                 int64_t parts, int64_t g, A* dweight, A* dbias, A* means, bool training) {
  A* sum = means + g * s.channels;
  A* product = means + (s.groups + g) * s.channels;
  A total = add_parts(s, strip, own, own_parts, g, sum, product);
  for (int64_t c = strip.first; c < strip.last; ++c) dbias[c] += sum[c];
  for (int64_t c = strip.first; c < strip.last; ++c) dweight[c] += product[c];
  if (partials != own) total = add_parts(s, strip, partials, parts, g, sum, product);
  for (int64_t c = strip.first; c < strip.last; ++c) sum[c] = training ? sum[c] / total : A(0);
  for (int64_t c = strip.first; c < strip.last; ++c) {
    product[c] = training ? product[c] / total : A(0);
  }
}

template <class T>
void backward(BnActShape s, const T* dy, const T* x, const AccumulatorOf<T>* weight,
              const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats,
              const AccumulatorOf<T>* own, int64_t own_parts, const AccumulatorOf<T>* partials,
              int64_t parts, T* dx, AccumulatorOf<T>* dweight, AccumulatorOf<T>* dbias,
              AccumulatorOf<T>* means, AccumulatorOf<T> slope, bool training) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
#pragma omp parallel for schedule(static) if (strips(s) > 1)
  for (int64_t i = 0; i < strips(s); ++i) {
    for (int64_t c = strip(s, i).first; c < strip(s, i).last; ++c) dweight[c] = dbias[c] = 0;
    for (int64_t g = 0; g < s.groups; ++g) {
      finish_sums<A>(s, strip(s, i), own, own_parts, partials, parts, g, dweight, dbias, means,
                     training);
    }
  }
  const int64_t tiles = (s.rows + kTile - 1) / kTile;
#pragma omp parallel for collapse(3) schedule(static) if (s.rows * s.channels >= kSmall)
  for (int64_t g = 0; g < s.groups; ++g) {
    for (int64_t t = 0; t < tiles; ++t) {
      for (int64_t i = 0; i < strips(s); ++i) {
        const int64_t n = smaller(kTile, s.rows - t * kTile);
        for_columns<T>(strip(s, i), [&](auto columns) {
          constexpr int N = decltype(columns)::vectors;
          const int lanes = columns.lanes();
          const int64_t offset = (g * s.rows + t * kTile) * s.channels + columns.first;
          V m[N], k[N], w[N], b[N], mg[N], mp[N];
          for (int i = 0; i < N; ++i) {
            const int64_t c = columns.first + i * kLanes<T>, gc = g * s.channels + c;
            m[i] = load<A>(stats + gc, lanes);
            k[i] = load<A>(stats + s.groups * s.channels + gc, lanes);
            w[i] = load<A>(weight + c, lanes);
            b[i] = load<A>(bias + c, lanes);
            mg[i] = load<A>(means + gc, lanes);
            mp[i] = load<A>(means + s.groups * s.channels + gc, lanes);
          }
          for (int64_t r = 0; r < n; ++r) {
            for (int i = 0; i < N; ++i) {
              const int64_t at = offset + r * s.channels + i * kLanes<T>;
              const V normal = (load(x + at, lanes) - m[i]) * k[i];
              const V d = load(dy + at, lanes);
              const V g_ = normal * w[i] + b[i] > 0 ? d : d * slope;
              store(dx + at, V((g_ - mg[i] - normal * mp[i]) * (w[i] * k[i])), lanes);
            }
          }
        });
      }
    }
  }
}

}  // namespace

void bn_act_partials(BnActShape s, const void* x, void* partials, int64_t parts) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    partials_of<T>(s, in<T>(x), out<A>(partials), parts);
  });
}

void bn_act_forward(BnActShape s, const void* x, const void* partials, int64_t parts,
                    const void* weight, const void* bias, void* running_mean, void* running_var,
                    void* y, void* stats, double slope, double momentum, double eps) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    forward<T>(s, in<T>(x), in<A>(partials), parts, in<A>(weight), in<A>(bias),
               out<A>(running_mean), out<A>(running_var), out<T>(y), out<A>(stats), A(slope),
               A(momentum), A(eps));
  });
}

void bn_act_backward_partials(BnActShape s, const void* dy, const void* x, const void* weight,
                              const void* bias, const void* stats, void* partials, int64_t parts,
                              double slope) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    backward_partials_of<T>(s, in<T>(dy), in<T>(x), in<A>(weight), in<A>(bias), in<A>(stats),
                            out<A>(partials), parts, A(slope));
  });
}

void bn_act_backward(BnActShape s, const void* dy, const void* x, const void* weight,
                     const void* bias, const void* stats, const void* own, int64_t own_parts,
                     const void* partials, int64_t parts, void* dx, void* dweight, void* dbias,
                     void* scratch, double slope, bool training) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    backward<T>(s, in<T>(dy), in<T>(x), in<A>(weight), in<A>(bias), in<A>(stats), in<A>(own),
                own_parts, in<A>(partials), parts, out<T>(dx), out<A>(dweight), out<A>(dbias),
                out<A>(scratch), A(slope), training);
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
