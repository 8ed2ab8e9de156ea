// The gradient of a convolution's weight on the CPU. The mathematics is in kernels/conv/__init__.py.
//
// For each tap the gradient is a product whose sum runs over pixels. A block of the sum is one pixel
// of the small map in several images, which have the same taps there: where a tap leads out of the
// large map, the block is left out. The small map's pixels are packed once for several taps. Sums
// run to their end in the accumulator type, in an order that the shape decides.

#include "product.h"
#include "threads.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int kPixels = 16;  // of an image that are packed at a time

// Images of a block.
template <class T>
constexpr int kImages = kDeep<T>;

// A map, and which of its channels are a factor: `first` ... .
template <class T>
struct Factor {
  const T* map;
  const T* end;
  int64_t image, channels, first;  // numbers of an image, of a pixel
};

// A vector of channels. Where the map goes on, what follows is read with them: that costs less than
// leaving it out, and makes sums that nobody looks at.
template <class T>
INLINE void read(const Factor<T>& factor, const T* from, T* to) {
  if (from + kLanes<T> <= factor.end) {
    memcpy(to, from, kLanes<T> * sizeof(T));
  } else {
    memset(to, 0, kLanes<T> * sizeof(T));
    if (from < factor.end) memcpy(to, from, (factor.end - from) * sizeof(T));
  }
}

// Packs a block, `width` words a line: a pixel of `count` images from the first on.
template <class T>
INLINE void pack(const Factor<T>& factor, int64_t image, int64_t count, int64_t pixel,
                 int64_t width, WordOf<T>* to) {
  constexpr int kNumbers = Packed<T>::kNumbers;
  const T* from = factor.map + image * factor.image + pixel * factor.channels + factor.first;
  for (int k = 0; k < kBlock; ++k, from += kNumbers * factor.image, to += width) {
    if (k * kNumbers >= count) {
      memset(to, 0, width * sizeof(WordOf<T>));
      continue;
    }
    for (int64_t c = 0; c < width; c += kLanes<T>) {
      T numbers[kNumbers][kLanes<T>] = {};
      read(factor, from + c, numbers[0]);
      if constexpr (kNumbers == 1) {
        memcpy(to + c, numbers, sizeof(numbers));
      } else {
        if (k * kNumbers + 1 < count) read(factor, from + factor.image + c, numbers[1]);
        const Words line = widen(words_at<HalfWords>(numbers[0])) |
                           widen(words_at<HalfWords>(numbers[1])) << 16;
        memcpy(to + c, &line, sizeof(line));
      }
    }
  }
}

template <class T>
void weight_of(const ConvShape& s, const T* large, const T* small, T* gradient) {
  using A = AccumulatorOf<T>;
  constexpr int64_t kTile = kRows * kColumns<T>, kRowsBlock = kBlock * kBlock;
  constexpr int64_t kColumnsBlock = kBlock * kColumns<T>;
  const int64_t tiles = pieces(s.maps, kRows), strips = pieces(s.channels, kColumns<T>);
  const int64_t pixels = s.rows * s.columns, images = pieces(s.images, kImages<T>);
  // How the work is shared has no part in the results.
  const int64_t together = threads() <= 4 ? 2 : 1;  // taps
  const int64_t groups = at_most(pieces(threads(), kTaps * kTaps), tiles);
  const Buffer<A> sums(kTaps * kTaps * tiles * strips * kTile);

  const auto unit = [&](int64_t tap, const Share& mine, WordOf<T>* rows, WordOf<T>* columns) {
    const int64_t some = mine.last - mine.first;
    A* first_sum = sums.at + (tap * tiles + mine.first * together) * strips * kTile;
    memset(first_sum, 0, together * some * strips * kTile * sizeof(A));
    for (int64_t image = 0; image < s.images; image += kImages<T>) {
      const int64_t count = at_most(kImages<T>, s.images - image);
      for (int64_t first = 0; first < pixels; first += kPixels) {
        const int64_t last = at_most(first + kPixels, pixels);
        for (int64_t t = 0; t < some; ++t) {
          const Share maps(s.maps, mine.first + t, tiles);
          const Factor<T> factor = {small, small + s.images * pixels * s.maps, pixels * s.maps,
                                    s.maps, maps.first};
          for (int64_t p = first; p < last; ++p) {
            pack(factor, image, count, p, kBlock, rows + (t * kPixels + p - first) * kRowsBlock);
          }
        }
        for (int64_t i = 0; i < together; ++i) {
          // The pixels whose tap lies within the large map, and where.
          int64_t blocks = 0, here[kPixels], there[kPixels];
          for (int64_t p = first; p < last; ++p) {
            const int64_t y = s.stride * (p / s.columns) - 1 + (tap + i) / kTaps;
            const int64_t x = s.stride * (p % s.columns) - 1 + (tap + i) % kTaps;
            if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
            here[blocks] = p - first;
            there[blocks++] = y * s.width + x;
          }
          for (int64_t j = 0; j < strips; ++j) {
            const int64_t image_size = s.height * s.width * s.channels;
            const Factor<T> factor = {large, large + s.images * image_size, image_size, s.channels,
                                      j * kColumns<T>};
            for (int64_t b = 0; b < blocks; ++b) {
              pack(factor, image, count, there[b], kColumns<T>, columns + b * kColumnsBlock);
            }
            for (int64_t t = 0; t < some; ++t) {
              const Share maps(s.maps, mine.first + t, tiles);
              A* sum = first_sum + ((i * some + t) * strips + j) * kTile;
              with_rows(maps.last - maps.first, [&](auto n) {
                Tile<T, n.n> tile = {};  // sums of these blocks alone: long sums lose more
                for (int64_t b = 0; b < blocks; ++b) {
                  add_products<T, n.n, kAcross>(tile, rows + (t * kPixels + here[b]) * kRowsBlock,
                                                columns + b * kColumnsBlock, 1);
                }
                for (int i = 0; i < 2 * n.n; ++i) {
                  A* to = sum + i * kLanes<T>;
                  store<A>(to, load<A>(to) + tile.sum[i / 2][i % 2]);
                }
              });
            }
          }
        }
      }
    }
    for (int64_t i = 0; i < together; ++i) {
      for (int64_t t = 0; t < some; ++t) {
        const Share maps(s.maps, mine.first + t, tiles);
        for (int64_t row = maps.first; row < maps.last; ++row) {
          T* to = gradient + (row * kTaps * kTaps + tap + i) * s.channels;
          for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
            const A* sum = first_sum + ((i * some + t) * strips + c / kColumns<T>) * kTile +
                           (row - maps.first) * kColumns<T> + c % kColumns<T>;
            store(to + c, load<A>(sum), int(at_most(kLanes<T>, s.channels - c)));
          }
        }
      }
    }
  };

#pragma omp parallel if (images * kImages<T> * pixels * s.maps * s.channels * 16 >= kFew)
  {
    const Buffer<WordOf<T>> rows(pieces(tiles, groups) * kPixels * kRowsBlock);
    const Buffer<WordOf<T>> columns(kPixels * kColumnsBlock);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < kTaps * kTaps / together * groups; ++i) {
      unit(i / groups * together, Share(tiles, i % groups, groups), rows.at, columns.at);
    }
  }
}

}  // namespace

void conv_weight(ConvShape s, const void* large, const void* small, void* gradient) {
  with_product_type(s.dtype, [&](auto type) {
    using T = typename Pointee<decltype(type)>::Type;
    weight_of(s, in<T>(large), in<T>(small), out<T>(gradient));
  });
}

}  // namespace FASTINFOGAN_ISA
}  // namespace fastinfogan
