#include "worker/runtime/gradient_norm.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/model/parameter_table.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_error.h"

namespace penstock {
namespace {

absl::Status WaitAll(std::vector<std::shared_ptr<Transfer>>& transfers) {
  for (const std::shared_ptr<Transfer>& transfer : transfers) PENSTOCK_RETURN_IF_ERROR(transfer->Wait());
  transfers.clear();
  return absl::OkStatus();
}

// Calls take(part, elements) for what of `range` lies in each of `gradients`, in their order.
template <typename Take>
void ForEachPart(const ElementRange& range, std::span<const GradientRange> gradients, const Take& take) {
  for (const GradientRange& gradient : gradients) {
    const ElementRange part = Intersect(range, gradient.range);
    if (!part.empty()) take(part, gradient.data + (part.begin - gradient.range.begin));
  }
}

absl::Span<const std::byte> FloatBytes(const float* data, int64_t count) {
  return AsBytes(absl::Span<const float>(data, static_cast<size_t>(count)));
}

}  // namespace

absl::StatusOr<GradientNorm> GradientNorm::Create(const RankPlan& plan) {
  PENSTOCK_ASSIGN_OR_RETURN(std::vector<NormPiece> pieces, PlanNorm(plan.table.size(), plan.pushed));
  return GradientNorm(plan, std::move(pieces));
}

GradientNorm::GradientNorm(const RankPlan& plan, std::vector<NormPiece> pieces)
    : plan_(&plan), pieces_(std::move(pieces)), assembles_(AssemblesPieces(pieces_, plan.rank(), plan.updated())) {}

void GradientNorm::PlanMemory(MemoryPlan* memory) {
  if (assembles_) piece_region_ = memory->AddFloats(MemoryClass::kCommunication, "piece of the norm", kPieceElements);
}

absl::Status GradientNorm::Bind(const Arena& arena, Communicator* comm, Communicator* control, Backend* backend) {
  comm_ = comm;
  control_ = control;
  backend_ = backend;
  if (assembles_) piece_ = arena.Floats(piece_region_);
  const auto at_home = std::count_if(pieces_.begin(), pieces_.end(),
                                     [this](const NormPiece& piece) { return piece.home == plan_->rank(); });
  own_sums_.resize(static_cast<size_t>(at_home));
  if (at_home == 0) return absl::OkStatus();
  PENSTOCK_ASSIGN_OR_RETURN(host_sums_, backend_->AllocateHost(at_home * static_cast<int64_t>(sizeof(double))));
  return absl::OkStatus();
}

absl::StatusOr<v1::StepDecision> GradientNorm::Decide(uint64_t step, std::span<const GradientRange> gradients,
                                                      const std::optional<v1::StepInputs>& inputs) {
  // Sends wait for the receivers, which take piece after piece; nobody's sends wait for his own receives.
  PENSTOCK_ASSIGN_OR_RETURN(Transfers sends, SendFragments(gradients));
  PENSTOCK_RETURN_IF_ERROR(HomeSums(gradients));
  PENSTOCK_RETURN_IF_ERROR(WaitAll(sends));
  if (plan_->leader()) {
    PENSTOCK_CHECK(inputs.has_value());
    PENSTOCK_ASSIGN_OR_RETURN(const v1::StepDecision decision, DecideForAll(step, *inputs));
    return Share(decision, step);
  }
  if (!own_sums_.empty()) {
    PENSTOCK_RETURN_IF_ERROR(control_->Send(plan_->mesh.leader(), kNormSumsTag,
                                            AsBytes(absl::Span<const double>(own_sums_.data(), own_sums_.size()))));
  }
  return Share(std::nullopt, step);
}

absl::StatusOr<GradientNorm::Transfers> GradientNorm::SendFragments(std::span<const GradientRange> gradients) {
  Transfers sends;
  for (const NormPiece& piece : pieces_) {
    if (piece.home == plan_->rank()) continue;
    for (const NormFragment& fragment : piece.fragments) {
      if (fragment.rank != plan_->rank()) continue;
      absl::Status status;
      ForEachPart(fragment.range, gradients, [&](const ElementRange& part, const float* elements) {
        if (!status.ok()) return;
        auto send = comm_->StartSend(piece.home, kNormFragmentTag, FloatBytes(elements, part.size()));
        status = send.status();
        if (send.ok()) sends.push_back(*std::move(send));
      });
      PENSTOCK_RETURN_IF_ERROR(status);
    }
  }
  return sends;
}

absl::Status GradientNorm::HomeSums(std::span<const GradientRange> gradients) {
  if (own_sums_.empty()) return absl::OkStatus();
  // Of the pieces that have to be put together first, then of the whole ones.
  auto* const sums = reinterpret_cast<double*>(host_sums_->data());
  std::vector<size_t> index;  // of sums in own_sums_
  std::vector<std::span<const float>> whole;
  std::vector<size_t> whole_index;
  size_t next = 0;
  for (const NormPiece& piece : pieces_) {
    if (piece.home != plan_->rank()) continue;
    const auto found = std::find_if(gradients.begin(), gradients.end(), [&](const GradientRange& gradient) {
      return gradient.range.Contains(piece.range);
    });
    if (found != gradients.end()) {
      whole_index.push_back(next++);
      whole.emplace_back(found->data + (piece.range.begin - found->range.begin), piece.range.size());
      continue;
    }
    PENSTOCK_ASSIGN_OR_RETURN(const std::span<const float> assembled, Assemble(piece, gradients));
    PENSTOCK_RETURN_IF_ERROR(backend_->SquareSums({}, {&assembled, 1}, sums + index.size()));
    index.push_back(next++);
  }
  PENSTOCK_RETURN_IF_ERROR(backend_->SquareSums({}, whole, sums + index.size()));
  index.insert(index.end(), whole_index.begin(), whole_index.end());
  PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
  for (size_t i = 0; i < index.size(); ++i) own_sums_[index[i]] = sums[i];
  return absl::OkStatus();
}

absl::StatusOr<std::span<const float>> GradientNorm::Assemble(const NormPiece& piece,
                                                              std::span<const GradientRange> gradients) {
  const auto at = [&](const ElementRange& range) {
    return absl::MakeSpan(piece_.data() + (range.begin - piece.range.begin), static_cast<size_t>(range.size()));
  };
  Transfers receives;
  for (const NormFragment& fragment : piece.fragments) {
    if (fragment.rank == plan_->rank()) {
      absl::Status status;
      ForEachPart(fragment.range, gradients, [&](const ElementRange& part, const float* elements) {
        const int64_t bytes = part.size() * static_cast<int64_t>(sizeof(float));
        status.Update(backend_->Copy({}, elements, at(part).data(), bytes));
      });
      PENSTOCK_RETURN_IF_ERROR(status);
      continue;
    }
    // As the owner cuts it: by its ranges, in their order.
    for (const ElementRange& range : plan_->pushed[static_cast<size_t>(fragment.rank)]) {
      const ElementRange part = Intersect(fragment.range, range);
      if (part.empty()) continue;
      PENSTOCK_ASSIGN_OR_RETURN(auto receive,
                                comm_->StartRecv(fragment.rank, kNormFragmentTag, AsWritableBytes(at(part))));
      receives.push_back(std::move(receive));
    }
  }
  PENSTOCK_RETURN_IF_ERROR(WaitAll(receives));
  return std::span<const float>(piece_.data(), static_cast<size_t>(piece.range.size()));
}

absl::StatusOr<v1::StepDecision> GradientNorm::DecideForAll(uint64_t step, const v1::StepInputs& inputs) {
  sums_.assign(static_cast<size_t>(plan_->mesh.size()), {});
  for (const NormPiece& piece : pieces_) sums_[static_cast<size_t>(piece.home)].push_back(0);
  Transfers receives;
  for (int rank = 0; rank < plan_->mesh.size(); ++rank) {
    std::vector<double>& theirs = sums_[static_cast<size_t>(rank)];
    if (theirs.empty() || rank == plan_->rank()) continue;
    PENSTOCK_ASSIGN_OR_RETURN(
        auto receive,
        control_->StartRecv(rank, kNormSumsTag, AsWritableBytes(absl::Span<double>(theirs.data(), theirs.size()))));
    receives.push_back(std::move(receive));
  }
  PENSTOCK_RETURN_IF_ERROR(WaitAll(receives));
  sums_[static_cast<size_t>(plan_->rank())] = own_sums_;

  // As one shard would prepare it that owns the whole space.
  v1::PreparedStep prepared;
  prepared.set_step(step);
  *prepared.mutable_inputs() = inputs;
  std::vector<size_t> next(sums_.size(), 0);
  for (const NormPiece& piece : pieces_) {
    const size_t home = static_cast<size_t>(piece.home);
    prepared.add_piece_square_sums(sums_[home][next[home]++]);
  }
  absl::StatusOr<v1::StepDecision> decision =
      penstock::Decide(plan_->spec().optimizer(), plan_->spec().training().steps(), {prepared});
  // The same gradients come out of every new try.
  if (!decision.ok()) return MarkPermanent(decision.status());
  return decision;
}

absl::StatusOr<v1::StepDecision> GradientNorm::Share(const std::optional<v1::StepDecision>& decision, uint64_t step) {
  if (decision.has_value()) {
    wire_ = {.gradient_norm = decision->gradient_norm(),
             .learning_rate = decision->learning_rate(),
             .gradient_scale = decision->gradient_scale(),
             .bias_correction1 = decision->bias_correction1(),
             .bias_correction2 = decision->bias_correction2()};
  }
  std::vector<int> all(static_cast<size_t>(plan_->mesh.size()));
  for (size_t rank = 0; rank < all.size(); ++rank) all[rank] = static_cast<int>(rank);
  if (all.size() > 1) {
    PENSTOCK_RETURN_IF_ERROR(
        control_->Broadcast(all, plan_->mesh.leader(), AsWritableBytes(absl::Span<WireDecision>(&wire_, 1))));
  }
  if (decision.has_value()) return *decision;
  v1::StepDecision shared;
  shared.set_step(step);
  shared.set_gradient_norm(wire_.gradient_norm);
  shared.set_learning_rate(wire_.learning_rate);
  shared.set_gradient_scale(wire_.gradient_scale);
  shared.set_bias_correction1(wire_.bias_correction1);
  shared.set_bias_correction2(wire_.bias_correction2);
  return shared;
}

}  // namespace penstock
