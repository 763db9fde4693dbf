// What a rank asks of the parameter service: the seam between the runtime and services/parameter's client, with a fake
// beside it (fake_state_client.h). One object serves one epoch of one job.
//
// Thread-safe. The caller owns the memory of gradients and weights, which must stay until the call returns.
#ifndef PENSTOCK_WORKER_RUNTIME_STATE_CLIENT_H_
#define PENSTOCK_WORKER_RUNTIME_STATE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/bfloat16.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

// A range of the canonical space and where its elements lie: data[0] is element range.begin. A kind says that they are
// other numbers than gradients and weights: what a rank that updates by itself takes at first, and publishes.
struct GradientRange {
  ElementRange range;
  const float* data = nullptr;
  v1::StateKind kind = v1::STATE_KIND_UNSPECIFIED;
};
// In bf16 where `rounded` says where to; then `data` isn't used, and all ranges of a pull are so.
struct WeightRange {
  ElementRange range;
  float* data = nullptr;
  v1::StateKind kind = v1::STATE_KIND_UNSPECIFIED;
  Bfloat16* rounded = nullptr;
};

class StateClient {
 public:
  virtual ~StateClient() = default;

  virtual int shard_count() const = 0;

  // Returns when every shard has the gradients. FAILED_PRECONDITION: the epoch is fenced.
  virtual absl::Status Push(uint64_t step, std::span<const GradientRange> ranges) = 0;
  // Weights of exactly `version`; waits until it is committed, at most `timeout`. FAILED_PRECONDITION: fenced.
  virtual absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration timeout) = 0;

  // Waits until every shard that holds some of `ranges` has committed `version`, at most `timeout`.
  virtual absl::Status AwaitVersion(uint64_t version, std::span<const ElementRange> ranges, absl::Duration timeout) = 0;

  // One attempt each; `done` is called once, from any thread, also after Cancel, and must not block.
  virtual void Prepare(int shard, uint64_t step, const v1::StepInputs& inputs,
                       std::function<void(absl::StatusOr<v1::PreparedStep>)> done) = 0;
  // Answers with the shard's committed step. `records`: as in CommitRequest.
  virtual void Commit(int shard, const v1::StepDecision& decision, const std::vector<v1::StepRecord>& records,
                      std::function<void(absl::StatusOr<uint64_t>)> done) = 0;

  // Ends all calls at once, from any thread, and for good.
  virtual void Cancel(const std::string& reason) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_STATE_CLIENT_H_
