// Max-pooling in parts that differentiate to any order: the maximum, where it was, and moving values there and back.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

#include "vectorised.h"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace dgjax {
namespace {

namespace ffi = xla::ffi;

// bfloat16 as stored.
struct Half {
  uint16_t bits;
};

inline float Load(float x) { return x; }
inline float Load(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
inline void Store(float x, float* to) { *to = x; }
inline void Store(float x, Half* to) {  // to the nearest, ties to even; a NaN stays one
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(x != x ? (bits >> 16) | 0x40 : rounded);
}

// n, height, width, channels of the images; height and width of the result; window, strides, padding top and left.
struct Shape {
  int64_t n, h, w, c, oh, ow, kh, kw, sh, sw, top, left;

  static bool Parse(ffi::Span<const int64_t> s, Shape* to) {
    if (s.size() != 12) return false;
    std::memcpy(to, s.begin(), sizeof(Shape));
    return to->n > 0 && to->h > 0 && to->w > 0 && to->c > 0 && to->oh > 0 && to->ow > 0 && to->sh > 0 && to->sw > 0 &&
           to->kh > 0 && to->kw > 0 && to->kh * to->kw <= 255 && to->top >= 0 && to->left >= 0;
  }
  size_t Images() const { return n * h * w * c; }
  size_t Results() const { return n * oh * ow * c; }
};

// Positions in the window that lie inside the image: their number in the window, and where they are in the images.
struct Tap {
  int number;
  int64_t at;
};
constexpr int64_t kChannels = 64;  // that are handled at once, so that maxima and sums stay in registers

// The maximum of the taps and, if `index` is given, its number; channel by channel.
#define MAX_TAPS(T)                                                                                              \
  VECTORISED void MaxTaps(const T* x, const Tap* taps, int count, int64_t channels, T* y, uint8_t* index) {      \
    auto chunk = [&](int64_t c, int64_t size) __attribute__((always_inline)) {                                   \
      float best[kChannels];                                                                                     \
      int32_t number[kChannels]; /* as wide as best: GCC makes no vectors of a choice between widths */          \
      const T* first = x + taps[0].at + c;                                                                       \
      for (int64_t i = 0; i < size; i++) {                                                                       \
        best[i] = Load(first[i]);                                                                                \
        number[i] = taps[0].number;                                                                              \
      }                                                                                                          \
      for (int t = 1; t < count; t++) {                                                                          \
        const T* from = x + taps[t].at + c;                                                                      \
        const int32_t tap = taps[t].number;                                                                      \
        if (index) {                                                                                             \
          for (int64_t i = 0; i < size; i++) {                                                                   \
            const float value = Load(from[i]);                                                                   \
            const bool better = (value > best[i]) | (value != value);                                            \
            best[i] = better ? value : best[i];                                                                  \
            number[i] = better ? tap : number[i];                                                                \
          }                                                                                                      \
        } else {                                                                                                 \
          for (int64_t i = 0; i < size; i++) {                                                                   \
            const float value = Load(from[i]);                                                                   \
            best[i] = (value > best[i]) | (value != value) ? value : best[i];                                    \
          }                                                                                                      \
        }                                                                                                        \
      }                                                                                                          \
      for (int64_t i = 0; i < size; i++) Store(best[i], y + c + i);                                              \
      if (index)                                                                                                 \
        for (int64_t i = 0; i < size; i++) index[c + i] = static_cast<uint8_t>(number[i]);                       \
    };                                                                                                           \
    int64_t c = 0;                                                                                               \
    for (; c + kChannels <= channels; c += kChannels) chunk(c, kChannels); /* loops of a known length */         \
    if (c < channels) chunk(c, channels - c);                                                                    \
  }
MAX_TAPS(float)
MAX_TAPS(Half)

#define SELECT_TAPS(T)                                                                                         \
  VECTORISED void SelectTaps(const T* x, const Tap* taps, int count, int64_t channels, const uint8_t* index,   \
                             T* y) {                                                                           \
    std::memset(static_cast<void*>(y), 0, channels * sizeof(T));                                               \
    for (int t = 0; t < count; t++) {                                                                          \
      const T* from = x + taps[t].at;                                                                          \
      const uint8_t tap = static_cast<uint8_t>(taps[t].number);                                                \
      for (int64_t i = 0; i < channels; i++) y[i] = index[i] == tap ? from[i] : y[i];                          \
    }                                                                                                          \
  }
SELECT_TAPS(float)
SELECT_TAPS(Half)

// What windows give to one position of the images: taps here are the windows that cover it, with their results' places.
#define PLACE_TAPS(T)                                                                                            \
  VECTORISED void PlaceTaps(const T* dy, const Tap* taps, int count, int64_t channels, const uint8_t* index,     \
                            T* dx) {                                                                             \
    auto chunk = [&](int64_t c, int64_t size) __attribute__((always_inline)) {                                   \
      float sum[kChannels] = {};                                                                                 \
      for (int t = 0; t < count; t++) {                                                                          \
        const T* from = dy + taps[t].at + c;                                                                     \
        const uint8_t* numbers = index + taps[t].at + c;                                                         \
        const int32_t tap = taps[t].number;                                                                      \
        for (int64_t i = 0; i < size; i++) sum[i] += int32_t{numbers[i]} == tap ? Load(from[i]) : 0.0f;          \
      }                                                                                                          \
      for (int64_t i = 0; i < size; i++) Store(sum[i], dx + c + i);                                              \
    };                                                                                                           \
    int64_t c = 0;                                                                                               \
    for (; c + kChannels <= channels; c += kChannels) chunk(c, kChannels); /* loops of a known length */         \
    if (c < channels) chunk(c, channels - c);                                                                    \
  }
PLACE_TAPS(float)
PLACE_TAPS(Half)

// Calls visit(taps, their count, position in the results) for every window.
template <typename Visit>
void Windows(const Shape& s, Visit visit) {
#pragma omp parallel for collapse(2) schedule(static)
  for (int64_t n = 0; n < s.n; n++) {
    for (int64_t row = 0; row < s.oh; row++) {
      Tap taps[255];
      for (int64_t column = 0; column < s.ow; column++) {
        int count = 0;
        for (int64_t i = 0; i < s.kh; i++) {
          const int64_t h = row * s.sh - s.top + i;
          if (h < 0 || h >= s.h) continue;
          for (int64_t j = 0; j < s.kw; j++) {
            const int64_t w = column * s.sw - s.left + j;
            if (w >= 0 && w < s.w) taps[count++] = {static_cast<int>(i * s.kw + j), ((n * s.h + h) * s.w + w) * s.c};
          }
        }
        visit(taps, count, ((n * s.oh + row) * s.ow + column) * s.c);
      }
    }
  }
}

template <typename T>
void Max(const Shape& s, const T* x, T* y, uint8_t* index) {
  Windows(s, [=](const Tap* taps, int count, int64_t at) {
    if (count) return MaxTaps(x, taps, count, s.c, y + at, index ? index + at : nullptr);
    for (int64_t i = 0; i < s.c; i++) Store(-std::numeric_limits<float>::infinity(), y + at + i);
    if (index) std::memset(index + at, 0, s.c);  // all padding, of which the first counts
  });
}

template <typename T>
void Select(const Shape& s, const T* x, const uint8_t* index, T* y) {
  Windows(s, [=](const Tap* taps, int count, int64_t at) { SelectTaps(x, taps, count, s.c, index + at, y + at); });
}

template <typename T>
void Place(const Shape& s, const T* dy, const uint8_t* index, T* dx) {
#pragma omp parallel for collapse(2) schedule(static)
  for (int64_t n = 0; n < s.n; n++) {
    for (int64_t h = 0; h < s.h; h++) {
      Tap taps[255];
      for (int64_t w = 0; w < s.w; w++) {
        int count = 0;
        for (int64_t i = (h + s.top) % s.sh; i < s.kh; i += s.sh) {  // from the last window that covers h upwards
          const int64_t row = (h + s.top - i) / s.sh;
          if (h + s.top < i || row >= s.oh) continue;
          for (int64_t j = (w + s.left) % s.sw; j < s.kw; j += s.sw) {
            const int64_t column = (w + s.left - j) / s.sw;
            if (w + s.left < j || column >= s.ow) continue;
            taps[count++] = {static_cast<int>(i * s.kw + j), ((n * s.oh + row) * s.ow + column) * s.c};
          }
        }
        PlaceTaps(dy, taps, count, s.c, index, dx + ((n * s.h + h) * s.w + w) * s.c);
      }
    }
  }
}

enum Part { kMax = 0, kMaxAndIndex = 1, kSelect = 2, kPlace = 3 };

template <typename T>
void RunPart(int64_t part, const Shape& s, const void* a, void* index, void* y) {
  const T* from = static_cast<const T*>(a);
  T* to = static_cast<T*>(y);
  uint8_t* numbers = static_cast<uint8_t*>(index);
  switch (part) {
    case kMax: return Max(s, from, to, nullptr);
    case kMaxAndIndex: return Max(s, from, to, numbers);
    case kSelect: return Select(s, from, numbers, to);
    default: return Place(s, from, numbers, to);
  }
}

ffi::Error Pool(ffi::RemainingArgs operands, ffi::RemainingRets results, int64_t part, ffi::Span<const int64_t> shape) {
  Shape s;
  const auto malformed = ffi::Error(ffi::ErrorCode::kInternal, "dgjax-native: malformed description of a pool");
  if (!Shape::Parse(shape, &s) || part < kMax || part > kPlace) return malformed;
  if (operands.size() != (part >= kSelect ? 2 : 1) || results.size() != (part == kMaxAndIndex ? 2 : 1))
    return malformed;
  const auto a = operands.get<ffi::AnyBuffer>(0);
  auto y = results.get<ffi::AnyBuffer>(0);
  if (!a.has_value() || !y.has_value()) return malformed;
  void* index = nullptr;
  if (part == kMaxAndIndex) {
    auto b = results.get<ffi::AnyBuffer>(1);
    if (!b.has_value() || (*b)->element_count() != s.Results()) return malformed;
    index = (*b)->untyped_data();
  } else if (part != kMax) {
    const auto b = operands.get<ffi::AnyBuffer>(1);
    if (!b.has_value() || b->element_count() != s.Results()) return malformed;
    index = b->untyped_data();
  }
  const bool half = a->element_type() == ffi::DataType::BF16;
  if (!half && a->element_type() != ffi::DataType::F32) return malformed;
  if (a->element_count() != (part == kPlace ? s.Results() : s.Images())) return malformed;
  if ((*y)->element_count() != (part == kPlace ? s.Images() : s.Results())) return malformed;
  try {
    RunOnWorker([&] {
      (half ? RunPart<Half> : RunPart<float>)(part, s, a->untyped_data(), index, (*y)->untyped_data());
    });
  } catch (const std::exception& error) {
    return ffi::Error(ffi::ErrorCode::kInternal, std::string("dgjax-native: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace dgjax

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(DgjaxPool, dgjax::Pool,
                              xla::ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("part")
                                  .Attr<xla::ffi::Span<const int64_t>>("shape"));
#pragma GCC visibility pop
