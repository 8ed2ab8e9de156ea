// Fully connected layers on the CPU. The mathematics is in kernels/linear/__init__.py.
//
// Three products whose large matrix is read in the order of its memory: forward, rows of the weight
// are a tile's rows and samples its columns, so that the result is turned as it is written; going
// back to the inputs, and for the gradient, columns are inputs. Strips or tiles of the large matrix
// are shared among threads; each sum runs in one order, whoever has it.

#include "product.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

// Words of the sum that are packed at a time: a strip of columns stays in the second-level cache.
constexpr int64_t kChunk = 1024;

// Matrices by rows: x (samples, inputs), y (samples, outputs), weight (outputs, inputs).
struct Layer {
  int64_t samples, inputs, outputs;
};

// Packs rows first ... last - 1 of a matrix as lines.
template <class T>
INLINE void pack_rows(const T* matrix, int64_t deep, const Share& rows, WordOf<T>* to) {
  for (int64_t r = rows.first; r < rows.last; ++r) {
    pack_run(matrix + r * deep, deep, to + (r - rows.first) * kBlock);
  }
}

template <class T>
void forward(const Layer& l, const T* x, const T* weight, const T* bias, T* y) {
  const int64_t tiles = pieces(l.outputs, kRows);
  const Columns<T> shape = {1, l.inputs, l.samples, 0, 1, l.inputs};  // x, turned
  const Buffer<WordOf<T>> columns(shape.strips() * shape.words());
#pragma omp parallel if (l.samples * l.inputs * l.outputs >= kFew)
  {
    const Buffer<WordOf<T>> rows(shape.blocks() * kRowsBlock<kLines>);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < shape.strips(); ++j) shape.pack(x, j, 0, columns.at);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < tiles; ++i) {
      const Share here(l.outputs, i, tiles);
      pack_rows(weight, l.inputs, here, rows.at);
      for (int64_t j = 0; j < shape.strips(); ++j) {
        T sums[kRows * kColumns<T>];
        multiply_tile<T, kLines>(rows.at, here.size(), columns.at + j * shape.words(), kColumns<T>,
                                 shape.blocks(), false, sums, kColumns<T>);
        const int64_t first = j * kColumns<T>;
        for (int64_t c = 0; c < kColumns<T> && first + c < l.samples; ++c) {
          T* to = y + (first + c) * l.outputs + here.first;
          for (int64_t r = 0; r < here.size(); ++r) {
            const T shift = bias ? bias[here.first + r] : T{};
            to[r] = sums[r * kColumns<T> + c] + shift;
          }
        }
      }
    }
  }
}

// dx = dy weight.
template <class T>
void backward(const Layer& l, const T* dy, const T* weight, T* dx) {
  const int64_t tiles = pieces(l.samples, kRows), blocks = pieces(l.outputs, kDeep<T>);
  const int64_t strips = pieces(l.inputs, kColumns<T>), words = blocks * kRowsBlock<kLines>;
  const Buffer<WordOf<T>> rows(tiles * words);
#pragma omp parallel if (l.samples * l.inputs * l.outputs >= kFew)
  {
    const Buffer<WordOf<T>> columns(kChunk * kColumns<T>);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles; ++i) {
      pack_rows(dy, l.outputs, Share(l.samples, i, tiles), rows.at + i * words);
    }
#pragma omp for schedule(dynamic)
    for (int64_t j = 0; j < strips; ++j) {
      const int64_t first = j * kColumns<T>, wide = at_most(kColumns<T>, l.inputs - first);
      for (int64_t k = 0; k < l.outputs; k += kChunk) {
        const int64_t deep = at_most(kChunk, l.outputs - k);
        pack_columns(weight + k * l.inputs + first, deep, l.inputs, wide, 1, columns.at);
        for (int64_t i = 0; i < tiles; ++i) {
          const Share here(l.samples, i, tiles);
          multiply_tile<T, kLines>(rows.at + i * words + k / kDeep<T> * kRowsBlock<kLines>,
                                   here.size(), columns.at, wide, pieces(deep, kDeep<T>), k > 0,
                                   dx + here.first * l.inputs + first, l.inputs);
        }
      }
    }
  }
}

// dweight = dy^T x.
template <class T>
void gradient(const Layer& l, const T* dy, const T* x, T* dweight) {
  const int64_t tiles = pieces(l.outputs, kRows), blocks = pieces(l.samples, kDeep<T>);
  const int64_t strips = pieces(l.inputs, kColumns<T>), words = blocks * kRowsBlock<kAcross>;
  const Buffer<WordOf<T>> rows(tiles * words);
#pragma omp parallel if (l.samples * l.inputs * l.outputs >= kFew)
  {
    const Buffer<WordOf<T>> columns(blocks * kBlock * kColumns<T>);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles; ++i) {
      const Share here(l.outputs, i, tiles);
      WordOf<T>* to = rows.at + i * words;
      memset(to, 0, words * sizeof(WordOf<T>));
      for (int64_t k = 0; k < l.samples; ++k) {
        memcpy(to + k * kAcrossLine, dy + k * l.outputs + here.first,
               (here.last - here.first) * sizeof(T));
      }
    }
#pragma omp for schedule(dynamic)
    for (int64_t j = 0; j < strips; ++j) {
      const int64_t first = j * kColumns<T>, wide = at_most(kColumns<T>, l.inputs - first);
      pack_columns(x + first, l.samples, l.inputs, wide, 1, columns.at);
      for (int64_t i = 0; i < tiles; ++i) {
        const Share here(l.outputs, i, tiles);
        multiply_tile<T, kAcross>(rows.at + i * words, here.size(), columns.at, wide, blocks, false,
                                  dweight + here.first * l.inputs + first, l.inputs);
      }
    }
  }
}

}  // namespace

void linear_forward(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs, const void* x,
                    const void* weight, const void* bias, void* y) {
  with_wide_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    forward<T>({samples, inputs, outputs}, in<T>(x), in<T>(weight), in<T>(bias), out<T>(y));
  });
}

void linear_backward(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs, const void* dy,
                     const void* weight, void* dx) {
  with_wide_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    backward<T>({samples, inputs, outputs}, in<T>(dy), in<T>(weight), out<T>(dx));
  });
}

void linear_weight(Dtype dtype, int64_t samples, int64_t inputs, int64_t outputs, const void* dy,
                   const void* x, void* dweight) {
  with_wide_type(dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    gradient<T>({samples, inputs, outputs}, in<T>(dy), in<T>(x), out<T>(dweight));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
