#include "worker/ops/cuda/device_operations.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/host_wait.h"
#include "worker/ops/cuda/kernels/adamw.h"
#include "worker/ops/cuda/kernels/adamw_constants.h"
#include "worker/ops/cuda/kernels/elementwise.h"
#include "worker/ops/cuda/kernels/square_sum.h"
#include "worker/ops/cuda/operations.h"
#include "worker/ops/cuda/stream_clock.h"
#include "worker/ops/shape_checks.h"

namespace penstock::cuda {
namespace {

// kFree: the counterpart of what allocated it.
template <cudaError_t (*kFree)(void*)>
class OwnedMemory : public DeviceMemory {
 public:
  OwnedMemory(void* data, int64_t size) : data_(static_cast<std::byte*>(data)), size_(size) {}
  ~OwnedMemory() override { kFree(data_); }
  std::byte* data() const override { return data_; }
  int64_t size() const override { return size_; }

 private:
  std::byte* const data_;
  const int64_t size_;
};

absl::Status WaitForEvent(cudaEvent_t event, absl::string_view what, const HostWait& wait) {
  if (!wait) return ToStatus(cudaEventSynchronize(event), what);
  return wait([&]() -> absl::StatusOr<bool> {
    const cudaError_t error = cudaEventQuery(event);
    if (error == cudaErrorNotReady) return false;
    PENSTOCK_RETURN_IF_ERROR(ToStatus(error, what));
    return true;
  });
}

// A thread that waits for them sleeps: it waits beside the one that computes.
constexpr unsigned kOrderingEvent = cudaEventDisableTiming | cudaEventBlockingSync;

class EventFence : public Fence {
 public:
  explicit EventFence(HostWait wait) : wait_(std::move(wait)) {}
  EventFence(const EventFence&) = delete;
  EventFence& operator=(const EventFence&) = delete;
  ~EventFence() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  absl::Status Record(cudaStream_t stream) {
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event_, kOrderingEvent), "a fence"));
    return ToStatus(cudaEventRecord(event_, stream), "recording a fence");
  }
  absl::Status Wait() override { return WaitForEvent(event_, "waiting for a fence", wait_); }
  absl::Status Block(const OpContext& context) override {
    return ToStatus(cudaStreamWaitEvent(StreamOf(context), event_, 0), "a stream's wait for a fence");
  }

 private:
  const HostWait wait_;
  cudaEvent_t event_ = nullptr;
};

using CudaMemory = OwnedMemory<cudaFree>;
using PinnedMemory = OwnedMemory<cudaFreeHost>;

class DeviceOperations : public Backend {
 public:
  DeviceOperations(std::string description, std::unique_ptr<MatmulFactory> matmuls)
      : description_(std::move(description)), matmuls_(std::move(matmuls)) {
    cudaGetDevice(&device_);
  }

  // What steps need beside what they plan for, and may grow: an allocation, or a new stream, within a step may wait for
  // what waits on the device for a peer, and there no abort reaches it. Enough for 2.8 billion parameters.
  absl::Status Reserve() {
    PENSTOCK_ASSIGN_OR_RETURN(staging_, AllocateHost(kStagingBytesMin));
    PENSTOCK_ASSIGN_OR_RETURN(square_sums_, Allocate(kStagingBytesMin));
    return ToStatus(cudaStreamCreateWithFlags(&beside_, cudaStreamNonBlocking), "a stream for copies");
  }

  ~DeviceOperations() override {
    if (beside_ != nullptr) cudaStreamDestroy(beside_);
    for (const cudaEvent_t event : paces_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }

  std::string Describe() const override { return description_; }

  absl::Status EnterThread() override {
    return ToStatus(cudaSetDevice(device_), absl::StrCat("using cuda:", device_, " from another thread"));
  }

  absl::Status CheckUsable() override {
    const cudaError_t state = cudaStreamQuery(nullptr);
    return state == cudaErrorNotReady ? absl::OkStatus() : ToStatus(state, absl::StrCat("cuda:", device_));
  }

  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(int64_t bytes) override {
    if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat("an allocation of ", bytes, " bytes"));
    void* data = nullptr;
    const std::string what = absl::StrCat("allocating ", bytes, " bytes of the device's memory");
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1)), what));
    auto memory = std::make_unique<CudaMemory>(data, bytes);
    // On the default stream, which other streams don't wait for; nobody may see the memory before it is zero.
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaMemset(data, 0, static_cast<size_t>(bytes)), what));
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(nullptr), what));
    return std::unique_ptr<DeviceMemory>(std::move(memory));
  }

  bool host_memory() const override { return false; }

  absl::StatusOr<int64_t> AvailableBytes() override {
    size_t free = 0;
    size_t total = 0;
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free, &total), "the device's free memory"));
    return static_cast<int64_t>(free);
  }

  absl::StatusOr<int64_t> CapacityBytes() override {
    size_t free = 0;
    size_t total = 0;
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free, &total), "the device's memory"));
    return static_cast<int64_t>(total);
  }

  absl::StatusOr<std::unique_ptr<DeviceMemory>> AllocateHost(int64_t bytes) override {
    if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat("an allocation of ", bytes, " bytes"));
    const size_t size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
    void* data = nullptr;
    PENSTOCK_RETURN_IF_ERROR(
        ToStatus(cudaMallocHost(&data, size), absl::StrCat("allocating ", bytes, " bytes of pinned host memory")));
    std::memset(data, 0, size);
    return std::unique_ptr<DeviceMemory>(std::make_unique<PinnedMemory>(data, bytes));
  }

  absl::Status Synchronize(const OpContext& context) override {
    PENSTOCK_RETURN_IF_ERROR(WaitForStream(StreamOf(context), "waiting for the device", wait_));
    staged_bytes_ = 0;
    return absl::OkStatus();
  }

  void SetHostWait(HostWait wait) override { wait_ = std::move(wait); }

  absl::Status Pace(const OpContext& context) override {
    cudaEvent_t& event = paces_[next_pace_];
    next_pace_ = (next_pace_ + 1) % paces_.size();
    if (event == nullptr) {
      PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event, kOrderingEvent), "an event"));
    } else if (cudaEventQuery(event) != cudaSuccess) {
      PENSTOCK_RETURN_IF_ERROR(WaitForEvent(event, "waiting for an earlier layer", wait_));
    }
    return ToStatus(cudaEventRecord(event, StreamOf(context)), "recording an event");
  }

  absl::StatusOr<std::unique_ptr<StreamClock>> CreateStreamClock(const OpContext& context) override {
    return MakeStreamClock(StreamOf(context));
  }

  absl::StatusOr<std::shared_ptr<Fence>> RecordFence(const OpContext& context) override {
    return Recorded(StreamOf(context));
  }

  absl::StatusOr<std::shared_ptr<Fence>> CopyBeside(const OpContext& context,
                                                    std::span<const CopySpan> copies) override {
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<Fence> before, Recorded(StreamOf(context)));
    const OpContext beside{.stream = beside_};
    PENSTOCK_RETURN_IF_ERROR(before->Block(beside));
    for (const CopySpan& copy : copies) PENSTOCK_RETURN_IF_ERROR(Copy(beside, copy.from, copy.to, copy.bytes));
    return Recorded(beside_);
  }

  absl::Status Zero(const OpContext& context, void* to, int64_t bytes) override {
    return ToStatus(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), StreamOf(context)), "clearing memory");
  }

  absl::Status Copy(const OpContext& context, const void* from, void* to, int64_t bytes) override {
    return ToStatus(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, StreamOf(context)),
                    "a copy");
  }

  absl::Status Convert(const OpContext& context, DataType from_type, const void* from, DataType to_type, void* to,
                       int64_t elements) override {
    PENSTOCK_CHECK(from_type != to_type);
    if (elements == 0) return absl::OkStatus();
    const cudaStream_t stream = StreamOf(context);
    const cudaError_t error =
        to_type == DataType::kBfloat16
            ? ConvertElements(static_cast<const float*>(from), static_cast<Bf16*>(to), elements, stream)
            : ConvertElements(static_cast<const Bf16*>(from), static_cast<float*>(to), elements, stream);
    return ToStatus(error, "a conversion");
  }

  absl::Status Add(const OpContext& context, std::span<const float> part, std::span<float> sum) override {
    PENSTOCK_CHECK(part.size() == sum.size());
    if (sum.empty()) return absl::OkStatus();
    return ToStatus(
        AddElements<float>(sum.data(), part.data(), sum.data(), static_cast<int64_t>(sum.size()), StreamOf(context)),
        "a sum");
  }

  absl::Status SquareSums(const OpContext& context, std::span<const std::span<const float>> pieces,
                          double* sums) override {
    if (pieces.empty()) return absl::OkStatus();
    const cudaStream_t stream = StreamOf(context);
    const size_t list_bytes = pieces.size() * sizeof(SquarePiece);
    const size_t bytes = pieces.size() * sizeof(double);
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const staged, Stage(context, static_cast<int64_t>(list_bytes)));
    auto* const list = reinterpret_cast<SquarePiece*>(staged);
    for (size_t i = 0; i < pieces.size(); ++i) list[i] = {pieces[i].data(), static_cast<int64_t>(pieces[i].size())};
    const auto needed = static_cast<int64_t>(list_bytes + bytes);
    if (square_sums_->size() < needed) {
      PENSTOCK_ASSIGN_OR_RETURN(square_sums_, Allocate(needed));
    }
    std::byte* const memory = square_sums_->data();
    double* const device_sums = reinterpret_cast<double*>(memory + list_bytes);
    PENSTOCK_RETURN_IF_ERROR(
        ToStatus(cudaMemcpyAsync(memory, list, list_bytes, cudaMemcpyDefault, stream), "sums of squares"));
    PENSTOCK_RETURN_IF_ERROR(ToStatus(SumsOfSquares(reinterpret_cast<const SquarePiece*>(memory),
                                                    static_cast<int64_t>(pieces.size()), device_sums, stream),
                                      "sums of squares"));
    return ToStatus(cudaMemcpyAsync(sums, device_sums, bytes, cudaMemcpyDefault, stream), "sums of squares");
  }

  absl::Status AdamW(const OpContext& context, const AdamWParams& params, std::span<const float> gradient,
                     std::span<float> weights, std::span<float> exp_avg, std::span<float> exp_avg_sq,
                     std::span<Bfloat16> rounded) override {
    const int64_t size = static_cast<int64_t>(weights.size());
    PENSTOCK_CHECK(rounded.empty() || rounded.size() == weights.size());
    return ToStatus(
        AdamWUpdate(ConstantsOf(params), gradient.data(), weights.data(), exp_avg.data(), exp_avg_sq.data(),
                    rounded.empty() ? nullptr : reinterpret_cast<Bf16*>(rounded.data()), size, StreamOf(context)),
        "the optimizer's update");
  }

  absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateLinear(shape, matmuls_.get());
  }

  absl::StatusOr<std::unique_ptr<LayerNorm>> CreateLayerNorm(const LayerNormShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateLayerNorm(shape);
  }

  absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateCausalAttention(shape);
  }

  absl::StatusOr<std::unique_ptr<Gelu>> CreateGelu(int64_t elements, DataType type) override {
    PENSTOCK_RETURN_IF_ERROR(CheckPositive("gelu", {{"elements", elements}}));
    return cuda::CreateGelu(elements, type);
  }

  absl::StatusOr<std::unique_ptr<ResidualAdd>> CreateResidualAdd(int64_t elements, DataType type) override {
    PENSTOCK_RETURN_IF_ERROR(CheckPositive("residual add", {{"elements", elements}}));
    return cuda::CreateResidualAdd(elements, type);
  }

  absl::StatusOr<std::unique_ptr<Dropout>> CreateDropout(const DropoutShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateDropout(shape);
  }

  absl::StatusOr<std::unique_ptr<Embedding>> CreateEmbedding(const EmbeddingShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateEmbedding(shape);
  }

  absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(
      const LinearCrossEntropyShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cuda::CreateLinearCrossEntropy(shape, matmuls_.get());
  }

 private:
  const std::string description_;
  absl::StatusOr<std::shared_ptr<Fence>> Recorded(cudaStream_t stream) const {
    auto fence = std::make_shared<EventFence>(wait_);
    PENSTOCK_RETURN_IF_ERROR(fence->Record(stream));
    return std::shared_ptr<Fence>(std::move(fence));
  }
  // Pinned memory for what the device is to copy, until the next Synchronize. A copy from other memory of the host's
  // may wait for the stream inside of the runtime, where no abort reaches it.
  absl::StatusOr<std::byte*> Stage(const OpContext& context, int64_t bytes) {
    constexpr int64_t kUnit = 64;
    bytes = (bytes + kUnit - 1) / kUnit * kUnit;
    if (staged_bytes_ + bytes > staging_->size()) {
      if (staged_bytes_ > 0) PENSTOCK_RETURN_IF_ERROR(Synchronize(context));
      if (bytes > staging_->size()) {
        PENSTOCK_ASSIGN_OR_RETURN(staging_, AllocateHost(bytes));
      }
    }
    return staging_->data() + std::exchange(staged_bytes_, staged_bytes_ + bytes);
  }

  int device_ = 0;  // of the thread that made this
  const std::unique_ptr<MatmulFactory> matmuls_;
  HostWait wait_;
  static constexpr int64_t kStagingBytesMin = int64_t{1} << 20;
  // The rank's thread's.
  cudaStream_t beside_ = nullptr;
  std::array<cudaEvent_t, kLayersAheadMax> paces_{};
  size_t next_pace_ = 0;
  std::unique_ptr<DeviceMemory> staging_;
  std::unique_ptr<DeviceMemory> square_sums_;  // their list and themselves
  // Of staging_.
  int64_t staged_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeDeviceOperations(std::string description,
                                                              std::unique_ptr<MatmulFactory> matmuls) {
  auto operations = std::make_unique<DeviceOperations>(std::move(description), std::move(matmuls));
  PENSTOCK_RETURN_IF_ERROR(operations->Reserve());
  return std::unique_ptr<Backend>(std::move(operations));
}

}  // namespace penstock::cuda
