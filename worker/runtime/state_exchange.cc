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

std::span<float> Stretch(std::span<float> memory, const ElementRange& stretch) {
  return memory.subspan(static_cast<size_t>(stretch.begin), static_cast<size_t>(stretch.size()));
}

// The ranges of a list and where their elements lie, `memory` being the list's own.
template <typename Range, typename Memory>
void AddRanges(const RangeList& list, Memory memory, std::vector<Range>* ranges) {
  for (const RangeList::Placed& placed : list.placed())
    ranges->push_back({placed.range, memory.data() + placed.offset});
}

absl::Status WaitAll(std::vector<std::shared_ptr<Transfer>>& transfers) {
  for (const std::shared_ptr<Transfer>& transfer : transfers) PENSTOCK_RETURN_IF_ERROR(transfer->Wait());
  transfers.clear();
  return absl::OkStatus();
}

}  // namespace

bool StateExchange::ExchangesTied() const {
  return plan_.mesh.pipeline() > 1 && (plan_.parameters.first || plan_.parameters.last) && !plan_.mine().tied.empty();
}

void StateExchange::PlanMemory(MemoryPlan* sums) {
  if (buckets_.has_value()) buckets_->PlanMemory(sums);
  receives_head_ = ExchangesTied() && plan_.parameters.first;
  if (!receives_head_) return;
  head_region_ =
      sums->AddFloats(MemoryClass::kCommunication, "head part of the tied gradient", plan_.mine().tied.size());
}

void StateExchange::Bind(const SumsHome& sums, StageModel* model, Backend* backend, Communicator* comm,
                         StateClient* client, RankClock* clock) {
  sums_ = sums;
  model_ = model;
  backend_ = backend;
  comm_ = comm;
  client_ = client;
  if (receives_head_) head_part_ = sums.arena->Floats(head_region_);
  if (!buckets_.has_value()) return;
  buckets_->Bind(*sums.arena, comm, backend);
  model->SetBucketSink([this, clock](const GradientBucket& bucket) {
    RankClock::Scope reducing(*clock, Activity::kReduce);
    return buckets_->Reduce(bucket);
  });
}

absl::Status StateExchange::BeginStep(uint64_t step) {
  if (buckets_.has_value()) buckets_->BeginStep(step);
  if (!receives_head_) return absl::OkStatus();
  const int last = plan_.OnStage(plan_.mesh.pipeline() - 1);
  for (size_t begin = 0; begin < head_part_.size(); begin += kChunkElements) {
    PENSTOCK_ASSIGN_OR_RETURN(
        auto receive, sums_.comm->StartRecv(last, kTiedGradientTag,
                                            AsWritableBytes(Mutable(head_part_).subspan(begin, kChunkElements))));
    head_receives_.push_back(std::move(receive));
  }
  return absl::OkStatus();
}

absl::Status StateExchange::ReduceWholeStep() {
  const StageParameters& parameters = plan_.parameters;
  PENSTOCK_RETURN_IF_ERROR(
      comm_->ReduceScatter(plan_.data_group, Mutable(model_->UntiedGradients()), plan_.untied_parts));
  if (parameters.tied.empty()) return absl::OkStatus();
  for (const TiedUse use : {TiedUse::kEmbedding, TiedUse::kHead}) {
    if (use == TiedUse::kEmbedding ? !parameters.first : !parameters.last) continue;
    PENSTOCK_RETURN_IF_ERROR(
        comm_->ReduceScatter(plan_.data_group, Mutable(model_->TiedGradients(use)), plan_.tied_parts));
  }
  return absl::OkStatus();
}

absl::Status StateExchange::Reduce() {
  const StageParameters& parameters = plan_.parameters;
  if (!buckets_.has_value()) PENSTOCK_RETURN_IF_ERROR(ReduceWholeStep());
  if (sums_.backend != backend_) PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
  if (plan_.mine().tied.empty()) return absl::OkStatus();
  if (parameters.tied_twice()) return AddHeadPart(OwnTied(TiedUse::kHead));
  if (receives_head_) {
    PENSTOCK_RETURN_IF_ERROR(WaitAll(head_receives_));
    return AddHeadPart(head_part_);
  }
  // The last stage's owner. The first stage takes it when it likes; Pull waits for that.
  const absl::Span<const float> head = Mutable(OwnTied(TiedUse::kHead));
  for (size_t begin = 0; begin < head.size(); begin += kChunkElements) {
    PENSTOCK_ASSIGN_OR_RETURN(auto send, sums_.comm->StartSend(plan_.OnStage(0), kTiedGradientTag,
                                                               AsBytes(head.subspan(begin, kChunkElements))));
    head_sends_.push_back(std::move(send));
  }
  return absl::OkStatus();
}

std::span<float> StateExchange::OwnUntied() const {
  if (buckets_.has_value()) return buckets_->untied();
  return Stretch(model_->UntiedGradients(), plan_.mine().untied_memory);
}

std::span<float> StateExchange::OwnTied(TiedUse use) const {
  if (buckets_.has_value()) return buckets_->tied(use);
  return Stretch(model_->TiedGradients(use), plan_.mine().tied_memory);
}

absl::Status StateExchange::AddHeadPart(std::span<const float> head) {
  const std::span<float> sum = OwnTied(TiedUse::kEmbedding);
  PENSTOCK_CHECK(sum.size() == head.size());
  return sums_.backend->Add({}, head, sum);
}

std::vector<GradientRange> StateExchange::PushedGradients() const {
  std::vector<GradientRange> ranges;
  const OwnedRanges& mine = plan_.mine();
  if (plan_.parameters.first) AddRanges(mine.tied, OwnTied(TiedUse::kEmbedding), &ranges);
  AddRanges(mine.untied, OwnUntied(), &ranges);
  return ranges;
}

std::vector<WeightRange> StateExchange::PushedWeights() const {
  std::vector<WeightRange> ranges;
  const OwnedRanges& mine = plan_.mine();
  if (plan_.parameters.first) AddWeights(mine.tied, model_->TiedWeights(), mine.tied_memory, &ranges);
  AddWeights(mine.untied, model_->UntiedWeights(), mine.untied_memory, &ranges);
  return ranges;
}

absl::Status StateExchange::Push(uint64_t step) {
  const std::vector<GradientRange> ranges = PushedGradients();
  if (ranges.empty()) return absl::OkStatus();
  return FromService(client_->Push(step, ranges));
}

// The rank's own weights of a list, which lie in `own` of the memory.
void StateExchange::AddWeights(const RangeList& list, std::span<std::byte> memory, const ElementRange& own,
                               std::vector<WeightRange>* ranges) const {
  for (const RangeList::Placed& placed : list.placed()) {
    WeightRange range{.range = placed.range};
    const int64_t at = own.begin + placed.offset;
    if (model_->type() == DataType::kBfloat16) {
      range.rounded = reinterpret_cast<Bfloat16*>(memory.data()) + at;
    } else {
      range.data = reinterpret_cast<float*>(memory.data()) + at;
    }
    ranges->push_back(range);
  }
}

absl::Status StateExchange::GatherWeights(std::span<std::byte> memory, const std::vector<std::vector<Part>>& parts) {
  if (model_->type() == DataType::kFloat32) {
    return comm_->AllGather(plan_.data_group, {reinterpret_cast<float*>(memory.data()), memory.size() / sizeof(float)},
                            parts);
  }
  const int64_t bytes = BytesOf(model_->type());
  std::vector<std::vector<Part>> in_bytes;
  for (const std::vector<Part>& list : parts) {
    in_bytes.emplace_back();
    for (const Part& part : list) in_bytes.back().push_back({part.begin * bytes, part.count * bytes});
  }
  return comm_->AllGatherBytes(plan_.data_group, {memory.data(), memory.size()}, in_bytes);
}

absl::Status StateExchange::Pull(uint64_t version, absl::Duration timeout) {
  // In the order in which the next step needs them: the embedding first, the head last.
  std::vector<WeightRange> ranges;
  const OwnedRanges& mine = plan_.mine();
  const auto add_tied = [&] { AddWeights(mine.tied, model_->TiedWeights(), mine.tied_memory, &ranges); };
  if (plan_.parameters.first) add_tied();
  AddWeights(mine.untied, model_->UntiedWeights(), mine.untied_memory, &ranges);
  if (!plan_.parameters.first) add_tied();
  if (!ranges.empty()) PENSTOCK_RETURN_IF_ERROR(FromService(client_->Pull(version, ranges, timeout)));
  return Gather();
}

absl::Status StateExchange::ShareUpdated() {
  // The head's part was sent from the memory that the next step writes.
  PENSTOCK_RETURN_IF_ERROR(HandTiedWeights());
  return Gather();
}

absl::Status StateExchange::HandTiedWeights() {
  if (!ExchangesTied()) return absl::OkStatus();
  const ElementRange& mine = plan_.mine().tied_memory;
  const int64_t bytes = BytesOf(model_->type());
  const absl::Span<std::byte> own(model_->TiedWeights().data() + mine.begin * bytes,
                                  static_cast<size_t>(mine.size() * bytes));
  const int other = plan_.OnStage(plan_.parameters.first ? plan_.mesh.pipeline() - 1 : 0);
  std::vector<std::shared_ptr<Transfer>> transfers;
  for (size_t begin = 0; begin < own.size(); begin += kMessageBytesMax) {
    const absl::Span<std::byte> chunk = own.subspan(begin, kMessageBytesMax);
    auto transfer = plan_.parameters.first ? comm_->StartSend(other, kTiedWeightsTag, chunk)
                                           : comm_->StartRecv(other, kTiedWeightsTag, chunk);
    PENSTOCK_RETURN_IF_ERROR(transfer.status());
    transfers.push_back(*std::move(transfer));
  }
  return WaitAll(transfers);
}

absl::Status StateExchange::Gather() {
  const StageParameters& parameters = plan_.parameters;
  PENSTOCK_RETURN_IF_ERROR(GatherWeights(model_->UntiedWeights(), plan_.untied_parts));
  if (!parameters.tied.empty()) PENSTOCK_RETURN_IF_ERROR(GatherWeights(model_->TiedWeights(), plan_.tied_parts));
  if (parameters.shared > 0) {
    const ElementRange shared = parameters.untied_shared();
    const int64_t bytes = BytesOf(model_->type());
    const absl::Span<std::byte> memory(model_->UntiedWeights().data() + shared.begin * bytes,
                                       static_cast<size_t>(shared.size() * bytes));
    PENSTOCK_RETURN_IF_ERROR(comm_->Broadcast(plan_.tensor_group, 0, memory));
  }
  return WaitAll(head_sends_);
}

}  // namespace penstock
