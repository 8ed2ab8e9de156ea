// Batchnorm + (leaky) ReLU on the CPU. The mathematics is in kernels/bn_act/__init__.py.
//
// Either direction is two passes over a group of the batch: one gathers sums, the other applies
// them. A pass reads memory in its order: a few rows at a time, and along them a strip of channels
// whose sums stay in the first-level cache. Where all rows of a strip fit the second-level cache
// (layers with few rows), a strip is finished before the next is begun, and the second pass finds
// it there; elsewhere the second pass goes backwards, to begin with what the first read last.
//
// Rows are cut into parts, whose sums are merged by the rule of Chan, Golub and LeVeque (1979).
// What is added up in which order depends on the shape alone.


#include "buffer.h"
#include "kernels.h"
#include "vector.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kTile = 64;     // rows that are added up before they are added to the rest
constexpr int64_t kFirst = 8;     // rows of a part whose mean its first squares are taken about
constexpr int64_t kStrip = 256;   // channels
constexpr int kRows = 4;          // rows side by side: sums are read and written once for them all
constexpr int64_t kCached = 1 << 18;  // bytes that the second-level cache keeps until read again

// Numbers in a tensor below which starting threads costs more than they save.
constexpr int64_t kSmall = 1 << 15;

struct Range {
  int64_t first, last;
};

INLINE float root(float a) { return __builtin_sqrtf(a); }
INLINE double root(double a) { return __builtin_sqrt(a); }


INLINE int64_t strips(BnActShape s) { return (s.channels + kStrip - 1) / kStrip; }

INLINE Range strip(BnActShape s, int64_t i) {
  return {i * kStrip, at_most((i + 1) * kStrip, s.channels)};
}

// How far before it is written a line of the result is asked for: a line to be written is read
// first, and prefetchers in hardware go after reads. Where rows are longer than a strip the next
// ones may be a page apart, and would push each other out of the first-level cache.
INLINE int64_t ahead(BnActShape s) { return s.channels <= kStrip ? kRows * s.channels : 0; }

// The rows of part p of `parts`.
INLINE Range part(BnActShape s, int64_t p, int64_t parts) {
  return {s.rows * p / parts, s.rows * (p + 1) / parts};
}

// Part p's row k of group g: partials are (parts, 3, groups, channels).
template <class A>
INLINE A* partial(A* partials, BnActShape s, int64_t p, int k, int64_t g) {
  return partials + ((p * 3 + k) * s.groups + g) * s.channels;
}

// A number that is part of a type, so that loops over it unroll.
template <int N>
struct Constant {
  constexpr operator int() const { return N; }
};

// Calls f(row, rows, channel, lanes) for every vector of a strip's rows, `rows` (a constant) of
// them at once.
template <class T, class F>
INLINE void for_vectors(Range rows, Range strip, F f) {
  const auto across = [&](int64_t r, auto n) {
    int64_t c = strip.first;
    for (; c + kLanes<T> <= strip.last; c += kLanes<T>) f(r, n, c, Constant<kLanes<T>>());
    if (c < strip.last) f(r, n, c, int(strip.last - c));
  };
  int64_t r = rows.first;
  for (; r + kRows <= rows.last; r += kRows) across(r, Constant<kRows>());
  for (; r < rows.last; ++r) across(r, Constant<1>());
}

// Calls f(channel, lanes) for every vector of channels.
template <class T, class F>
INLINE void for_channels(Range strip, F f) {
  int64_t c = strip.first;
  for (; c + kLanes<T> <= strip.last; c += kLanes<T>) f(c, Constant<kLanes<T>>());
  if (c < strip.last) f(c, int(strip.last - c));
}

// Runs gather(g, p, strip) for every part of every group, then finish(g, strip) and apply(g, p,
// strip), each group after the one before it. `bytes`: read by each of the two passes per number.
template <class Gather, class Finish, class Apply>
void two_passes(BnActShape s, int64_t bytes, int64_t parts, Gather gather, Finish finish,
                Apply apply) {
  const int64_t across = strips(s), jobs = parts * across;
  const bool resident = s.rows * at_most(kStrip, s.channels) * bytes <= kCached;
#pragma omp parallel if (s.rows * s.channels >= kSmall)
  {
#ifdef _OPENMP
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
#else
    const int64_t threads = 1, thread = 0;
#endif
    const auto share = [=](int64_t n) {
      return Range{n * thread / threads, n * (thread + 1) / threads};
    };
    if (resident) {
      const Range mine = share(across);
      for (int64_t i = mine.first; i < mine.last; ++i) {
        for (int64_t g = 0; g < s.groups; ++g) {
          for (int64_t p = 0; p < parts; ++p) gather(g, p, strip(s, i));
          finish(g, strip(s, i));
          for (int64_t p = parts - 1; p >= 0; --p) apply(g, p, strip(s, i));
        }
      }
    } else {
      const Range mine = share(jobs), finished = share(across);
      for (int64_t g = 0; g < s.groups; ++g) {
        for (int64_t j = mine.first; j < mine.last; ++j) {
          gather(g, j / across, strip(s, j % across));
        }
#pragma omp barrier
        for (int64_t i = finished.first; i < finished.last; ++i) finish(g, strip(s, i));
#pragma omp barrier
        for (int64_t j = mine.last - 1; j >= mine.first; --j) {
          apply(g, j / across, strip(s, j % across));
        }
      }
    }
  }
}

// Runs gather(g, p, strip) alone.
template <class Gather>
void one_pass(BnActShape s, int64_t parts, Gather gather) {
#pragma omp parallel for collapse(3) schedule(static) if (s.rows * s.channels >= kSmall)
  for (int64_t g = 0; g < s.groups; ++g) {
    for (int64_t p = 0; p < parts; ++p) {
      for (int64_t i = 0; i < strips(s); ++i) gather(g, p, strip(s, i));
    }
  }
}

// Count, mean and M2 of part p of group g.
//
// One pass: squares are taken about the mean m of the `start` rows before a tile of n, and with
// s = sum(x - m) and q = sum((x - m)^2) the tile adds q - s^2 / (start + n) to M2. As no tile is
// longer than what came before it, s^2 / (start + n) <= q / 2: nothing cancels. The first tile has
// its own mean in the place of m.
template <class T>
void gather_statistics(BnActShape s, const T* x, AccumulatorOf<T>* partials, int64_t parts,
                       int64_t g, int64_t p, Range strip) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const Range rows = part(s, p, parts);
  A* count = partial(partials, s, p, 0, g);
  A* mean = partial(partials, s, p, 1, g);
  A* m2 = partial(partials, s, p, 2, g);
  x += g * s.rows * s.channels;
  A sums[kStrip] = {}, squares[kStrip] = {};
  A* sum = sums - strip.first;
  A* square = squares - strip.first;

  int64_t n = at_most(kFirst, rows.last - rows.first);
  for_vectors<T>({rows.first, rows.first + n}, strip, [&](int64_t r, auto m, int64_t c, auto k) {
    V total = load<A>(sum + c, k);
    for (int i = 0; i < m; ++i) total += load(x + (r + i) * s.channels + c, k);
    store<A>(sum + c, total, k);
  });
  const A inverse = A(1) / A(n);
  for (int64_t c = strip.first; c < strip.last; ++c) {
    count[c] = A(rows.last - rows.first);
    mean[c] = sum[c] * inverse;
    m2[c] = sum[c] = 0;
  }
  for (int64_t r = rows.first; r < rows.last; r += n) {
    const int64_t start = r - rows.first;
    if (start) n = at_most(at_most(kTile, start), rows.last - r);
    for_vectors<T>({r, r + n}, strip, [&](int64_t r, auto m, int64_t c, auto k) {
      const V centre = load<A>(mean + c, k);
      V total = load<A>(sum + c, k), total2 = load<A>(square + c, k);
      for (int i = 0; i < m; ++i) {
        const V d = load(x + (r + i) * s.channels + c, k) - centre;
        total += d;
        total2 += d * d;
      }
      store<A>(sum + c, total, k);
      store<A>(square + c, total2, k);
    });
    const A weight = A(1) / A(start + n);
    for (int64_t c = strip.first; c < strip.last; ++c) {
      const A d = sum[c] * weight, q = square[c] - sum[c] * d;
      mean[c] += d;
      m2[c] += q < 0 ? A(0) : q;  // by rounding; a NaN stays one
      sum[c] = square[c] = 0;
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
    m2[c] = A(1) / root(m2[c] / total + eps);
  }
}

template <class T>
void apply_forward(BnActShape s, const T* x, const AccumulatorOf<T>* weight,
                   const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats, T* y,
                   AccumulatorOf<T> slope, int64_t g, Range rows, Range strip) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const A* mean = stats + g * s.channels;
  const A* rstd = stats + (s.groups + g) * s.channels;
  A scales[kStrip];
  A* scale = scales - strip.first;
  for (int64_t c = strip.first; c < strip.last; ++c) scale[c] = rstd[c] * weight[c];
  x += g * s.rows * s.channels;
  y += g * s.rows * s.channels;
  const int64_t next = ahead(s);
  for_vectors<T>(rows, strip, [&](int64_t r, auto n, int64_t c, auto k) {
    const V centre = load<A>(mean + c, k), factor = load<A>(scale + c, k);
    const V shift = load<A>(bias + c, k);
    for (int i = 0; i < n; ++i) {
      const int64_t at = (r + i) * s.channels + c;
      const V u = (load(x + at, k) - centre) * factor + shift;
      __builtin_prefetch(y + at + next, 1);
      store(y + at, u > 0 ? u : u * slope, k);
    }
  });
}

template <class T>
void forward(BnActShape s, const T* x, int64_t parts, const AccumulatorOf<T>* all,
             int64_t all_parts, const AccumulatorOf<T>* weight, const AccumulatorOf<T>* bias,
             AccumulatorOf<T>* running_mean, AccumulatorOf<T>* running_var, T* y,
             AccumulatorOf<T>* stats, AccumulatorOf<T> slope, AccumulatorOf<T> momentum,
             AccumulatorOf<T> eps, bool training) {
  using A = AccumulatorOf<T>;
  const bool gathers = training && !all;
  const Buffer<A> own(gathers ? parts * 3 * s.groups * s.channels : 0);
  const auto gather = [&](int64_t g, int64_t p, Range strip) {
    if (gathers) gather_statistics(s, x, own.at, parts, g, p, strip);
  };
  const auto finish = [&](int64_t g, Range strip) {
    if (training) {
      finish_statistics<A>(s, strip, gathers ? own.at : all, gathers ? parts : all_parts, g,
                           stats, running_mean, running_var, momentum, eps);
      return;
    }
    for (int64_t c = strip.first; c < strip.last; ++c) {
      stats[g * s.channels + c] = running_mean[c];
      stats[(s.groups + g) * s.channels + c] = A(1) / root(running_var[c] + eps);
    }
  };
  const auto apply = [&](int64_t g, int64_t p, Range strip) {
    apply_forward(s, x, weight, bias, stats, y, slope, g, part(s, p, parts), strip);
  };
  two_passes(s, sizeof(T), parts, gather, finish, apply);
}

// Part p's sums for group g: g = dy act'(u), and g x_hat.
template <class T>
void gather_sums(BnActShape s, const T* dy, const T* x, const AccumulatorOf<T>* weight,
                 const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats,
                 AccumulatorOf<T>* partials, int64_t parts, AccumulatorOf<T> slope, int64_t g,
                 int64_t p, Range strip) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const Range rows = part(s, p, parts);
  const A* mean = stats + g * s.channels;
  const A* rstd = stats + (s.groups + g) * s.channels;
  A* count = partial(partials, s, p, 0, g);
  A* sum = partial(partials, s, p, 1, g);
  A* product = partial(partials, s, p, 2, g);
  A scales[kStrip], sums[kStrip] = {}, products[kStrip] = {};  // of a tile
  A* scale = scales - strip.first;
  A* tile_sum = sums - strip.first;
  A* tile_product = products - strip.first;
  for (int64_t c = strip.first; c < strip.last; ++c) {
    scale[c] = rstd[c] * weight[c];
    count[c] = A(rows.last - rows.first);
    sum[c] = product[c] = 0;
  }
  x += g * s.rows * s.channels;
  dy += g * s.rows * s.channels;
  for (int64_t r = rows.first; r < rows.last; r += kTile) {
    for_vectors<T>({r, at_most(r + kTile, rows.last)}, strip,
                   [&](int64_t r, auto n, int64_t c, auto k) {
      const V centre = load<A>(mean + c, k), factor = load<A>(scale + c, k);
      const V shift = load<A>(bias + c, k);
      V total = load<A>(tile_sum + c, k), total2 = load<A>(tile_product + c, k);
      for (int i = 0; i < n; ++i) {
        const int64_t at = (r + i) * s.channels + c;
        const V centred = load(x + at, k) - centre, d = load(dy + at, k);
        const V g = centred * factor + shift > 0 ? d : d * slope;
        total += g;
        total2 += g * centred;
      }
      store<A>(tile_sum + c, total, k);
      store<A>(tile_product + c, total2, k);
    });
    for (int64_t c = strip.first; c < strip.last; ++c) {
      sum[c] += tile_sum[c];
      product[c] += tile_product[c];
      tile_sum[c] = tile_product[c] = 0;
    }
  }
  for (int64_t c = strip.first; c < strip.last; ++c) product[c] *= rstd[c];
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
void finish_sums(BnActShape s, Range strip, const A* own, int64_t parts, const A* all,
                 int64_t all_parts, int64_t g, A* dweight, A* dbias, A* means, bool training) {
  A* sum = means + g * s.channels;
  A* product = means + (s.groups + g) * s.channels;
  A total = add_parts(s, strip, own, parts, g, sum, product);
  for (int64_t c = strip.first; c < strip.last; ++c) {
    dbias[c] = g ? dbias[c] + sum[c] : sum[c];
    dweight[c] = g ? dweight[c] + product[c] : product[c];
  }
  if (all != own) total = add_parts(s, strip, all, all_parts, g, sum, product);
  const A inverse = training ? A(1) / total : A(0);
  for (int64_t c = strip.first; c < strip.last; ++c) {
    sum[c] = training ? sum[c] * inverse : A(0);
    product[c] = training ? product[c] * inverse : A(0);
  }
}

template <class T>
void apply_backward(BnActShape s, const T* dy, const T* x, const AccumulatorOf<T>* weight,
                    const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats,
                    const AccumulatorOf<T>* means, T* dx, AccumulatorOf<T> slope, int64_t g,
                    Range rows, Range strip) {
  using A = AccumulatorOf<T>;
  using V = VectorOf<T>;
  const A* mean = stats + g * s.channels;
  const A* rstd = stats + (s.groups + g) * s.channels;
  const A* sum = means + g * s.channels;
  const A* product = means + (s.groups + g) * s.channels;
  // dx = scale g + tilt (x - mean) + offset
  A scales[kStrip], tilts[kStrip], offsets[kStrip];
  A* scale = scales - strip.first;
  A* tilt = tilts - strip.first;
  A* offset = offsets - strip.first;
  for (int64_t c = strip.first; c < strip.last; ++c) {
    scale[c] = rstd[c] * weight[c];
    tilt[c] = -scale[c] * (rstd[c] * product[c]);
    offset[c] = -scale[c] * sum[c];
  }
  x += g * s.rows * s.channels;
  dy += g * s.rows * s.channels;
  dx += g * s.rows * s.channels;
  const int64_t next = ahead(s);
  for_vectors<T>(rows, strip, [&](int64_t r, auto n, int64_t c, auto k) {
    const V centre = load<A>(mean + c, k), factor = load<A>(scale + c, k);
    const V shift = load<A>(bias + c, k), slant = load<A>(tilt + c, k);
    const V constant = load<A>(offset + c, k);
    for (int i = 0; i < n; ++i) {
      const int64_t at = (r + i) * s.channels + c;
      const V centred = load(x + at, k) - centre, d = load(dy + at, k);
      const V g = centred * factor + shift > 0 ? d : d * slope;
      __builtin_prefetch(dx + at + next, 1);
      store(dx + at, V(g * factor + (centred * slant + constant)), k);
    }
  });
}

template <class T>
void backward(BnActShape s, const T* dy, const T* x, const AccumulatorOf<T>* weight,
              const AccumulatorOf<T>* bias, const AccumulatorOf<T>* stats, int64_t parts,
              const AccumulatorOf<T>* own, const AccumulatorOf<T>* all, int64_t all_parts, T* dx,
              AccumulatorOf<T>* dweight, AccumulatorOf<T>* dbias, AccumulatorOf<T> slope,
              bool training) {
  using A = AccumulatorOf<T>;
  const Buffer<A> sums(own ? 0 : parts * 3 * s.groups * s.channels);
  const Buffer<A> means(2 * s.groups * s.channels);
  const auto gather = [&](int64_t g, int64_t p, Range strip) {
    if (!own) gather_sums(s, dy, x, weight, bias, stats, sums.at, parts, slope, g, p, strip);
  };
  const auto finish = [&](int64_t g, Range strip) {
    const A* mine = own ? own : sums.at;
    finish_sums<A>(s, strip, mine, parts, all ? all : mine, all_parts, g, dweight, dbias,
                   means.at, training);
  };
  const auto apply = [&](int64_t g, int64_t p, Range strip) {
    apply_backward(s, dy, x, weight, bias, stats, means.at, dx, slope, g, part(s, p, parts),
                   strip);
  };
  two_passes(s, 2 * sizeof(T), parts, gather, finish, apply);
}

}  // namespace

void bn_act_partials(BnActShape s, const void* x, void* partials, int64_t parts) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    one_pass(s, parts, [&](int64_t g, int64_t p, Range strip) {
      gather_statistics(s, in<T>(x), out<A>(partials), parts, g, p, strip);
    });
  });
}

void bn_act_forward(BnActShape s, const void* x, int64_t parts, const void* all, int64_t all_parts,
                    const void* weight, const void* bias, void* running_mean, void* running_var,
                    void* y, void* stats, double slope, double momentum, double eps,
                    bool training) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    forward<T>(s, in<T>(x), parts, in<A>(all), all_parts, in<A>(weight), in<A>(bias),
               out<A>(running_mean), out<A>(running_var), out<T>(y), out<A>(stats), A(slope),
               A(momentum), A(eps), training);
  });
}

void bn_act_backward_partials(BnActShape s, const void* dy, const void* x, const void* weight,
                              const void* bias, const void* stats, void* partials, int64_t parts,
                              double slope) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    one_pass(s, parts, [&](int64_t g, int64_t p, Range strip) {
      gather_sums(s, in<T>(dy), in<T>(x), in<A>(weight), in<A>(bias), in<A>(stats),
                  out<A>(partials), parts, A(slope), g, p, strip);
    });
  });
}

void bn_act_backward(BnActShape s, const void* dy, const void* x, const void* weight,
                     const void* bias, const void* stats, int64_t parts, const void* own,
                     const void* all, int64_t all_parts, void* dx, void* dweight, void* dbias,
                     double slope, bool training) {
  with_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    using A = AccumulatorOf<T>;
    backward<T>(s, in<T>(dy), in<T>(x), in<A>(weight), in<A>(bias), in<A>(stats), parts,
                in<A>(own), in<A>(all), all_parts, out<T>(dx), out<A>(dweight), out<A>(dbias),
                A(slope), training);
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
