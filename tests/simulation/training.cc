#include "tests/simulation/training.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/commit/shard_step.h"
#include "tests/simulation/sim_random.h"

namespace penstock::simulation {

State State::Part(int64_t begin, int64_t end) const {
  State part;
  for (int kind = 1; kind <= ShardStep::kStateKinds; ++kind) {
    const std::vector<double>& all = of_kind(kind);
    part.of_kind(kind).assign(all.begin() + begin, all.begin() + end);
  }
  return part;
}

v1::JobSpec SimSpec(int ranks, uint64_t steps, uint64_t checkpoint_every_steps, uint64_t publish_every_steps) {
  v1::JobSpec spec;
  spec.set_name("simulated");
  spec.mutable_training()->set_steps(steps);
  spec.mutable_training()->set_global_batch_size(kBatch);
  v1::OptimizerSpec& optimizer = *spec.mutable_optimizer();
  optimizer.set_type(v1::OptimizerSpec::TYPE_ADAMW);
  optimizer.set_learning_rate(0.05);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_grad_clip(0.01);
  optimizer.mutable_schedule()->set_type(v1::LearningRateSchedule::TYPE_LINEAR);
  optimizer.mutable_schedule()->set_final_ratio(0.1);
  spec.mutable_parallel()->set_pipeline(1);
  spec.mutable_parallel()->set_tensor(1);
  spec.mutable_parallel()->set_data(static_cast<uint32_t>(ranks));
  if (publish_every_steps > 0) {
    spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
    spec.mutable_parallel()->mutable_zero()->set_mirror(v1::ZeroSpec::MIRROR_OFF);
    spec.mutable_training()->set_digest_every_steps(publish_every_steps);
  }
  if (checkpoint_every_steps > 0) {
    spec.mutable_checkpoint()->set_directory("checkpoints");
    spec.mutable_checkpoint()->set_every_steps(checkpoint_every_steps);
  }
  return spec;
}

ElementRange ShardRange(int shard, int shards) {
  const int64_t pieces = (kElements + kPieceElements - 1) / kPieceElements;
  const auto cut = [&](int s) { return std::min(kElements, pieces * s / shards * kPieceElements); };
  return {cut(shard), cut(shard + 1)};
}

ElementRange OwnedRange(int rank, int ranks) { return {kElements * rank / ranks, kElements * (rank + 1) / ranks}; }

State InitialState(const ElementRange& range) {
  State state;
  for (int64_t e = range.begin; e < range.end; ++e) {
    state.weights.push_back(SimRandom(static_cast<uint64_t>(e) * 7919).Unit() - 0.5);
    state.momentum.push_back(0.0);
    state.variance.push_back(0.0);
  }
  return state;
}

double Gradient(uint64_t step, int64_t element, double weight) {
  const double noise = SimRandom(step * 1000003 + static_cast<uint64_t>(element)).Unit() - 0.5;
  return 3.0 * weight + noise;
}

v1::StepInputs InputsOf(uint64_t step, const std::vector<double>& weights) {
  v1::StepInputs inputs;
  double loss = 100.0;
  for (const double weight : weights) loss += weight * weight;
  inputs.set_loss_sum(loss);
  inputs.set_target_count(64);
  v1::SampleRange* samples = inputs.add_samples();
  samples->set_begin((step - 1) * kBatch);
  samples->set_end(step * kBatch);
  return inputs;
}

double SquareSum(const std::vector<double>& gradient) {
  double sum = 0;
  for (const double g : gradient) sum += g * g;
  return sum;
}

void Update(const v1::StepDecision& decision, double gradient, State& state, size_t element) {
  const double scaled = gradient * decision.gradient_scale() * decision.bias_correction1();
  double& momentum = state.momentum[element];
  double& variance = state.variance[element];
  momentum = 0.9 * momentum + scaled;
  variance = 0.9 * variance + scaled * scaled;
  state.weights[element] -= decision.learning_rate() * momentum / (1 + variance);
}

Reference::Reference(int shards, int ranks, const v1::JobSpec& spec) {
  states_.push_back(InitialState({0, kElements}));
  decisions_.emplace_back();
  const ElementRange leader = OwnedRange(ranks - 1, ranks);
  for (uint64_t step = 1; step <= spec.training().steps(); ++step) {
    State state = states_.back();
    std::vector<double> gradient;
    for (int64_t e = 0; e < kElements; ++e) gradient.push_back(Gradient(step, e, state.weights[e]));
    std::vector<v1::PreparedStep> prepared;
    for (int shard = 0; shard < shards; ++shard) {
      const ElementRange range = ShardRange(shard, shards);
      v1::PreparedStep& part = prepared.emplace_back();
      part.set_step(step);
      *part.mutable_inputs() =
          InputsOf(step, {state.weights.begin() + leader.begin, state.weights.begin() + leader.end});
      for (const ElementRange& piece : SplitAtMultiples(range, kPieceElements)) {
        part.add_piece_square_sums(SquareSum({gradient.begin() + piece.begin, gradient.begin() + piece.end}));
      }
    }
    const auto decision = Decide(spec.optimizer(), spec.training().steps(), prepared);
    PENSTOCK_CHECK(decision.ok());
    for (size_t e = 0; e < static_cast<size_t>(kElements); ++e) Update(*decision, gradient[e], state, e);
    states_.push_back(state);
    decisions_.push_back(*decision);
  }
}

}  // namespace penstock::simulation
