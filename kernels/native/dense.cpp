// Small fully connected layers, one after the other, on the CPU. The mathematics is in
// kernels/dense/__init__.py.
//
// Inside, a map lies with a row for each feature and a column for each image, padded to whole
// vectors: all three products of a layer are then sums of a broadcast number times a vector, and no
// sum runs across one. Each number is summed in an order of its own, whatever the threads.

#include "elementary.h"
#include "product.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// A tile of the result stays in registers: rows by vectors.
#if defined(__AVX512F__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int64_t kChunk = 128;  // terms at a time: what they read stays in the first cache

// As in kernels/activation.py, which has one more.
enum Activation : int64_t { kLinear, kSlope, kSigmoid };

template <class T>
INLINE VectorOf<T> activated(VectorOf<T> u, int64_t kind, T slope) {
  if (kind == kSlope) return u > 0 ? u : u * slope;
  if (kind != kSigmoid) return u;
  const VectorOf<T> e = exp_of<T>(VectorOf<T>(u < 0 ? u : -u));
  return (u < 0 ? e : VectorOf<T>{} + T(1)) / (T(1) + e);
}

// dy times the derivative, which the result y tells.
template <class T, class V>
INLINE V derived(V dy, V y, int64_t kind, T slope) {
  if (kind == kSlope) return y > 0 ? dy : dy * slope;
  return kind == kSigmoid ? dy * y * (T(1) - y) : dy;
}

// c[m][n] = sum over k of a[m * row + k * term] * b[k][n]
template <class T>
struct Product {
  const T* a;
  int64_t row, term;
  const T* b;
  int64_t b_step;
  T* c;
  int64_t c_step;
  int64_t rows, columns, terms;
};

// M rows and N vectors of it, where `columns` are there, terms from k to `end`.
template <int M, int N, class T, class Finish>
INLINE void tile(const Product<T>& p, int64_t m, int64_t n, int64_t columns, int64_t k, int64_t end,
                 Finish finish) {
  const T *a = p.a + m * p.row + k * p.term, *b = p.b + k * p.b_step + n;
  T* c = p.c + m * p.c_step + n;
  const bool first = k == 0, last = end == p.terms;
  const int lanes = int(columns - (N - 1) * kLanes<T>);  // of the last vector
  Tile<T, M, N> tile = {};
  for (; k < end; ++k, a += p.term, b += p.b_step) {
    VectorOf<T> line[N];
    for (int j = 0; j < N; ++j) line[j] = load(b + j * kLanes<T>, j + 1 < N ? kLanes<T> : lanes);
    add_place<T>(tile, a, p.row, line);
  }
  if (!first) add_tile(tile, c, p.c_step, columns);
  for (int i = 0; i < M && last; ++i) {
    for (int j = 0; j < N; ++j) tile.sum[i][j] = finish(tile.sum[i][j], m + i, n + j * kLanes<T>);
  }
  write_tile(tile, c, p.c_step, columns);
}

template <int M, class T, class Finish>
INLINE void tiles(const Product<T>& p, int64_t m, int64_t k, int64_t end, Finish finish) {
  constexpr int kWide = kTileVectors * kLanes<T>;
  int64_t n = 0;
  for (; n + kWide <= p.columns; n += kWide) {
    tile<M, kTileVectors>(p, m, n, kWide, k, end, finish);
  }
  for (; n + kLanes<T> <= p.columns; n += kLanes<T>) tile<M, 1>(p, m, n, kLanes<T>, k, end, finish);
  if (n < p.columns) tile<M, 1>(p, m, n, p.columns - n, k, end, finish);
}

// A number of the result that stays as it is. (With a type of its own at each call, each would be
// compiled.)
struct AsItIs {
  template <class V>
  INLINE V operator()(V sum, int64_t, int64_t) const {
    return sum;
  }
};

// To be called by all threads of a team; `finish` gets each number of the result with its place.
template <class T, class Finish>
void multiply(const Product<T>& p, Finish finish) {
#pragma omp for schedule(static)
  for (int64_t block = 0; block < (p.rows + kTileRows - 1) / kTileRows; ++block) {
    for (int64_t k = 0; k < p.terms; k += kChunk) {
      const int64_t end = at_most(k + kChunk, p.terms);
      int64_t m = block * kTileRows;
      const int64_t left = at_most(kTileRows, p.rows - m);
      if (left == kTileRows) {
        tiles<kTileRows>(p, m, k, end, finish);
        continue;
      }
      const int64_t stop = m + left;
      for (; m + 4 <= stop; m += 4) tiles<4>(p, m, k, end, finish);
      for (; m < stop; ++m) tiles<1>(p, m, k, end, finish);
    }
  }
}

// The first halves of two vectors, lane by lane, or their second halves.
template <class V, int N = sizeof(V) / sizeof(V{}[0])>
INLINE V zip(V a, V b, int at) {
  if constexpr (N == 16) {
    return at ? V{a[8], b[8], a[9], b[9], a[10], b[10], a[11], b[11],
                  a[12], b[12], a[13], b[13], a[14], b[14], a[15], b[15]}
              : V{a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3],
                  a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]};
  } else if constexpr (N == 8) {
    return at ? V{a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]}
              : V{a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]};
  } else if constexpr (N == 4) {
    return at ? V{a[2], b[2], a[3], b[3]} : V{a[0], b[0], a[1], b[1]};
  } else {
    return at ? V{a[1], b[1]} : V{a[0], b[0]};
  }
}

// As many vectors as each has lanes, turned: zipped with those half of them further, once a bit.
template <class V, int N = sizeof(V) / sizeof(V{}[0])>
INLINE void turn_square(V* rows) {
  for (int bits = N; bits > 1; bits /= 2) {
    V zipped[N];
    for (int i = 0; i < N / 2; ++i) {
      zipped[2 * i] = zip(rows[i], rows[i + N / 2], 0);
      zipped[2 * i + 1] = zip(rows[i], rows[i + N / 2], 1);
    }
    for (int i = 0; i < N; ++i) rows[i] = zipped[i];
  }
}

// (rows, columns) into (columns, padded rows), the padding zeros; vectors go through `each`, which
// gets their place and how many lanes are there.
template <class T, class Each>
void turn(int64_t rows, int64_t columns, int64_t padded, T* to, Each each) {
  constexpr int kSide = kLanes<T>;
#pragma omp for schedule(static)
  for (int64_t block = 0; block < (columns + kSide - 1) / kSide; ++block) {
    const int64_t c = block * kSide;
    const int wide = int(at_most(kSide, columns - c));
    for (int64_t r = 0; r < padded; r += kSide) {
      VectorOf<T> square[kSide];
      for (int i = 0; i < kSide; ++i) {
        square[i] = VectorOf<T>{};
        if (r + i < rows) square[i] = each((r + i) * columns + c, wide);
      }
      turn_square(square);
      for (int i = 0; i < wide; ++i) store(to + (c + i) * padded + r, square[i]);
    }
  }
}

// (columns, padded rows) back into (rows, columns).
template <class T>
void turn_back(int64_t rows, int64_t columns, int64_t padded, const T* from, T* to) {
  constexpr int kSide = kLanes<T>;
#pragma omp for schedule(static)
  for (int64_t block = 0; block < (columns + kSide - 1) / kSide; ++block) {
    const int64_t c = block * kSide;
    const int wide = int(at_most(kSide, columns - c));
    for (int64_t r = 0; r < rows; r += kSide) {
      VectorOf<T> square[kSide];
      for (int i = 0; i < kSide; ++i) {
        square[i] = VectorOf<T>{};
        if (i < wide) square[i] = load(from + (c + i) * padded + r);
      }
      turn_square(square);
      const int high = int(at_most(kSide, rows - r));
      for (int i = 0; i < high; ++i) {
        if (wide == kSide) store(to + (r + i) * columns + c, square[i]);
        else store(to + (r + i) * columns + c, square[i], wide);
      }
    }
  }
}

// An address that was handed over as a number.
template <class T>
INLINE T* at(const int64_t* addresses, int64_t i) {
  return reinterpret_cast<T*>(addresses[i]);
}

int64_t widest(const int64_t* sizes, int64_t layers) {
  int64_t most = 0;
  for (int64_t i = 0; i <= layers; ++i) most = sizes[i] > most ? sizes[i] : most;
  return most;
}

template <class T>
void forward(DenseShape s, const int64_t* sizes, const int64_t* kinds, const double* slopes,
             const T* x, const int64_t* weights, const int64_t* biases, const int64_t* hidden,
             T* y) {
  const Buffer<T> input(sizes[0] * s.padded), output(sizes[s.layers] * s.padded);
#pragma omp parallel if (s.threads)
  {
    turn<T>(s.rows, sizes[0], s.padded, input.at, [&](int64_t i, int n) {
      return n == kLanes<T> ? load(x + i) : load(x + i, n);
    });
    for (int64_t l = 0; l < s.layers; ++l) {
      const T* bias = at<const T>(biases, l);
      const int64_t kind = kinds[l];
      const T slope = T(slopes[l]);
      const Product<T> product = {
          at<const T>(weights, l), sizes[l], 1, l ? at<T>(hidden, l - 1) : input.at, s.padded,
          l + 1 < s.layers ? at<T>(hidden, l) : output.at, s.padded, sizes[l + 1], s.padded,
          sizes[l]};
      multiply(product, [=](VectorOf<T> sum, int64_t m, int64_t) {
        return activated<T>(bias ? VectorOf<T>(sum + bias[m]) : sum, kind, slope);
      });
    }
    turn_back(s.rows, sizes[s.layers], s.padded, output.at, y);
  }
}

template <class T>
void backward(DenseShape s, const int64_t* sizes, const int64_t* kinds, const double* slopes,
              const T* dy, const T* x, const T* y, const int64_t* weights, const int64_t* hidden,
              T* dx, const int64_t* dweights, const int64_t* dbiases) {
  using V = VectorOf<T>;
  const int64_t most = widest(sizes, s.layers) * s.padded;
  const Buffer<T> one(most), other(most), lines(most);
#pragma omp parallel if (s.threads)
  {
    T *gradient = one.at, *next = other.at;  // feature by feature
    const int64_t kind = kinds[s.layers - 1];
    const T slope = T(slopes[s.layers - 1]);
    turn<T>(s.rows, sizes[s.layers], s.padded, gradient,
            [&](int64_t i, int n) {
              return n == kLanes<T> ? derived<T>(load(dy + i), load(y + i), kind, slope)
                                    : derived<T>(load(dy + i, n), load(y + i, n), kind, slope);
            });
    for (int64_t l = s.layers - 1; l >= 0; --l) {
      const int64_t inputs = sizes[l], outputs = sizes[l + 1];
      if (dweights) {
        if (l) turn_back(s.rows, inputs, s.padded, at<T>(hidden, l - 1), lines.at);
        const Product<T> product = {gradient, s.padded, 1, l ? lines.at : x, inputs,
                                    at<T>(dweights, l), inputs, outputs, inputs, s.rows};
        multiply(product, AsItIs());
        T* dbias = at<T>(dbiases, l);
#pragma omp for schedule(static)
        for (int64_t o = 0; o < (dbias ? outputs : 0); ++o) {
          V sum = {};
          for (int64_t r = 0; r < s.padded; r += kLanes<T>) sum += load(gradient + o * s.padded + r);
          T total = 0;
          for (int i = 0; i < kLanes<T>; ++i) total += sum[i];
          dbias[o] = total;
        }
      }
      if (!l && !dx) break;
      const Product<T> product = {at<const T>(weights, l), 1, inputs, gradient, s.padded, next,
                                  s.padded, inputs, s.padded, outputs};
      if (l) {
        const T* result = at<T>(hidden, l - 1);
        const int64_t before = kinds[l - 1], step = s.padded;
        const T below = T(slopes[l - 1]);
        multiply(product, [=](V sum, int64_t m, int64_t n) {
          return derived<T>(sum, load(result + m * step + n), before, below);
        });
      } else {
        multiply(product, AsItIs());
        turn_back(s.rows, inputs, s.padded, next, dx);
      }
      T* done = gradient;
      gradient = next;
      next = done;
    }
  }
}

}  // namespace

void dense_forward(DenseShape s, const void* sizes, const void* kinds, const void* slopes,
                   const void* x, const void* weights, const void* biases, const void* hidden,
                   void* y) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    forward<T>(s, in<int64_t>(sizes), in<int64_t>(kinds), in<double>(slopes), in<T>(x),
               in<int64_t>(weights), in<int64_t>(biases), in<int64_t>(hidden), out<T>(y));
  });
}

void dense_backward(DenseShape s, const void* sizes, const void* kinds, const void* slopes,
                    const void* dy, const void* x, const void* y, const void* weights,
                    const void* hidden, void* dx, const void* dweights, const void* dbiases) {
  with_wide_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    backward<T>(s, in<int64_t>(sizes), in<int64_t>(kinds), in<double>(slopes), in<T>(dy), in<T>(x),
                in<T>(y), in<int64_t>(weights), in<int64_t>(hidden), out<T>(dx),
                in<int64_t>(dweights), in<int64_t>(dbiases));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
