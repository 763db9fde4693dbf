#include "worker/runtime/staged_state_client.h"

#include <utility>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

class StagedStateClient : public StateClient {
 public:
  StagedStateClient(StateClient* inner, Backend* backend) : inner_(inner), backend_(backend) {}

  int shard_count() const override { return inner_->shard_count(); }

  absl::Status Push(uint64_t step, std::span<const GradientRange> ranges) override {
    int64_t bytes = 0;
    for (const GradientRange& range : ranges) bytes += range.range.size() * kFloatBytes;
    PENSTOCK_RETURN_IF_ERROR(Reserve(bytes));
    std::byte* at = buffer_->data();
    std::vector<GradientRange> staged(ranges.begin(), ranges.end());
    for (GradientRange& range : staged) {
      const int64_t size = range.range.size() * kFloatBytes;
      PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, range.data, at, size));
      range.data = reinterpret_cast<const float*>(at);
      at += size;
    }
    PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
    return inner_->Push(step, staged);
  }

  absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration timeout) override {
    int64_t bytes = 0;
    for (const WeightRange& range : ranges) bytes += BytesOf(range);
    PENSTOCK_RETURN_IF_ERROR(Reserve(bytes));
    std::byte* at = buffer_->data();
    std::vector<WeightRange> staged(ranges.begin(), ranges.end());
    for (WeightRange& range : staged) {
      const int64_t size = BytesOf(range);
      if (range.rounded != nullptr) {
        range.rounded = reinterpret_cast<Bfloat16*>(at);
      } else {
        range.data = reinterpret_cast<float*>(at);
      }
      at += size;
    }
    PENSTOCK_RETURN_IF_ERROR(inner_->Pull(version, staged, timeout));
    for (size_t i = 0; i < staged.size(); ++i) {
      PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, AddressOf(staged[i]), AddressOf(ranges[i]), BytesOf(ranges[i])));
    }
    // The next push writes to the buffer.
    return backend_->Synchronize({});
  }

  absl::Status AwaitVersion(uint64_t version, std::span<const ElementRange> ranges, absl::Duration timeout) override {
    return inner_->AwaitVersion(version, ranges, timeout);
  }
  void Prepare(int shard, uint64_t step, const v1::StepInputs& inputs,
               std::function<void(absl::StatusOr<v1::PreparedStep>)> done) override {
    inner_->Prepare(shard, step, inputs, std::move(done));
  }
  void Commit(int shard, const v1::StepDecision& decision, const std::vector<v1::StepRecord>& records,
              std::function<void(absl::StatusOr<uint64_t>)> done) override {
    inner_->Commit(shard, decision, records, std::move(done));
  }
  void Cancel(const std::string& reason) override { inner_->Cancel(reason); }

 private:
  static constexpr int64_t kFloatBytes = sizeof(float);

  static int64_t BytesOf(const WeightRange& range) {
    return range.range.size() * (range.rounded != nullptr ? static_cast<int64_t>(sizeof(Bfloat16)) : kFloatBytes);
  }
  static void* AddressOf(const WeightRange& range) {
    return range.rounded != nullptr ? static_cast<void*>(range.rounded) : static_cast<void*>(range.data);
  }

  absl::Status Reserve(int64_t bytes) {
    if (buffer_ != nullptr && buffer_->size() >= bytes) return absl::OkStatus();
    buffer_.reset();
    PENSTOCK_ASSIGN_OR_RETURN(buffer_, backend_->AllocateHost(bytes));
    return absl::OkStatus();
  }

  StateClient* const inner_;
  Backend* const backend_;
  std::unique_ptr<DeviceMemory> buffer_;
};

}  // namespace

std::unique_ptr<StateClient> StageThroughHost(StateClient* inner, Backend* backend) {
  return std::make_unique<StagedStateClient>(inner, backend);
}

}  // namespace penstock
