#include "worker/ops/operation_times.h"

#include <span>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/ops/call_times.h"
#include "worker/ops/measured_operations.h"

namespace penstock {
namespace {

class MeasuredBackend : public Backend {
 public:
  MeasuredBackend(std::unique_ptr<Backend> inner, OperationMeters meters)
      : inner_(std::move(inner)), times_(ClockOf(*inner_), std::move(meters)) {
    zero_ = times_.MeterOf("clearing");
    copy_ = times_.MeterOf("copy");
    add_ = times_.MeterOf("sum");
    convert_ = times_.MeterOf("conversion");
    squares_ = times_.MeterOf("sums of squares");
    adamw_ = times_.MeterOf("adamw");
  }

  std::string Describe() const override { return inner_->Describe(); }
  absl::StatusOr<int64_t> AvailableBytes() override { return inner_->AvailableBytes(); }
  absl::StatusOr<int64_t> CapacityBytes() override { return inner_->CapacityBytes(); }
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(int64_t bytes) override { return inner_->Allocate(bytes); }
  absl::Status EnterThread() override { return inner_->EnterThread(); }
  absl::Status CheckUsable() override { return inner_->CheckUsable(); }
  bool host_memory() const override { return inner_->host_memory(); }
  absl::StatusOr<std::unique_ptr<DeviceMemory>> AllocateHost(int64_t bytes) override {
    return inner_->AllocateHost(bytes);
  }
  absl::Status Synchronize(const OpContext& context) override { return inner_->Synchronize(context); }
  void SetHostWait(HostWait wait) override { inner_->SetHostWait(std::move(wait)); }
  absl::Status Pace(const OpContext& context) override { return inner_->Pace(context); }
  absl::StatusOr<std::unique_ptr<StreamClock>> CreateStreamClock(const OpContext& context) override {
    return inner_->CreateStreamClock(context);
  }
  absl::StatusOr<std::shared_ptr<Fence>> RecordFence(const OpContext& context) override {
    return inner_->RecordFence(context);
  }
  absl::StatusOr<std::shared_ptr<Fence>> CopyBeside(const OpContext& context,
                                                    std::span<const CopySpan> copies) override {
    return inner_->CopyBeside(context, copies);
  }

  absl::Status Zero(const OpContext& context, void* to, int64_t bytes) override {
    return times_.Run(context, zero_, 0, static_cast<double>(bytes), [&] { return inner_->Zero(context, to, bytes); });
  }
  absl::Status Copy(const OpContext& context, const void* from, void* to, int64_t bytes) override {
    return times_.Run(context, copy_, 0, 2 * static_cast<double>(bytes),
                      [&] { return inner_->Copy(context, from, to, bytes); });
  }
  absl::Status Add(const OpContext& context, std::span<const float> part, std::span<float> sum) override {
    return times_.Run(context, add_, 0, 12 * static_cast<double>(sum.size()),
                      [&] { return inner_->Add(context, part, sum); });
  }
  absl::Status Convert(const OpContext& context, DataType from_type, const void* from, DataType to_type, void* to,
                       int64_t elements) override {
    const double bytes = static_cast<double>(elements) * static_cast<double>(BytesOf(from_type) + BytesOf(to_type));
    return times_.Run(context, convert_, 0, bytes,
                      [&] { return inner_->Convert(context, from_type, from, to_type, to, elements); });
  }
  absl::Status SquareSums(const OpContext& context, std::span<const std::span<const float>> pieces,
                          double* sums) override {
    double elements = 0;
    for (const std::span<const float> piece : pieces) elements += static_cast<double>(piece.size());
    return times_.Run(context, squares_, 0, 4 * elements, [&] { return inner_->SquareSums(context, pieces, sums); });
  }
  absl::Status AdamW(const OpContext& context, const AdamWParams& params, std::span<const float> gradient,
                     std::span<float> weights, std::span<float> exp_avg, std::span<float> exp_avg_sq,
                     std::span<Bfloat16> rounded) override {
    // Four are read, three of them written.
    const double bytes = 28 * static_cast<double>(weights.size()) + 2 * static_cast<double>(rounded.size());
    return times_.Run(context, adamw_, 0, bytes,
                      [&] { return inner_->AdamW(context, params, gradient, weights, exp_avg, exp_avg_sq, rounded); });
  }

  absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateLinear(shape));
    return Measured(std::move(inner), shape, &times_);
  }
  absl::StatusOr<std::unique_ptr<LayerNorm>> CreateLayerNorm(const LayerNormShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateLayerNorm(shape));
    return Measured(std::move(inner), shape, &times_);
  }
  absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateCausalAttention(shape));
    return Measured(std::move(inner), shape, &times_);
  }
  absl::StatusOr<std::unique_ptr<Gelu>> CreateGelu(int64_t elements, DataType type) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateGelu(elements, type));
    return Measured(std::move(inner), static_cast<double>(elements * BytesOf(type)), &times_);
  }
  absl::StatusOr<std::unique_ptr<ResidualAdd>> CreateResidualAdd(int64_t elements, DataType type) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateResidualAdd(elements, type));
    return Measured(std::move(inner), static_cast<double>(elements * BytesOf(type)), &times_);
  }
  absl::StatusOr<std::unique_ptr<Dropout>> CreateDropout(const DropoutShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateDropout(shape));
    return Measured(std::move(inner), shape, &times_);
  }
  absl::StatusOr<std::unique_ptr<Embedding>> CreateEmbedding(const EmbeddingShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateEmbedding(shape));
    return Measured(std::move(inner), shape, &times_);
  }
  absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(
      const LinearCrossEntropyShape& shape) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto inner, inner_->CreateLinearCrossEntropy(shape));
    return Measured(std::move(inner), shape, &times_);
  }

 private:
  static std::unique_ptr<StreamClock> ClockOf(Backend& backend) {
    absl::StatusOr<std::unique_ptr<StreamClock>> clock = backend.CreateStreamClock({});
    return clock.ok() ? *std::move(clock) : nullptr;
  }

  const std::unique_ptr<Backend> inner_;
  CallTimes times_;
  SharedMeter zero_, copy_, add_, convert_, squares_, adamw_;
};

}  // namespace

std::unique_ptr<Backend> MeasureOperations(std::unique_ptr<Backend> backend, OperationMeters meters) {
  return std::make_unique<MeasuredBackend>(std::move(backend), std::move(meters));
}

}  // namespace penstock
