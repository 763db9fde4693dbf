#include "worker/runtime/loss_report.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/base/status_macros.h"

namespace penstock {

// Both sides run the same build, so the message is the struct's memory.
static_assert(std::is_trivially_copyable_v<MicroBatchLoss> && sizeof(MicroBatchLoss) == 32);

v1::StepInputs SumLosses(const std::vector<std::vector<MicroBatchLoss>>& by_data_rank) {
  v1::StepInputs inputs;
  double loss_sum = 0;
  uint64_t targets = 0;
  std::vector<std::pair<uint64_t, uint64_t>> samples;
  for (const std::vector<MicroBatchLoss>& losses : by_data_rank) {
    for (const MicroBatchLoss& loss : losses) {
      loss_sum += loss.loss_sum;
      targets += static_cast<uint64_t>(loss.target_count);
      samples.emplace_back(loss.samples_begin, loss.samples_end);
    }
  }
  inputs.set_loss_sum(loss_sum);
  inputs.set_target_count(targets);
  std::sort(samples.begin(), samples.end());
  v1::SampleRange* open = nullptr;
  for (const auto& [begin, end] : samples) {
    // Only ranges that touch are merged: a sample that was read twice stays visible.
    if (open != nullptr && open->end() == begin) {
      open->set_end(end);
      continue;
    }
    open = inputs.add_samples();
    open->set_begin(begin);
    open->set_end(end);
  }
  return inputs;
}

absl::Status LossReport::Begin(int micro_batches) {
  if (!plan_.leader()) return absl::OkStatus();
  received_.assign(plan_.data_group.size(), {});
  receives_.clear();
  for (size_t i = 0; i < plan_.data_group.size(); ++i) {
    if (plan_.data_group[i] == plan_.rank()) continue;
    received_[i].resize(micro_batches);
    PENSTOCK_ASSIGN_OR_RETURN(auto receive, comm_->StartRecv(plan_.data_group[i], kLossReportTag,
                                                             AsWritableBytes(absl::MakeSpan(received_[i]))));
    receives_.push_back(std::move(receive));
  }
  return absl::OkStatus();
}

absl::Status LossReport::Send(const std::vector<MicroBatchLoss>& losses) {
  if (!plan_.last_stage() || !plan_.speaks() || plan_.leader()) return absl::OkStatus();
  sent_ = losses;
  PENSTOCK_ASSIGN_OR_RETURN(send_,
                            comm_->StartSend(plan_.mesh.leader(), kLossReportTag, AsBytes(absl::MakeConstSpan(sent_))));
  return absl::OkStatus();
}

absl::Status LossReport::Finish() {
  return send_ == nullptr ? absl::OkStatus() : std::exchange(send_, nullptr)->Wait();
}

absl::StatusOr<v1::StepInputs> LossReport::Gather(const std::vector<MicroBatchLoss>& own) {
  for (const std::shared_ptr<Transfer>& receive : receives_) PENSTOCK_RETURN_IF_ERROR(receive->Wait());
  receives_.clear();
  received_[plan_.at.data_rank] = own;
  return SumLosses(received_);
}

}  // namespace penstock
