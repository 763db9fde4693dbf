#include "core/commit/gang.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {

int Gang::held() const {
  return static_cast<int>(
      std::count_if(slots_.begin(), slots_.end(), [](const auto& slot) { return slot.has_value(); }));
}

bool Gang::AllAre(Member member) const {
  return std::all_of(slots_.begin(), slots_.end(),
                     [member](const auto& slot) { return slot.has_value() && slot->member == member; });
}

bool Gang::NoneBusy() const {
  return std::all_of(slots_.begin(), slots_.end(),
                     [](const auto& slot) { return !slot.has_value() || slot->member == Member::kFree; });
}

std::optional<int> Gang::RankOf(const WorkerRef& worker) const {
  for (int rank = 0; rank < ranks(); ++rank) {
    if (slots_[rank].has_value() && slots_[rank]->worker == worker) return rank;
  }
  return std::nullopt;
}

void Gang::Add(const std::vector<WorkerRef>& workers) {
  PENSTOCK_CHECK(static_cast<int>(workers.size()) <= missing());
  auto hole = slots_.begin();
  for (const WorkerRef& worker : workers) {
    PENSTOCK_CHECK(!RankOf(worker).has_value());
    hole = std::find_if(hole, slots_.end(), [](const auto& slot) { return !slot.has_value(); });
    *hole = Slot{.worker = worker};
  }
}

bool Gang::Adopt(int rank, const WorkerRef& worker, uint64_t epoch) {
  if (rank < 0 || rank >= ranks() || slots_[rank].has_value() || RankOf(worker).has_value()) return false;
  slots_[rank] = Slot{.worker = worker, .member = Member::kReady, .epoch = epoch};
  return true;
}

void Gang::Set(int rank, Member member) {
  PENSTOCK_CHECK(slots_[rank].has_value());
  slots_[rank]->member = member;
}

void Gang::Stop(int rank, absl::Time resend_at, absl::Time evict_at) {
  Set(rank, Member::kStopping);
  slots_[rank]->resend_at = resend_at;
  slots_[rank]->evict_at = evict_at;
}

void Gang::Assign(uint64_t epoch) {
  PENSTOCK_CHECK(AllAre(Member::kFree));
  for (std::optional<Slot>& slot : slots_) {
    slot->member = Member::kAssigned;
    slot->epoch = epoch;
  }
}

std::vector<WorkerRef> Gang::workers() const {
  std::vector<WorkerRef> workers;
  for (const std::optional<Slot>& slot : slots_) {
    if (slot.has_value()) workers.push_back(slot->worker);
  }
  return workers;
}

}  // namespace penstock
