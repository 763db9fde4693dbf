// Times every kernel of a rank by itself on a card and prints JSON: microseconds by the device's own events, what that
// is in bytes or FLOPs a second, and its share of what a copy (or a large product) has in the same run. Before each
// timed run the device is busy with what fills its L2 cache, a run of the same kernel where that moves enough, else a
// large write: a kernel finds its tensors in memory, as in a step, and the host is ahead with its launches.
//
//   bazel run //tests/bench:device_kernels_bench
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tests/bench/bench_stats.h"
#include "tests/bench/device_kernels.h"
#include "worker/ops/cuda/cuda_backend.h"

ABSL_FLAG(int, device, 0, "which card");
ABSL_FLAG(int, runs, 20, "timed runs of each kernel, after three that don't count");
ABSL_FLAG(int64_t, batch, 16, "samples");
ABSL_FLAG(int64_t, seq_length, 1024, "tokens of a sample");
ABSL_FLAG(int64_t, hidden, 768, "width of the model");
ABSL_FLAG(int64_t, heads, 12, "attention heads");
ABSL_FLAG(int64_t, vocab_size, 50'257, "of the head and the embedding");
ABSL_FLAG(int64_t, product, 8192, "rows, columns and depth of the product that stands for the device's rate");
ABSL_FLAG(int64_t, parameters, 123'849'984, "elements of the optimizer's update");
ABSL_FLAG(bool, once, false, "each kernel a single time, for a profiler; times say nothing");
ABSL_FLAG(int, product_choices, 8,
          "how many of cuBLASLt's suggestions are timed for what is bound by products: what its first one leaves");
ABSL_FLAG(std::string, precision, "bf16", "bf16 or fp32");

namespace penstock {
namespace {

constexpr int kWarmUps = 3;
constexpr int64_t kFlushBytes = int64_t{512} << 20;  // the largest L2 caches have 126 MB

absl::Status Check(cudaError_t error) {
  return error == cudaSuccess ? absl::OkStatus() : absl::InternalError(cudaGetErrorString(error));
}

class Timer {
 public:
  ~Timer() {
    if (begin_ != nullptr) cudaEventDestroy(begin_);
    if (end_ != nullptr) cudaEventDestroy(end_);
  }
  absl::Status Start() {
    PENSTOCK_RETURN_IF_ERROR(Check(cudaEventCreate(&begin_)));
    return Check(cudaEventCreate(&end_));
  }
  // Of what `run` gives to the default stream, in seconds.
  absl::StatusOr<double> Seconds(const std::function<absl::Status()>& run) {
    PENSTOCK_RETURN_IF_ERROR(Check(cudaEventRecord(begin_, nullptr)));
    PENSTOCK_RETURN_IF_ERROR(run());
    PENSTOCK_RETURN_IF_ERROR(Check(cudaEventRecord(end_, nullptr)));
    PENSTOCK_RETURN_IF_ERROR(Check(cudaEventSynchronize(end_)));
    float ms = 0;
    PENSTOCK_RETURN_IF_ERROR(Check(cudaEventElapsedTime(&ms, begin_, end_)));
    return static_cast<double>(ms) * 1e-3;
  }

 private:
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

// The median of a case's runs, in seconds, each of which finds nothing in the caches.
absl::StatusOr<double> Time(Timer& timer, Backend* backend, const DeviceMemory& flush, const KernelCase& item) {
  const bool once = absl::GetFlag(FLAGS_once);
  std::vector<double> seconds;
  for (int run = once ? 0 : -kWarmUps; run < (once ? 1 : std::max(absl::GetFlag(FLAGS_runs), 1)); ++run) {
    if (!once) {  // a profiler does so itself
      PENSTOCK_RETURN_IF_ERROR(item.bytes > static_cast<double>(flush.size()) / 2
                                   ? item.run()
                                   : backend->Zero({}, flush.data(), flush.size()));
    }
    PENSTOCK_ASSIGN_OR_RETURN(const double time, timer.Seconds(item.run));
    if (run >= 0) seconds.push_back(time);
  }
  return Median(seconds);
}

// Microseconds by case's name, of the library's suggestions one after the other, the first one's included.
absl::StatusOr<nlohmann::ordered_json> TimeChoices(Timer& timer, KernelSizes sizes) {
  sizes.products_only = true;
  nlohmann::ordered_json times = nlohmann::ordered_json::object();
  for (int choice = 0; choice < absl::GetFlag(FLAGS_product_choices) && !absl::GetFlag(FLAGS_once); ++choice) {
    PENSTOCK_ASSIGN_OR_RETURN(const auto backend,
                              CreateCudaBackend({.device = absl::GetFlag(FLAGS_device), .product_choice = choice}));
    PENSTOCK_ASSIGN_OR_RETURN(const auto flush, backend->Allocate(kFlushBytes));
    PENSTOCK_ASSIGN_OR_RETURN(const KernelCases products, MakeKernelCases(backend.get(), sizes));
    for (const KernelCase& item : products.cases) {
      const absl::StatusOr<double> median = Time(timer, backend.get(), *flush, item);
      PENSTOCK_RETURN_IF_ERROR(backend->CheckUsable());
      times[item.name].push_back(median.ok() ? nlohmann::ordered_json(*median * 1e6) : nullptr);
    }
  }
  return times;
}

absl::StatusOr<nlohmann::ordered_json> Measure() {
  const std::string precision = absl::GetFlag(FLAGS_precision);
  if (precision != "bf16" && precision != "fp32") {
    return absl::InvalidArgumentError("--precision is " + precision + "; expected bf16 or fp32");
  }
  const KernelSizes sizes = {.batch = absl::GetFlag(FLAGS_batch),
                             .seq_length = absl::GetFlag(FLAGS_seq_length),
                             .hidden = absl::GetFlag(FLAGS_hidden),
                             .heads = absl::GetFlag(FLAGS_heads),
                             .vocab_size = absl::GetFlag(FLAGS_vocab_size),
                             .parameters = absl::GetFlag(FLAGS_parameters),
                             .product = absl::GetFlag(FLAGS_product),
                             .type = precision == "bf16" ? DataType::kBfloat16 : DataType::kFloat32};
  PENSTOCK_ASSIGN_OR_RETURN(const auto backend, CreateCudaBackend({.device = absl::GetFlag(FLAGS_device)}));
  Timer timer;
  PENSTOCK_RETURN_IF_ERROR(timer.Start());
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  double copy_rate = 0;
  double product_rate = 0;
  {
    PENSTOCK_ASSIGN_OR_RETURN(const auto flush, backend->Allocate(kFlushBytes));
    PENSTOCK_ASSIGN_OR_RETURN(const KernelCases all, MakeKernelCases(backend.get(), sizes));
    for (const KernelCase& item : all.cases) {
      const absl::StatusOr<double> timed = Time(timer, backend.get(), *flush, item);
      if (!timed.ok()) {
        kernels.push_back({{"kernel", item.name}, {"error", std::string(timed.status().message())}});
        // After a fault nothing works that comes next.
        if (!backend->CheckUsable().ok()) break;
        continue;
      }
      const double median = *timed;
      if (item.name == kCopyCase) copy_rate = item.bytes / median;
      if (item.name == kProductCase) product_rate = item.flops / median;
      nlohmann::ordered_json kernel = {
          {"kernel", item.name}, {"us", median * 1e6}, {"gflop", item.flops / 1e9}, {"megabytes", item.bytes / 1e6}};
      if (item.flops > 0) {
        kernel["tflops"] = item.flops / median / 1e12;
        kernel["of_product"] = item.flops / median / product_rate;
      } else {
        kernel["gb_per_second"] = item.bytes / median / 1e9;
        kernel["of_copy"] = item.bytes / median / copy_rate;
      }
      kernels.push_back(std::move(kernel));
    }
  }
  const absl::StatusOr<nlohmann::ordered_json> timed = TimeChoices(timer, sizes);
  nlohmann::ordered_json choices =
      timed.ok() ? *timed : nlohmann::ordered_json{{"error", std::string(timed.status().message())}};
  return nlohmann::ordered_json{{"device", backend->Describe()}, {"precision", precision},
                                {"batch", sizes.batch},          {"seq_length", sizes.seq_length},
                                {"hidden", sizes.hidden},        {"heads", sizes.heads},
                                {"kernels", std::move(kernels)}, {"product_choices_us", std::move(choices)}};
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const auto json = penstock::Measure();
  if (!json.ok()) {
    std::fprintf(stderr, "%s\n", std::string(json.status().message()).c_str());
    return 1;
  }
  std::puts(json->dump(1).c_str());
  return 0;
}
