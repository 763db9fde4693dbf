#include "worker/runtime/state_exchange.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_error.h"

namespace penstock {
namespace {

constexpr size_t kChunkElements = kMessageBytesMax / sizeof(float);

absl::Span<float> Mutable(std::span<float> values) { return {values.data(), values.size()}; }

absl::Status WaitAll(std::vector<std::shared_ptr<Transfer>>& transfers) {
  for (const std::shared_ptr<Transfer>& transfer : transfers) PENSTOCK_RETURN_IF_ERROR(transfer->Wait());
  transfers.clear();
  return absl::OkStatus();
}

}  // namespace

bool StateExchange::ExchangesTied() const {
  return plan_.mesh.pipeline() > 1 && (plan_.parameters.first || plan_.parameters.last) && !plan_.mine().tied.empty();
}

void StateExchange::PlanMemory(MemoryPlan* memory) {
  receives_head_ = ExchangesTied() && plan_.parameters.first;
  if (!receives_head_) return;
  head_region_ =
      memory->AddFloats(MemoryClass::kCommunication, "head part of the tied gradient", plan_.mine().tied.size());
}

void StateExchange::Bind(const Arena& arena, StageModel* model, Communicator* comm, StateClient* client) {
  model_ = model;
  comm_ = comm;
  client_ = client;
  if (receives_head_) head_part_ = arena.Floats(head_region_);
}

absl::Status StateExchange::BeginStep() {
  if (!receives_head_) return absl::OkStatus();
  const int last = plan_.OnStage(plan_.mesh.pipeline() - 1);
  for (size_t begin = 0; begin < head_part_.size(); begin += kChunkElements) {
    PENSTOCK_ASSIGN_OR_RETURN(
        auto receive,
        comm_->StartRecv(last, kTiedGradientTag, AsWritableBytes(Mutable(head_part_).subspan(begin, kChunkElements))));
    head_receives_.push_back(std::move(receive));
  }
  return absl::OkStatus();
}

absl::Status StateExchange::Reduce() {
  const StageParameters& parameters = plan_.parameters;
  PENSTOCK_RETURN_IF_ERROR(
      comm_->ReduceScatter(plan_.data_group, Mutable(model_->Gradients(parameters.untied)), plan_.untied_parts));
  if (parameters.tied.empty()) return absl::OkStatus();
  for (const TiedUse use : {TiedUse::kEmbedding, TiedUse::kHead}) {
    if (use == TiedUse::kEmbedding ? !parameters.first : !parameters.last) continue;
    PENSTOCK_RETURN_IF_ERROR(
        comm_->ReduceScatter(plan_.data_group, Mutable(model_->TiedGradients(use, parameters.tied)), plan_.tied_parts));
  }
  const ElementRange& mine = plan_.mine().tied;
  if (mine.empty()) return absl::OkStatus();
  if (parameters.tied_twice()) return AddHeadPart(model_->TiedGradients(TiedUse::kHead, mine));
  if (receives_head_) {
    PENSTOCK_RETURN_IF_ERROR(WaitAll(head_receives_));
    return AddHeadPart(head_part_);
  }
  // The last stage's owner. The first stage takes it when it likes; Pull waits for that.
  const absl::Span<const float> head = Mutable(model_->TiedGradients(TiedUse::kHead, mine));
  for (size_t begin = 0; begin < head.size(); begin += kChunkElements) {
    PENSTOCK_ASSIGN_OR_RETURN(
        auto send, comm_->StartSend(plan_.OnStage(0), kTiedGradientTag, AsBytes(head.subspan(begin, kChunkElements))));
    head_sends_.push_back(std::move(send));
  }
  return absl::OkStatus();
}

absl::Status StateExchange::AddHeadPart(std::span<const float> head) {
  const std::span<float> sum = model_->TiedGradients(TiedUse::kEmbedding, plan_.mine().tied);
  PENSTOCK_CHECK(sum.size() == head.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += head[i];
  return absl::OkStatus();
}

absl::Status StateExchange::Push(uint64_t step) {
  std::vector<GradientRange> ranges;
  const OwnedRanges& mine = plan_.mine();
  if (plan_.parameters.first && !mine.tied.empty()) {
    ranges.push_back({mine.tied, model_->TiedGradients(TiedUse::kEmbedding, mine.tied).data()});
  }
  if (!mine.untied.empty()) ranges.push_back({mine.untied, model_->Gradients(mine.untied).data()});
  if (ranges.empty()) return absl::OkStatus();
  return FromService(client_->Push(step, ranges));
}

absl::Status StateExchange::Pull(uint64_t version, absl::Duration timeout) {
  // In the order in which the next step needs them: the embedding first, the head last.
  std::vector<WeightRange> ranges;
  const OwnedRanges& mine = plan_.mine();
  const auto add = [&](const ElementRange& range) {
    if (!range.empty()) ranges.push_back({range, model_->Weights(range).data()});
  };
  if (plan_.parameters.first) add(mine.tied);
  add(mine.untied);
  if (!plan_.parameters.first) add(mine.tied);
  if (!ranges.empty()) PENSTOCK_RETURN_IF_ERROR(FromService(client_->Pull(version, ranges, timeout)));

  const StageParameters& parameters = plan_.parameters;
  PENSTOCK_RETURN_IF_ERROR(
      comm_->AllGather(plan_.data_group, Mutable(model_->Weights(parameters.untied)), plan_.untied_parts));
  if (!parameters.tied.empty()) {
    PENSTOCK_RETURN_IF_ERROR(
        comm_->AllGather(plan_.data_group, Mutable(model_->Weights(parameters.tied)), plan_.tied_parts));
  }
  return WaitAll(head_sends_);
}

}  // namespace penstock
