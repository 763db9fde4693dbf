// What the simulated job trains: a few real numbers whose every bit depends on the whole history of decisions, so that
// a lost, doubled, mixed or reordered step shows in the weights. And the undisturbed run, which every run must equal.
#pragma once

#include <cstdint>
#include <vector>

#include "core/layout/range.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock::simulation {

inline constexpr int64_t kPieceElements = 4;
inline constexpr int64_t kElements = 5 * kPieceElements + 2;
inline constexpr uint64_t kBatch = 8;

// What is held of a range: as many numbers of each of ShardStep::kStateKinds kinds.
struct State {
  std::vector<double> weights;
  std::vector<double> momentum;
  std::vector<double> variance;

  // 1 to kStateKinds; 0, as in a pull that says nothing, means the weights.
  std::vector<double>& of_kind(int kind) { return kind <= 1 ? weights : kind == 2 ? momentum : variance; }
  const std::vector<double>& of_kind(int kind) const { return const_cast<State*>(this)->of_kind(kind); }
  State Part(int64_t begin, int64_t end) const;

  friend bool operator==(const State&, const State&) = default;
};

// The job: as users write it, on `ranks` data ranks. `publish_every_steps` > 0: its ranks update, and publish their
// state at these steps and at checkpoints.
v1::JobSpec SimSpec(int ranks, uint64_t steps, uint64_t checkpoint_every_steps, uint64_t publish_every_steps);

// Whole pieces, as equal as they go.
ElementRange ShardRange(int shard, int shards);
// The elements whose gradient rank `rank` pushes and whose weights it pulls.
ElementRange OwnedRange(int rank, int ranks);

State InitialState(const ElementRange& range);
// Of one element, from its weight in version step - 1.
double Gradient(uint64_t step, int64_t element, double weight);
// What the leader says of a step; `weights` are its own ones of version step - 1.
v1::StepInputs InputsOf(uint64_t step, const std::vector<double>& weights);
double SquareSum(const std::vector<double>& gradient);
// One element's update.
void Update(const v1::StepDecision& decision, double gradient, State& state, size_t element);

// The undisturbed run.
class Reference {
 public:
  Reference(int shards, int ranks, const v1::JobSpec& spec);

  const State& state(uint64_t version) const { return states_[version]; }
  // Of step >= 1.
  const v1::StepDecision& decision(uint64_t step) const { return decisions_[step]; }
  uint64_t steps() const { return states_.size() - 1; }

 private:
  std::vector<State> states_;
  std::vector<v1::StepDecision> decisions_;
};

}  // namespace penstock::simulation
