#include "worker/runtime/staged_state_client.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "worker/runtime/range_runs.h"

namespace penstock {
namespace {

class StagedStateClient : public StateClient {
 public:
  StagedStateClient(StateClient* inner, Backend* backend, int64_t bytes_max)
      : inner_(inner), backend_(backend), run_bytes_max_(bytes_max / 2 / kElementBytesMax * kElementBytesMax) {
    PENSTOCK_CHECK(run_bytes_max_ > 0);
  }
  // After an error the device may still be copying.
  ~StagedStateClient() override {
    if (buffer_ != nullptr) (void)backend_->Synchronize({});
  }

  int shard_count() const override { return inner_->shard_count(); }

  absl::Status Push(uint64_t step, std::span<const GradientRange> ranges) override {
    PENSTOCK_RETURN_IF_ERROR(Reserve(ranges));
    const auto runs = RunsOf(ranges, run_bytes_max_);
    std::vector<GradientRange> next;
    if (!runs.empty()) PENSTOCK_RETURN_IF_ERROR(Fetch(runs[0], 0, &next));
    for (size_t i = 0; i < runs.size(); ++i) {
      PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
      const std::vector<GradientRange> staged = std::exchange(next, {});
      // Copied while the shards take this one.
      if (i + 1 < runs.size()) PENSTOCK_RETURN_IF_ERROR(Fetch(runs[i + 1], i + 1, &next));
      PENSTOCK_RETURN_IF_ERROR(inner_->Push(step, staged));
    }
    return absl::OkStatus();
  }

  absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration timeout) override {
    PENSTOCK_RETURN_IF_ERROR(Reserve(ranges));
    const auto runs = RunsOf(ranges, run_bytes_max_);
    for (size_t i = 0; i < runs.size(); ++i) {
      // The device may still be copying the one before the last out of this half.
      if (i >= 2) PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
      std::vector<WeightRange> staged = runs[i];
      std::byte* at = Half(i);
      for (WeightRange& range : staged) {
        SetAddress(at, &range);
        at += BytesOf(range);
      }
      PENSTOCK_RETURN_IF_ERROR(inner_->Pull(version, staged, timeout));
      for (size_t k = 0; k < staged.size(); ++k) {
        PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, AddressOf(staged[k]), AddressOf(runs[i][k]), BytesOf(staged[k])));
      }
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

  absl::Status Reserve(int64_t bytes) {
    bytes = std::min(bytes, 2 * run_bytes_max_);
    if (buffer_ != nullptr && buffer_->size() >= bytes) return absl::OkStatus();
    buffer_.reset();
    PENSTOCK_ASSIGN_OR_RETURN(buffer_, backend_->AllocateHost(bytes));
    return absl::OkStatus();
  }

 private:
  // Where run `i` goes.
  std::byte* Half(size_t i) const { return buffer_->data() + (i % 2 == 0 ? 0 : run_bytes_max_); }

  // Has the device copy a run to the host; it is there after Synchronize.
  absl::Status Fetch(const std::vector<GradientRange>& run, size_t i, std::vector<GradientRange>* staged) {
    std::byte* at = Half(i);
    *staged = run;
    for (GradientRange& range : *staged) {
      PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, AddressOf(range), at, BytesOf(range)));
      SetAddress(at, &range);
      at += BytesOf(range);
    }
    return absl::OkStatus();
  }

  template <typename Range>
  absl::Status Reserve(std::span<const Range> ranges) {
    int64_t bytes = 0;
    for (const Range& range : ranges) bytes += BytesOf(range);
    return Reserve(bytes);
  }

  StateClient* const inner_;
  Backend* const backend_;
  const int64_t run_bytes_max_;
  std::unique_ptr<DeviceMemory> buffer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StateClient>> StageThroughHost(StateClient* inner, Backend* backend, int64_t bytes,
                                                              int64_t bytes_max) {
  auto client = std::make_unique<StagedStateClient>(inner, backend, bytes_max);
  PENSTOCK_RETURN_IF_ERROR(client->Reserve(bytes));
  return std::unique_ptr<StateClient>(std::move(client));
}

}  // namespace penstock
