#include "coordinator/server/status_board.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace penstock {

void StatusBoard::Show(const v1::JobStatus& status) {
  const SharedStatus shared = std::make_shared<const v1::JobStatus>(status);
  std::lock_guard watch_lock(watch_mutex_);
  {
    std::lock_guard lock(mutex_);
    const auto [order, is_new] = order_by_id_.try_emplace(status.id(), next_);
    if (is_new) ++next_;
    jobs_[order->second] = shared;
  }
  for (const auto& [number, watcher] : watchers_) {
    if (watcher.id == status.id()) watcher.changed(shared);
  }
}

void StatusBoard::Forget(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = order_by_id_.find(id);
  if (found == order_by_id_.end()) return;
  jobs_.erase(found->second);
  order_by_id_.erase(found);
}

std::vector<SharedStatus> StatusBoard::All() const {
  std::lock_guard lock(mutex_);
  std::vector<SharedStatus> all;
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) all.push_back(job->second);
  return all;
}

absl::StatusOr<SharedStatus> StatusBoard::Find(const std::string& job) const {
  if (job.empty()) return absl::InvalidArgumentError("a job's name or id is missing");
  std::lock_guard lock(mutex_);
  SharedStatus by_prefix;
  bool ambiguous = false;
  for (auto at = jobs_.rbegin(); at != jobs_.rend(); ++at) {
    const SharedStatus& status = at->second;
    if (status->name() == job || status->id() == job) return status;
    if (!absl::StartsWith(status->id(), job)) continue;
    ambiguous = ambiguous || by_prefix != nullptr;
    by_prefix = status;
  }
  if (ambiguous) {
    return absl::InvalidArgumentError(
        absl::StrCat("several jobs have an id that begins with ", job, "; give more of it"));
  }
  if (by_prefix == nullptr) return absl::NotFoundError(absl::StrCat("there is no job ", job));
  return by_prefix;
}

uint64_t StatusBoard::Watch(const std::string& id, std::function<void(SharedStatus)> changed) {
  std::lock_guard lock(watch_mutex_);
  watchers_[next_watcher_] = {id, std::move(changed)};
  return next_watcher_++;
}

void StatusBoard::Unwatch(uint64_t watcher) {
  std::lock_guard lock(watch_mutex_);
  watchers_.erase(watcher);
}

}  // namespace penstock
