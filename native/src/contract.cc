// Convolution, its two gradients, and matrix products: two operands contracted to one result by a oneDNN primitive.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace dgjax {
namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using Numbers = std::vector<int64_t>;
using Strides = memory::dims;

// What an operation is, as the Python side lists it:
//   0 kind: convolution (0), gradient of its images (1), of its kernel (2), matrix product (3)
//   1 type: float32 (0), bfloat16 (1), bfloat16 with a float32 result (2)
//   2 lanes, 3 lanes of the first operand, 4 lanes of the second: an operand of one lane is shared by all
//   convolutions: 5 images N H W C, 9 kernel height and width, 11 result H W C, 14 groups, 15 strides, 17 padding top
//     bottom left right, 21 dilation
//   matrix products: 5 rows M, 6 contracted K, 7 columns N, 8 whether the first operand lies transposed (K, M), 9 the
//     second (N, K)
enum Kind { kForward = 0, kInputGradient = 1, kFilterGradient = 2, kProduct = 3 };
constexpr size_t kConvolutionNumbers = 23, kProductNumbers = 10, kPlans = 512;
constexpr int64_t kSmall = 4 << 20;  // multiplications, some 50 microseconds of one core

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

dnnl::engine& Engine() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

dnnl::stream& Stream() {
  static auto* stream = new dnnl::stream(Engine());
  return *stream;
}

// Memory that lives between calls, as large as any plan has needed.
class Arena {
 public:
  char* Get(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + 4095) / 4096 * 4096;
      data_ = static_cast<char*>(std::aligned_alloc(4096, size_));
      if (!data_) {
        size_ = 0;
        throw std::bad_alloc();
      }
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

// An array as the caller has it and as the primitive wants it.
struct Side {
  int argument;
  memory::desc user, inner;
  dnnl::reorder reorder;
  bool reordered = false;
  size_t lane_bytes = 0, offset = 0;
};

struct Plan {
  dnnl::primitive primitive;
  memory::desc scratch;
  size_t scratch_offset = 0, arena_bytes = 0;
  Side sides[3];
  int64_t lanes = 1, side_lanes[3] = {1, 1, 1};
  bool spins = false;  // its threads wait for each other in a loop
  bool small = false;  // one thread is done sooner than several have met
  std::string name;

  void Finish(const dnnl::primitive_desc_base& desc, const memory::desc inner[3]) {
    scratch = desc.scratchpad_desc();
    name = desc.impl_info_str();
    auto reserve = [&](const memory::desc& desc) {
      size_t at = arena_bytes;
      arena_bytes += (desc.get_size() + 63) / 64 * 64;
      return at;
    };
    scratch_offset = reserve(scratch);
    for (int i = 0; i < 3; i++) {
      Side& side = sides[i];
      side.inner = inner[i];
      side.reordered = side.inner != side.user;
      if (!side.reordered) continue;
      side.offset = reserve(side.inner);
      const auto& from = i < 2 ? side.user : side.inner;
      const auto& to = i < 2 ? side.inner : side.user;
      side.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(Engine(), from, Engine(), to));
    }
  }

  void Run(void* const data[3]) {
    std::optional<Team> team;
    if (small) team.emplace(1);
    std::optional<Spread> spread;
    if (spins && !small) spread.emplace();
    static auto* arena = new Arena;
    char* base = arena->Get(arena_bytes);
    dnnl::stream& stream = Stream();
    memory scratch_memory(scratch, Engine(), base + scratch_offset);
    for (int64_t lane = 0; lane < lanes; lane++) {
      memory user[3], inner[3];
      for (int i = 0; i < 3; i++) {
        Side& side = sides[i];
        char* at = static_cast<char*>(data[i]) + (side_lanes[i] == 1 ? 0 : lane * side.lane_bytes);
        user[i] = memory(side.user, Engine(), at);
        inner[i] = side.reordered ? memory(side.inner, Engine(), base + side.offset) : user[i];
        if (i < 2 && side.reordered && (lane == 0 || side_lanes[i] > 1)) side.reorder.execute(stream, user[i], inner[i]);
      }
      primitive.execute(stream, {{sides[0].argument, inner[0]},
                                 {sides[1].argument, inner[1]},
                                 {sides[2].argument, inner[2]},
                                 {DNNL_ARG_SCRATCHPAD, scratch_memory}});
      if (sides[2].reordered) sides[2].reorder.execute(stream, inner[2], user[2]);
    }
    stream.wait();
  }
};

dnnl::primitive_attr Attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

// oneDNN 2 builds a description from a descriptor, oneDNN 3 from the arguments themselves.
template <typename Primitive, typename... Hint>
typename Primitive::primitive_desc Convolution(bool forward, const memory::desc descs[3], const Numbers& s,
                                               const Hint&... hint) {
  const Strides strides{s[15], s[16]}, dilates{s[21] - 1, s[22] - 1}, low{s[17], s[19]}, high{s[18], s[20]};
  const auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  if constexpr (sizeof...(Hint) == 0) {
    return typename Primitive::primitive_desc(Engine(), dnnl::prop_kind::forward_training, algorithm, descs[0], descs[1],
                                              descs[2], strides, dilates, low, high, Attributes());
  } else {
    (void)forward;
    return typename Primitive::primitive_desc(Engine(), algorithm, descs[0], descs[1], descs[2], strides, dilates, low,
                                              high, hint..., Attributes());
  }
#else
  if constexpr (sizeof...(Hint) == 0) {
    typename Primitive::desc desc(dnnl::prop_kind::forward_training, algorithm, descs[0], descs[1], descs[2], strides,
                                  dilates, low, high);
    return typename Primitive::primitive_desc(desc, Attributes(), Engine());
  } else {
    (void)forward;
    typename Primitive::desc desc(algorithm, descs[0], descs[1], descs[2], strides, dilates, low, high);
    return typename Primitive::primitive_desc(desc, Attributes(), Engine(), hint...);
  }
#endif
}

size_t Elements(const memory::dims& dims) {
  size_t count = 1;
  for (auto n : dims) count *= n;
  return count;
}

void MakeConvolution(const Numbers& s, Plan* plan) {
  const int64_t n = s[5], h = s[6], w = s[7], c = s[8], kh = s[9], kw = s[10], oh = s[11], ow = s[12], o = s[13];
  const int64_t groups = s[14], ci = c / groups, co = o / groups;
  const auto type = s[1] ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::dims image{n, c, h, w}, result{n, o, oh, ow};
  const memory::dims kernel = groups > 1 ? memory::dims{groups, co, ci, kh, kw} : memory::dims{o, c, kh, kw};
  const Strides kernel_strides =
      groups > 1 ? Strides{co, 1, o, kw * ci * o, ci * o} : Strides{1, o, kw * c * o, c * o};
  const memory::desc user_image(image, type, Strides{h * w * c, 1, w * c, c});
  const memory::desc user_result(result, type, Strides{oh * ow * o, 1, ow * o, o});
  const memory::desc user_kernel(kernel, type, kernel_strides);
  // The kernel is small and worth packing; images stay as they are, unless oneDNN has nothing fast for that.
  const memory::desc any_kernel(kernel, type, memory::format_tag::any);
  const memory::desc any_image(image, type, memory::format_tag::any), any_result(result, type, memory::format_tag::any);
  const memory::desc plain[3] = {user_image, any_kernel, user_result}, any[3] = {any_image, any_kernel, any_result};
  std::string names;
  for (const auto* descs : {plain, any}) {
    Plan made;
    try {
      auto forward = Convolution<dnnl::convolution_forward>(true, descs, s);
      if (s[0] == kForward) {
        const memory::desc inner[3] = {forward.src_desc(), forward.weights_desc(), forward.dst_desc()};
        made.sides[0] = {DNNL_ARG_SRC, user_image, {}, {}};
        made.sides[1] = {DNNL_ARG_WEIGHTS, user_kernel, {}, {}};
        made.sides[2] = {DNNL_ARG_DST, user_result, {}, {}};
        made.Finish(forward, inner);
        made.primitive = dnnl::convolution_forward(forward);
      } else if (s[0] == kInputGradient) {
        auto desc = Convolution<dnnl::convolution_backward_data>(false, descs, s, forward);
        const memory::desc inner[3] = {desc.diff_dst_desc(), desc.weights_desc(), desc.diff_src_desc()};
        made.sides[0] = {DNNL_ARG_DIFF_DST, user_result, {}, {}};
        made.sides[1] = {DNNL_ARG_WEIGHTS, user_kernel, {}, {}};
        made.sides[2] = {DNNL_ARG_DIFF_SRC, user_image, {}, {}};
        made.Finish(desc, inner);
        made.primitive = dnnl::convolution_backward_data(desc);
      } else {
        auto desc = Convolution<dnnl::convolution_backward_weights>(false, descs, s, forward);
        const memory::desc inner[3] = {desc.src_desc(), desc.diff_dst_desc(), desc.diff_weights_desc()};
        made.sides[0] = {DNNL_ARG_SRC, user_image, {}, {}};
        made.sides[1] = {DNNL_ARG_DIFF_DST, user_result, {}, {}};
        made.sides[2] = {DNNL_ARG_DIFF_WEIGHTS, user_kernel, {}, {}};
        made.Finish(desc, inner);
        made.primitive = dnnl::convolution_backward_weights(desc);
      }
    } catch (const dnnl::error& error) {
      names += std::string(names.empty() ? "" : ", ") + error.what();
      continue;
    }
    names += (names.empty() ? "" : ", ") + made.name;
    if (made.name.rfind("ref", 0) == 0) continue;
    // gemm-based code gathers patches on plain images; on blocked ones there is usually a direct kernel.
    if (descs == plain && made.name.find("gemm") != std::string::npos && made.name.find("brgemm") == std::string::npos &&
        !plan->name.empty()) continue;
    *plan = std::move(made);
    break;
  }
  if (plan->name.empty()) throw Refused(names);
  const size_t bytes = s[1] ? 2 : 4;
  const size_t image_bytes = Elements(image) * bytes, result_bytes = Elements(result) * bytes,
               kernel_bytes = Elements(kernel) * bytes;
  const size_t by_kind[3][3] = {{image_bytes, kernel_bytes, result_bytes},
                                {result_bytes, kernel_bytes, image_bytes},
                                {image_bytes, result_bytes, kernel_bytes}};
  for (int i = 0; i < 3; i++) plan->sides[i].lane_bytes = by_kind[s[0]][i];
}

void MakeProduct(const Numbers& s, Plan* plan) {
  const int64_t m = s[5], k = s[6], n = s[7];
  const auto type = s[1] ? memory::data_type::bf16 : memory::data_type::f32;
  const auto out = s[1] == 1 ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::desc a({m, k}, type, s[8] ? Strides{1, m} : Strides{k, 1});
  const memory::desc b({k, n}, type, s[9] ? Strides{1, k} : Strides{n, 1});
  const memory::desc c({m, n}, out, Strides{n, 1});
#if DNNL_VERSION_MAJOR >= 3
  dnnl::matmul::primitive_desc desc(Engine(), a, b, c, Attributes());
#else
  dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(a, b, c), Attributes(), Engine());
#endif
  plan->sides[0] = {DNNL_ARG_SRC, a, {}, {}};
  plan->sides[1] = {DNNL_ARG_WEIGHTS, b, {}, {}};
  plan->sides[2] = {DNNL_ARG_DST, c, {}, {}};
  const memory::desc inner[3] = {desc.src_desc(), desc.weights_desc(), desc.dst_desc()};
  plan->Finish(desc, inner);
  if (plan->name.rfind("ref", 0) == 0) throw Refused(plan->name);
  plan->primitive = dnnl::matmul(desc);
  for (auto& side : plan->sides) side.lane_bytes = side.user.get_size();
}

void Check(const Numbers& s) {
  const bool product = !s.empty() && s[0] == kProduct;
  if (s.size() != (product ? kProductNumbers : kConvolutionNumbers) || s[0] < 0 || s[0] > kProduct)
    throw std::invalid_argument("malformed description of an operation");
  const size_t sizes_end = product ? 8 : 17;
  for (size_t i = 2; i < sizes_end; i++)
    if (s[i] < 1) throw std::invalid_argument("sizes must be positive");
  for (int i : {3, 4})
    if (s[i] != 1 && s[i] != s[2]) throw std::invalid_argument("an operand has one lane or all");
  if (product) return;
  for (size_t i = 17; i < 21; i++)
    if (s[i] < 0) throw Refused("negative padding");
  if (s[8] % s[14] || s[13] % s[14]) throw std::invalid_argument("groups must divide the channels");
}

// Multiplications of one lane.
int64_t Work(const Numbers& s) {
  if (s[0] == kProduct) return s[5] * s[6] * s[7];
  return s[5] * s[11] * s[12] * s[13] * s[9] * s[10] * (s[8] / s[14]);
}

// The plans used last, by what they do. Touched by the worker thread alone.
Plan* Find(const Numbers& s) {
  struct Cache {
    std::list<std::pair<Numbers, Plan>> plans;
    std::map<Numbers, std::list<std::pair<Numbers, Plan>>::iterator> index;
  };
  static auto* cache = new Cache;
  if (auto found = cache->index.find(s); found != cache->index.end()) {
    cache->plans.splice(cache->plans.begin(), cache->plans, found->second);
    return &cache->plans.front().second;
  }
  Check(s);
  Plan plan;
  const bool small = Work(s) < kSmall;
  std::optional<Team> team;
  if (small) team.emplace(1);  // oneDNN fixes the division of the work when it plans
  if (s[0] == kProduct) {
    MakeProduct(s, &plan);
  } else {
    MakeConvolution(s, &plan);
  }
  plan.lanes = plan.side_lanes[2] = s[2];
  plan.side_lanes[0] = s[3];
  plan.side_lanes[1] = s[4];
  plan.small = small;
  plan.spins = s[0] == kFilterGradient;
  cache->plans.emplace_front(s, std::move(plan));
  cache->index[s] = cache->plans.begin();
  if (cache->plans.size() > kPlans) {
    cache->index.erase(cache->plans.back().first);
    cache->plans.pop_back();
  }
  return &cache->plans.front().second;
}

ffi::Error Contract(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> y, ffi::Span<const int64_t> spec) {
  try {
    const Numbers s(spec.begin(), spec.end());
    RunOnWorker([&] {
      Plan* plan = Find(s);
      const size_t bytes[3] = {a.size_bytes(), b.size_bytes(), y->size_bytes()};
      for (int i = 0; i < 3; i++) {
        if (bytes[i] != plan->sides[i].lane_bytes * plan->side_lanes[i])
          throw std::invalid_argument("an array's size is not the described one");
      }
      void* const data[3] = {a.untyped_data(), b.untyped_data(), y->untyped_data()};
      plan->Run(data);
    });
  } catch (const std::exception& error) {
    return ffi::Error(ffi::ErrorCode::kInternal, std::string("dgjax-native: ") + error.what());
  }
  return ffi::Error::Success();
}

void Copy(const std::string& text, char* to, size_t size) {
  std::strncpy(to, text.c_str(), size - 1);
  to[size - 1] = 0;
}

}  // namespace
}  // namespace dgjax

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(DgjaxContract, dgjax::Contract,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<xla::ffi::Span<const int64_t>>("spec"));

extern "C" {

// Makes (and keeps) the plan of an operation. Returns 0 and the implementation's name, or 1 and why there is none.
int dgjax_native_plan(const int64_t* numbers, size_t count, char* text,
                                                             size_t size) {
  try {
    dgjax::RunOnWorker([&] { dgjax::Copy(dgjax::Find({numbers, numbers + count})->name, text, size); });
    return 0;
  } catch (const std::exception& error) {
    dgjax::Copy(error.what(), text, size);
    return 1;
  }
}

void dgjax_native_describe(char* text, size_t size) {
  const dnnl_version_t* v = dnnl_version();
  dgjax::Copy("oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch) +
                  ", " + std::to_string(dgjax::Threads()) + (dgjax::Threads() == 1 ? " thread" : " threads"),
              text, size);
}
}
#pragma GCC visibility pop
