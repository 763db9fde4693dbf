#include "worker/runtime/comm_tensor_group.h"

#include <optional>

#include "core/base/status_macros.h"

namespace penstock {

absl::Status CommTensorGroup::Sum(const OpContext&, float* data, int64_t elements) {
  PENSTOCK_CHECK(comm_ != nullptr);
  std::optional<RankClock::Scope> exchanging;
  if (clock_ != nullptr) exchanging.emplace(*clock_, Activity::kTensor);
  return comm_->AllReduce(ranks_, absl::MakeSpan(data, static_cast<size_t>(elements)));
}

absl::Status CommTensorGroup::Gather(const OpContext&, void* data, int64_t bytes) {
  PENSTOCK_CHECK(comm_ != nullptr);
  // The exchange moves floats, and only moves them.
  PENSTOCK_CHECK(bytes % static_cast<int64_t>(sizeof(float)) == 0);
  std::optional<RankClock::Scope> exchanging;
  if (clock_ != nullptr) exchanging.emplace(*clock_, Activity::kTensor);
  const int64_t each = bytes / static_cast<int64_t>(sizeof(float));
  std::vector<std::vector<Part>> parts;
  for (int64_t rank = 0; rank < static_cast<int64_t>(ranks_.size()); ++rank) parts.push_back({{rank * each, each}});
  return comm_->AllGather(ranks_, absl::MakeSpan(static_cast<float*>(data), ranks_.size() * static_cast<size_t>(each)),
                          parts);
}

}  // namespace penstock
