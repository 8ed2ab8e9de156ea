// The gradient of a convolution's weight on the CPU. The mathematics is in kernels/conv/__init__.py.
//
// For each tap the gradient is a product whose sum runs over pixels. A block of the sum is one pixel
// of the small map in several images, which have the same taps there: where a tap leads out of the
// large map, the block is left out. Both maps are packed once, some images and a band of rows at a
// time, and read by all taps. Sums run to their end in the accumulator type, in an order that the
// shape decides.

#include "blocks.h"
#include "threads.h"

namespace fastinfogan {
namespace FASTINFOGAN_ISA {
namespace {

constexpr int64_t kWordsOfMaps = 1 << 19;  // that are packed at a time: 2 MB

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

// How maps are cut, packed and added up: the images of a block at a time, in bands of rows if they
// are large.
template <class T>
struct Weight {
  using A = AccumulatorOf<T>;
  static constexpr int64_t kRowsBlock = ::kRowsBlock<kAcross>;
  const ConvShape& s;
  const int64_t tiles, strips;  // of maps, of channels
  int64_t bands = 1, room;      // words of a band of both maps, at most

  explicit Weight(const ConvShape& s)
      : s(s), tiles(pieces(s.maps, kRows)), strips(pieces(s.channels, kColumns<T>)) {
    while ((room = most()) > kWordsOfMaps && bands < s.rows) ++bands;
  }

  INLINE Share band(int64_t i) const { return Share(s.rows, i, bands); }
  // The rows of the large map that a band of the small one sees.
  INLINE Share seen(const Share& band) const {
    return Share(at_least(0, s.stride * band.first - 1),
                 at_most(s.height, s.stride * (band.last - 1) - 1 + kTaps));
  }
  INLINE int64_t words_of_rows(const Share& band) const {
    return band.size() * s.columns * tiles * kRowsBlock;
  }
  INLINE int64_t most() const {
    int64_t most = 0;
    for (int64_t i = 0; i < bands; ++i) {
      const int64_t columns = seen(band(i)).size() * s.width * strips * kColumnsBlock<T>;
      most = at_least(most, words_of_rows(band(i)) + columns);
    }
    return most;
  }
  // Pixels of both maps, the small one's first.
  INLINE int64_t pixels(const Share& band) const {
    return band.size() * s.columns + seen(band).size() * s.width;
  }

  // Packs one of them, of images from the first on.
  INLINE void pack_pixel(const T* large, const T* small, int64_t image, const Share& band,
                         int64_t pixel, WordOf<T>* to) const {
    const int64_t count = at_most(kImages<T>, s.images - image);
    if (pixel < band.size() * s.columns) {
      const int64_t size = s.rows * s.columns * s.maps;
      to += pixel * tiles * kRowsBlock;
      for (int64_t t = 0; t < tiles; ++t, to += kRowsBlock) {
        const Factor<T> factor = {small, small + s.images * size, size, s.maps,
                                  Share(s.maps, t, tiles).first};
        pack(factor, image, count, band.first * s.columns + pixel, kAcrossLine, to);
      }
      return;
    }
    const int64_t size = s.height * s.width * s.channels;
    pixel -= band.size() * s.columns;
    to += words_of_rows(band) + pixel * strips * kColumnsBlock<T>;
    for (int64_t j = 0; j < strips; ++j, to += kColumnsBlock<T>) {
      const Factor<T> factor = {large, large + s.images * size, size, s.channels, j * kColumns<T>};
      pack(factor, image, count, seen(band).first * s.width + pixel, kColumns<T>, to);
    }
  }

  // Adds to a tap's sums what some pixels of the small map give, in `groups` blocks of images.
  INLINE void add(const Share& band, const Share& pixels, int64_t tap, const Share& mine,
                  int64_t groups, const WordOf<T>* packed, A* sums) const {
    // The blocks whose tap lies within the large map.
    Blocks<T> blocks;
    for (int64_t g = 0; g < groups; ++g, packed += room) {
      for (int64_t p = pixels.first; p < pixels.last; ++p) {
        const int64_t y = s.stride * (band.first + p / s.columns) - 1 + tap / kTaps;
        const int64_t x = s.stride * (p % s.columns) - 1 + tap % kTaps;
        if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
        blocks.rows[blocks.count] = packed + p * tiles * kRowsBlock;
        blocks.columns[blocks.count++] =
            packed + words_of_rows(band) +
            ((y - seen(band).first) * s.width + x) * strips * kColumnsBlock<T>;
      }
    }
    for (int64_t j = 0; j < strips; ++j) {
      for (int64_t t = mine.first; t < mine.last; ++t) {
        add_blocks(blocks, Share(s.maps, t, tiles).size(), t * kRowsBlock, j * kColumnsBlock<T>,
                   sums + ((tap * tiles + t) * strips + j) * kTile<T>);
      }
    }
  }

  // Writes a tap's sums.
  INLINE void write(int64_t tap, const A* sums, T* gradient) const {
    sums += tap * tiles * strips * kTile<T>;
    write_gradient(s, tap, gradient, [&](int64_t at) { return load<A>(sums + at); });
  }
};

template <class T>
void weight_of(const ConvShape& s, const T* large, const T* small, T* gradient) {
  using A = AccumulatorOf<T>;
  const Weight<T> w(s);
  const int64_t images = pieces(s.images, kImages<T>), taps = kTaps * kTaps;
  // Blocks of images whose small maps fill a sum together.
  const int64_t several =
      w.bands > 1 ? 1 : at_most(images, at_least(1, kBlocks / (s.rows * s.columns)));
  // How the work is shared has no part in the results.
  const int64_t together = threads() <= 4 ? 4 : threads() <= 8 ? 2 : 1;  // taps
  const int64_t sets = taps / together;
  const int64_t groups = at_most(pieces(kUnits * threads(), sets), w.tiles);
  const int64_t room = pieces(threads() * kWordsOfMaps / 2, several * w.room);
  const int64_t at_once = w.bands > 1 ? 1 : at_most(images, several * room);
  const Buffer<A> sums(taps * w.tiles * w.strips * kTile<T>);
  const Buffer<WordOf<T>> packed(at_once * w.room);

#pragma omp parallel if (s.images * s.rows * s.columns * s.maps * s.channels * taps >= kFew)
  for (int64_t first = 0; first < images; first += at_once) {
    const int64_t here = at_most(at_once, images - first);
    for (int64_t i = 0; i < w.bands; ++i) {
      const Share band = w.band(i);
      const int64_t pixels = w.pixels(band), smalls = band.size() * s.columns;
#pragma omp for schedule(static)
      for (int64_t n = 0; n < here * pixels; ++n) {
        w.pack_pixel(large, small, (first + n / pixels) * kImages<T>, band, n % pixels,
                     packed.at + n / pixels * w.room);
      }
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < sets * groups; ++unit) {
        const Share mine(w.tiles, unit % groups, groups);
        const int64_t tap = unit / groups * together;
        for (int64_t k = tap; first == 0 && i == 0 && k < tap + together; ++k) {
          memset(sums.at + (k * w.tiles + mine.first) * w.strips * kTile<T>, 0,
                 mine.size() * w.strips * kTile<T> * sizeof(A));
        }
        for (int64_t group = 0; group < here; group += several) {
          for (int64_t p = 0; p < smalls; p += kBlocks) {
            for (int64_t k = tap; k < tap + together; ++k) {
              w.add(band, Share(p, at_most(p + kBlocks, smalls)), k, mine,
                    at_most(several, here - group), packed.at + group * w.room, sums.at);
            }
          }
        }
      }
    }
  }
#pragma omp parallel for schedule(static) if (taps * s.maps * s.channels >= kFew)
  for (int64_t k = 0; k < taps; ++k) w.write(k, sums.at, gradient);
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
