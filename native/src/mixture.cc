// Channels mixed by a matrix of each example's own, a mixture of K shared ones; and its gradients. Row-major, float32.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.h"
#include "vectorised.h"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace dgjax {
namespace {

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Array>;

// Sizes of a piece of work, which do not depend on the number of threads; so neither do the results.
constexpr int64_t kRows = 1024;     // of an example that are multiplied at once
constexpr int64_t kMixed = 1 << 16; // numbers of a mixed matrix at once, as many as stay in a core's own cache
constexpr int64_t kChannels = 32;   // of the input whose gradients are summed at once

// Examples, positions of each, input and output channels, matrices.
struct Sizes {
  int64_t n, rows, in, out, k;
};

// Memory that a thread keeps between calls.
float* Scratch(size_t numbers) {
  thread_local std::unique_ptr<float, decltype(&std::free)> memory(nullptr, &std::free);
  thread_local size_t size = 0;
  if (numbers > size) {
    size = (numbers + 1023) / 1024 * 1024;
    memory.reset(static_cast<float*>(std::aligned_alloc(4096, size * sizeof(float))));
    if (!memory) std::abort();  // an exception could not leave the parallel region
  }
  return memory.get();
}

// to = sum of c[i] times the array at from + i * stride.
VECTORISED void Combine(const float* from, int64_t stride, const float* c, int64_t k, int64_t n, float* to) {
  for (int64_t j = 0; j < n; j++) to[j] = c[0] * from[j];
  int64_t i = 1;
  for (; i + 3 <= k; i += 3) {  // all of four matrices in two passes
    const float *a = from + i * stride, *b = a + stride, *d = b + stride;
    for (int64_t j = 0; j < n; j++) to[j] += c[i] * a[j] + c[i + 1] * b[j] + c[i + 2] * d[j];
  }
  for (; i < k; i++)
    for (int64_t j = 0; j < n; j++) to[j] += c[i] * from[i * stride + j];
}

// to += c * g; returns the inner product of g and p.
VECTORISED float AddAndMultiply(float c, const float* g, const float* p, int64_t n, float* to) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    to[j] += c * g[j];
    sum += g[j] * p[j];
  }
  return sum;
}

void Multiply(char ta, char tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
              int64_t ldb, float* c, int64_t ldc) {
  dnnl_sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, 0.0f, c, ldc);  // on one thread, inside a parallel region
}

// y[n] = x[n] M, or x[n] M^T, with M = sum_k routing[n, k] phi[k].
void Mix(const Sizes& s, bool transposed, const float* x, const float* routing, const float* phi, float* y) {
  const int64_t from = transposed ? s.out : s.in, to = transposed ? s.in : s.out;
  const int64_t width = std::min(to, std::max<int64_t>(16, kMixed / from));
  const int64_t tiles = (to + width - 1) / width, blocks = (s.rows + kRows - 1) / kRows;
#pragma omp parallel for collapse(3) schedule(static)
  for (int64_t tile = 0; tile < tiles; tile++) {
    for (int64_t n = 0; n < s.n; n++) {
      for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = tile * width, columns = std::min(width, to - first);
        const int64_t row = n * s.rows + block * kRows, rows = std::min(kRows, s.rows - block * kRows);
        float* mixed = Scratch(from * width);
        const float* c = routing + n * s.k;
        if (transposed) {
          Combine(phi + first * s.out, s.in * s.out, c, s.k, columns * s.out, mixed);
        } else if (columns == s.out) {
          Combine(phi, s.in * s.out, c, s.k, s.in * s.out, mixed);
        } else {
          for (int64_t i = 0; i < s.in; i++)
            Combine(phi + i * s.out + first, s.in * s.out, c, s.k, columns, mixed + i * columns);
        }
        Multiply('N', transposed ? 'T' : 'N', rows, columns, from, x + row * from, from, mixed,
                 transposed ? from : columns, y + row * to + first, to);
      }
    }
  }
}

// With G[n] = x[n]^T dy[n]: d_routing[n, k] = <G[n], phi[k]>, d_phi[k] = sum_n routing[n, k] G[n].
void Gradients(const Sizes& s, const float* x, const float* dy, const float* routing, const float* phi,
               float* d_routing, float* d_phi) {
  const int64_t tiles = (s.in + kChannels - 1) / kChannels, pairs = s.n * s.k, each = s.in * s.out;
  std::vector<float> partial(tiles * pairs);
#pragma omp parallel for schedule(static)
  for (int64_t tile = 0; tile < tiles; tile++) {
    const int64_t first = tile * kChannels, channels = std::min(kChannels, s.in - first);
    const int64_t at = first * s.out, count = channels * s.out;
    float* g = Scratch(kChannels * s.out);
    for (int64_t k = 0; k < s.k; k++) std::fill_n(d_phi + k * each + at, count, 0.0f);
    for (int64_t n = 0; n < s.n; n++) {
      Multiply('T', 'N', channels, s.out, s.rows, x + n * s.rows * s.in + first, s.in, dy + n * s.rows * s.out, s.out,
               g, s.out);
      for (int64_t k = 0; k < s.k; k++) {
        const int64_t pair = n * s.k + k, there = k * each + at;
        partial[tile * pairs + pair] = AddAndMultiply(routing[pair], g, phi + there, count, d_phi + there);
      }
    }
  }
  for (int64_t pair = 0; pair < pairs; pair++) {
    d_routing[pair] = 0;
    for (int64_t tile = 0; tile < tiles; tile++) d_routing[pair] += partial[tile * pairs + pair];
  }
}

// Reads the sizes off the arrays; false if they do not fit together.
bool Fit(const Array& x, const Array& routing, const Array& phi, bool transposed, Sizes* s) {
  const auto a = x.dimensions(), b = routing.dimensions(), c = phi.dimensions();
  if (a.size() != 3 || b.size() != 2 || c.size() != 3) return false;
  *s = {a[0], a[1], c[1], c[2], c[0]};
  return a[2] == (transposed ? s->out : s->in) && b[0] == s->n && b[1] == s->k && s->n > 0 && s->rows > 0 && s->in > 0 && s->out > 0 &&
         s->k > 0;
}

ffi::Error Malformed() {
  return ffi::Error(ffi::ErrorCode::kInternal, "dgjax-native: arrays of a mixture do not fit together");
}

template <typename Work>
ffi::Error Run(Work work) {
  try {
    RunOnWorker(work);
  } catch (const std::exception& error) {
    return ffi::Error(ffi::ErrorCode::kInternal, std::string("dgjax-native: ") + error.what());
  }
  return ffi::Error::Success();
}

ffi::Error MixCall(Array x, Array routing, Array phi, Result y, bool transposed) {
  Sizes s;
  if (!Fit(x, routing, phi, transposed, &s) ||
      static_cast<int64_t>(y->element_count()) != s.n * s.rows * (transposed ? s.in : s.out))
    return Malformed();
  return Run([&] {
    Mix(s, transposed, x.typed_data(), routing.typed_data(), phi.typed_data(), y->typed_data());
  });
}

ffi::Error GradientsCall(Array x, Array dy, Array routing, Array phi, Result d_routing, Result d_phi) {
  Sizes s;
  if (!Fit(x, routing, phi, false, &s) ||
      static_cast<int64_t>(dy.element_count()) != s.n * s.rows * s.out ||
      d_routing->element_count() != routing.element_count() || d_phi->element_count() != phi.element_count())
    return Malformed();
  return Run([&] {
    Gradients(s, x.typed_data(), dy.typed_data(), routing.typed_data(), phi.typed_data(), d_routing->typed_data(),
              d_phi->typed_data());
  });
}

}  // namespace
}  // namespace dgjax

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(DgjaxMix, dgjax::MixCall,
                              xla::ffi::Ffi::Bind()
                                  .Arg<dgjax::Array>()
                                  .Arg<dgjax::Array>()
                                  .Arg<dgjax::Array>()
                                  .Ret<dgjax::Array>()
                                  .Attr<bool>("transposed"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(DgjaxMixGradients, dgjax::GradientsCall,
                              xla::ffi::Ffi::Bind()
                                  .Arg<dgjax::Array>()
                                  .Arg<dgjax::Array>()
                                  .Arg<dgjax::Array>()
                                  .Arg<dgjax::Array>()
                                  .Ret<dgjax::Array>()
                                  .Ret<dgjax::Array>());
#pragma GCC visibility pop
