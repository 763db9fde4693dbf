#include "services/parameter/shard_state.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/optimizer/adamw.h"
#include "core/random/initial_weights.h"

namespace penstock {
namespace {

// Elements in one turn of a parallel loop: whole pieces, about 1 MiB for each class of the state.
constexpr int64_t kPartElements = 4 * kPieceElements;

absl::Status Cancelled() { return absl::CancelledError("the job was opened anew, or closed, while it was filled"); }

}  // namespace

absl::StatusOr<std::unique_ptr<ShardState>> ShardState::Allocate(ParameterTable table, ElementRange range,
                                                                 bool with_gradient, bool with_snapshot,
                                                                 MemoryBudget& budget, ThreadPool& pool) {
  PENSTOCK_CHECK(range.begin % kPieceElements == 0);
  std::unique_ptr<ShardState> state(new ShardState(std::move(table), range, pool));
  const size_t elements = range.size();
  const std::string what = absl::StrCat("the state of elements ", range.ToString());
  const int buffers = kStateClasses + (with_gradient ? 1 : 0) + (with_snapshot ? kStateClasses : 0);
  PENSTOCK_RETURN_IF_ERROR(budget.CheckRoom(buffers * elements * sizeof(float), what));
  for (FloatBuffer& buffer : state->state_) {
    PENSTOCK_ASSIGN_OR_RETURN(buffer, budget.Allocate(elements, what));
  }
  if (with_gradient) {
    PENSTOCK_ASSIGN_OR_RETURN(state->gradient_, budget.Allocate(elements, what));
  }
  if (with_snapshot) {
    for (FloatBuffer& buffer : state->snapshot_) {
      PENSTOCK_ASSIGN_OR_RETURN(buffer, budget.Allocate(elements, what));
    }
    state->has_snapshot_ = true;
  }
  return state;
}

std::span<float> ShardState::Part(const FloatBuffer& buffer, ElementRange part) const {
  PENSTOCK_CHECK(range_.Contains(part));
  if (part.empty()) return {};
  return buffer.span().subspan(part.begin - range_.begin, part.size());
}

std::span<float> ShardState::Elements(StateClass state_class, ElementRange part) const {
  return Part(state_[static_cast<int>(state_class)], part);
}
std::span<float> ShardState::Gradient(ElementRange part) const { return Part(gradient_, part); }
std::span<const float> ShardState::Snapshot(StateClass state_class, ElementRange part) const {
  return Part(snapshot_[static_cast<int>(state_class)], part);
}

absl::Status ShardState::ForEachPart(const std::function<absl::Status(ElementRange)>& work) const {
  const std::vector<ElementRange> parts = SplitAtMultiples(range_, kPartElements);
  std::vector<absl::Status> statuses(parts.size());
  pool_.ParallelFor(parts.size(), [&](int64_t i) { statuses[i] = work(parts[i]); });
  for (const absl::Status& status : statuses) PENSTOCK_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::Status ShardState::FillInitial(uint64_t seed, const std::atomic<bool>& cancelled) {
  return ForEachPart([&](ElementRange part) -> absl::Status {
    if (cancelled) return Cancelled();
    penstock::FillInitial(table_, seed, part, Elements(StateClass::kWeights, part));
    return absl::OkStatus();
  });
}

absl::Status ShardState::FillInitial(const PretrainedWeights& weights, const std::atomic<bool>& cancelled) {
  // By parameters, not by parts of one size: some sources read a parameter whole, however little is asked for.
  const std::span<const Parameter> parameters = table_.parameters();
  std::vector<absl::Status> statuses(parameters.size());
  pool_.ParallelFor(static_cast<int64_t>(parameters.size()), [&](int64_t i) {
    const ElementRange part = Intersect(range_, parameters[static_cast<size_t>(i)].range());
    if (part.empty()) return;
    statuses[static_cast<size_t>(i)] =
        cancelled ? Cancelled() : weights.ReadRange(part, Elements(StateClass::kWeights, part));
  });
  for (const absl::Status& status : statuses) PENSTOCK_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::Status ShardState::FillFrom(const CheckpointReader& reader, const std::atomic<bool>& cancelled) {
  return ForEachPart([&](ElementRange part) -> absl::Status {
    for (const StateClass state_class : kAllStateClasses) {
      if (cancelled) return Cancelled();
      PENSTOCK_RETURN_IF_ERROR(reader.ReadRange(state_class, part, Elements(state_class, part)));
    }
    return absl::OkStatus();
  });
}

void ShardState::Update(const v1::OptimizerSpec& optimizer, const v1::StepDecision& decision) {
  AdamWParams params;
  params.learning_rate = decision.learning_rate();
  params.beta1 = static_cast<float>(optimizer.beta1());
  params.beta2 = static_cast<float>(optimizer.beta2());
  params.epsilon = static_cast<float>(optimizer.epsilon());
  params.gradient_scale = decision.gradient_scale();
  params.bias_correction1 = decision.bias_correction1();
  params.bias_correction2 = decision.bias_correction2();
  (void)ForEachPart([&](ElementRange part) {
    AdamWParams here = params;
    for (int i = table_.IndexOf(part.begin); i < static_cast<int>(table_.parameters().size()); ++i) {
      const Parameter& parameter = table_.parameters()[i];
      const ElementRange segment = Intersect(part, parameter.range());
      if (segment.empty()) break;
      here.weight_decay = parameter.decay ? static_cast<float>(optimizer.weight_decay()) : 0.0f;
      AdamWUpdate(here, Gradient(segment), Elements(StateClass::kWeights, segment),
                  Elements(StateClass::kExpAvg, segment), Elements(StateClass::kExpAvgSq, segment));
    }
    return absl::OkStatus();
  });
}

void ShardState::TakeSnapshot() {
  PENSTOCK_CHECK(has_snapshot_);
  (void)ForEachPart([&](ElementRange part) {
    for (const StateClass state_class : kAllStateClasses) {
      const std::span<float> to = Part(snapshot_[static_cast<int>(state_class)], part);
      std::memcpy(to.data(), Elements(state_class, part).data(), to.size_bytes());
    }
    return absl::OkStatus();
  });
}

std::vector<v1::PieceDigest> ShardState::Digests() const {
  const std::vector<ElementRange> pieces = SplitAtMultiples(range_, kPieceElements);
  std::vector<v1::PieceDigest> digests(pieces.size());
  pool_.ParallelFor(pieces.size(), [&](int64_t i) {
    digests[i] = ToProto(pieces[i].begin / kPieceElements, DigestPiece(Elements(StateClass::kWeights, pieces[i]),
                                                                       Elements(StateClass::kExpAvg, pieces[i]),
                                                                       Elements(StateClass::kExpAvgSq, pieces[i])));
  });
  return digests;
}

uint64_t ShardState::state_bytes() const { return kStateClasses * range_.size() * sizeof(float); }
uint64_t ShardState::snapshot_bytes() const { return has_snapshot_ ? state_bytes() : 0; }

}  // namespace penstock
