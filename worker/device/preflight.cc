#include "worker/device/preflight.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "absl/strings/strip.h"
#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "services/base/host.h"
#include "worker/device/cuda_support.h"
#include "worker/device/network_interface.h"

namespace penstock {
namespace {

// Products of squares grow until one takes this share of a measurement's time.
constexpr double kRunShare = 0.2;
constexpr int64_t kSquareMin = 128;
constexpr int64_t kSquareMax = 8192;
// Larger than the caches of any device.
constexpr int64_t kCopyBytes = int64_t{128} << 20;

using Run = std::function<absl::Status()>;

absl::StatusOr<double> SecondsOf(Backend* backend, const Run& run) {
  PENSTOCK_RETURN_IF_ERROR(backend->Synchronize({}));
  const auto begin = std::chrono::steady_clock::now();
  PENSTOCK_RETURN_IF_ERROR(run());
  PENSTOCK_RETURN_IF_ERROR(backend->Synchronize({}));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The best of several, after one that doesn't count, within `budget` seconds or after three.
absl::StatusOr<double> BestSeconds(Backend* backend, double budget, const Run& run) {
  PENSTOCK_ASSIGN_OR_RETURN(double spent, SecondsOf(backend, run));
  PENSTOCK_ASSIGN_OR_RETURN(double best, SecondsOf(backend, run));
  spent += best;
  for (int i = 0; i < 20 && spent + best < budget; ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(const double seconds, SecondsOf(backend, run));
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

// FLOPs a second of y = x W of squares of `type`, as large as the time allows.
absl::StatusOr<double> MatrixRate(Backend* backend, DataType type, double budget) {
  double rate = 0;
  for (int64_t n = kSquareMin; n <= kSquareMax; n *= 2) {
    const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    // The next one takes eight times as long.
    if (rate > 0 && flops / rate > kRunShare * budget) break;
    LinearShape shape{.rows = n, .in = n, .out = n};
    shape.type = type;
    PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Linear> linear, backend->CreateLinear(shape));
    const int64_t bytes = n * n * BytesOf(type);
    PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> matrices, backend->Allocate(3 * bytes));
    PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> workspace,
                              backend->Allocate(linear->workspace_bytes()));
    const OpContext context{.workspace = workspace->data(), .workspace_bytes = workspace->size()};
    std::byte* const at = matrices->data();
    PENSTOCK_ASSIGN_OR_RETURN(const double seconds, BestSeconds(backend, budget / 4, [&] {
                                return linear->Forward(context, at, at + bytes, nullptr, at + 2 * bytes);
                              }));
    rate = std::max(rate, flops / seconds);
  }
  return rate;
}

absl::Status MeasureCopies(Backend* backend, double budget, v1::DeviceInfo* info) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> memory, backend->Allocate(2 * kCopyBytes));
  std::byte* const at = memory->data();
  PENSTOCK_ASSIGN_OR_RETURN(const double within, BestSeconds(backend, budget / 3, [&] {
                              return backend->Copy({}, at, at + kCopyBytes, kCopyBytes);
                            }));
  // Read and written.
  info->set_memory_bytes_per_second(2.0 * static_cast<double>(kCopyBytes) / within);
  if (backend->host_memory()) return absl::OkStatus();
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> host, backend->AllocateHost(kCopyBytes));
  PENSTOCK_ASSIGN_OR_RETURN(const double to, BestSeconds(backend, budget / 3, [&] {
                              return backend->Copy({}, host->data(), at, kCopyBytes);
                            }));
  PENSTOCK_ASSIGN_OR_RETURN(const double from, BestSeconds(backend, budget / 3, [&] {
                              return backend->Copy({}, at, host->data(), kCopyBytes);
                            }));
  info->set_host_to_device_bytes_per_second(static_cast<double>(kCopyBytes) / to);
  info->set_device_to_host_bytes_per_second(static_cast<double>(kCopyBytes) / from);
  return absl::OkStatus();
}

absl::Status Measure(const PreflightOptions& options, v1::DeviceInfo* info) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, CreateBackend(options.device));
  const double budget = absl::ToDoubleSeconds(options.budget) / 3;
  PENSTOCK_ASSIGN_OR_RETURN(const double wide, MatrixRate(backend.get(), DataType::kFloat32, budget));
  PENSTOCK_ASSIGN_OR_RETURN(const double narrow, MatrixRate(backend.get(), DataType::kBfloat16, budget));
  info->set_fp32_flops_per_second(wide);
  info->set_bf16_flops_per_second(narrow);
  return MeasureCopies(backend.get(), budget, info);
}

// "AMD EPYC 9654 96-Core Processor".
std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    absl::string_view text = line;
    if (!absl::ConsumePrefix(&text, "model name")) continue;
    const size_t colon = text.find(':');
    if (colon != absl::string_view::npos) return std::string(absl::StripAsciiWhitespace(text.substr(colon + 1)));
  }
  return "cpu";
}

}  // namespace

absl::StatusOr<v1::DeviceInfo> RunPreflight(const PreflightOptions& options) {
  v1::DeviceInfo info;
  if (options.device.is_cuda()) {
    PENSTOCK_RETURN_IF_ERROR(DescribeCudaDevice(options.device.cuda, &info));
  } else {
    info.set_name(ProcessorName());
    info.set_memory_bytes(ThisHost().memory_bytes);
  }
  info.set_network_interface(NetworkInterfaceOf(options.host));
  if (options.budget <= absl::ZeroDuration()) return info;
  // The pool of threads that the operations start ends with the thread.
  absl::Status status;
  std::thread measuring([&] { status = Measure(options, &info); });
  measuring.join();
  PENSTOCK_RETURN_IF_ERROR(status);
  return info;
}

}  // namespace penstock
