// The numbers that a shard holds of a job, and the work on them: filling, updating, summing, digesting, copying.
//
// Not synchronised: ShardJob decides who may touch what and when. The memory is allocated once, by Allocate, and never
// grows. Work that is cut over threads is cut at fixed places and its parts don't depend on one another, so the number
// of threads doesn't show in a bit.
#ifndef PENSTOCK_SERVICES_PARAMETER_SHARD_STATE_H_
#define PENSTOCK_SERVICES_PARAMETER_SHARD_STATE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "protos/penstock/v1/step.pb.h"
#include "services/checkpoint/digest.h"
#include "services/checkpoint/pretrained.h"
#include "services/checkpoint/reader.h"
#include "services/parameter/memory_budget.h"
#include "services/parameter/thread_pool.h"

namespace penstock {

class ShardState {
 public:
  // For elements `range` of the table, which starts at a piece and may be empty. RESOURCE_EXHAUSTED when it doesn't
  // fit. Pool and budget outlive the state.
  static absl::StatusOr<std::unique_ptr<ShardState>> Allocate(ParameterTable table, ElementRange range,
                                                              bool with_gradient, bool with_snapshot,
                                                              MemoryBudget& budget, ThreadPool& pool);

  // Version 0: weights of the generator, moments zero. CANCELLED once `cancelled` is set.
  absl::Status FillInitial(uint64_t seed, const std::atomic<bool>& cancelled);
  // Version 0: these weights, moments zero. The job's model is the weights'. CANCELLED as above.
  absl::Status FillInitial(const PretrainedWeights& weights, const std::atomic<bool>& cancelled);
  // The checkpoint's version. DATA_LOSS for a damaged one.
  absl::Status FillFrom(const CheckpointReader& reader, const std::atomic<bool>& cancelled);

  const ParameterTable& table() const { return table_; }
  ElementRange range() const { return range_; }
  // Elements `part`, which lie within range(), of a class of the state; of the gradient (only with one); of the
  // snapshot.
  std::span<float> Elements(StateClass state_class, ElementRange part) const;
  std::span<float> Gradient(ElementRange part) const;
  std::span<const float> Snapshot(StateClass state_class, ElementRange part) const;
  bool has_snapshot() const { return has_snapshot_; }

  // The optimizer's update of all elements with the gradient that is held, as `decision` says.
  void Update(const v1::OptimizerSpec& optimizer, const v1::StepDecision& decision);
  // Copies weights and moments into the snapshot. Only with one.
  void TakeSnapshot();
  // Of all pieces, in order.
  std::vector<v1::PieceDigest> Digests() const;

  uint64_t state_bytes() const;
  uint64_t gradient_bytes() const { return gradient_.size() * sizeof(float); }
  uint64_t snapshot_bytes() const;

 private:
  ShardState(ParameterTable table, ElementRange range, ThreadPool& pool)
      : table_(std::move(table)), range_(range), pool_(pool) {}
  std::span<float> Part(const FloatBuffer& buffer, ElementRange part) const;
  // Calls work(part) for each run of whole pieces, side by side; returns the first error in order.
  absl::Status ForEachPart(const std::function<absl::Status(ElementRange)>& work) const;

  const ParameterTable table_;
  const ElementRange range_;
  ThreadPool& pool_;
  bool has_snapshot_ = false;
  std::array<FloatBuffer, kStateClasses> state_;
  FloatBuffer gradient_;
  std::array<FloatBuffer, kStateClasses> snapshot_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_SHARD_STATE_H_
