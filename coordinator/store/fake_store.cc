#include "coordinator/store/fake_store.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_state.h"

namespace penstock {
namespace {

// Of what isn't written on behalf of an epoch.
constexpr uint64_t kAnyEpoch = std::numeric_limits<uint64_t>::max();

}  // namespace

absl::Status FakeStore::TakeFault() {
  if (faults_ == 0) return absl::OkStatus();
  --faults_;
  return fault_;
}

absl::StatusOr<FakeStore::Job*> FakeStore::ForWrite(const std::string& id, uint64_t epoch) {
  PENSTOCK_RETURN_IF_ERROR(TakeFault());
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return absl::NotFoundError(absl::StrCat("the store has no job ", id));
  const uint64_t held = found->second.job.persisted.epoch;
  if (held > epoch) return absl::FailedPreconditionError(absl::StrCat("the store's epoch of job ", id, " is ", held));
  return &found->second;
}

void FakeStore::FailWrites(int count, absl::Status status) {
  std::lock_guard lock(mutex_);
  faults_ = count;
  fault_ = std::move(status);
}

absl::Status FakeStore::AddJob(const StoredJob& job) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(TakeFault());
  for (const auto& [id, other] : jobs_) {
    if (id == job.id || other.job.request_id == job.request_id) {
      return absl::AlreadyExistsError(absl::StrCat("the store has job ", job.id, " already"));
    }
  }
  jobs_[job.id].job = job;
  order_.push_back(job.id);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredJob>> FakeStore::LoadJobs() {
  std::lock_guard lock(mutex_);
  std::vector<StoredJob> jobs;
  for (const std::string& id : order_) jobs.push_back(jobs_.at(id).job);
  return jobs;
}

absl::Status FakeStore::RemoveJob(const std::string& id) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(TakeFault());
  jobs_.erase(id);
  std::erase(order_, id);
  std::erase_if(events_, [&id](const StoredEvent& event) { return event.job_id == id; });
  return absl::OkStatus();
}

absl::Status FakeStore::PersistEpoch(const std::string& id, const std::string& coordinator, const PersistedJob& job,
                                     absl::Time) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, kAnyEpoch));
  const uint64_t held = stored->job.persisted.epoch;
  const bool live = !IsEnded(stored->job.persisted.state);
  if (!live || (held + 1 != job.epoch && !(held == job.epoch && stored->epoch_writer == coordinator))) {
    return absl::FailedPreconditionError(absl::StrCat("the store's epoch of job ", id, " is ", held));
  }
  stored->job.persisted = job;
  stored->epoch_writer = coordinator;
  return absl::OkStatus();
}

absl::Status FakeStore::WriteJob(const std::string& id, const PersistedJob& job, const v1::JobStatus& shown) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, job.epoch));
  if (stored->job.persisted.epoch != job.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("the store doesn't have epoch ", job.epoch, " of job ", id));
  }
  stored->job.persisted = job;
  stored->job.shown = shown;
  return absl::OkStatus();
}

absl::Status FakeStore::WriteShown(const std::string& id, const v1::JobStatus& shown) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, kAnyEpoch));
  stored->job.shown = shown;
  return absl::OkStatus();
}

absl::Status FakeStore::WriteShards(const std::string& id, std::span<const std::string> shards) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, kAnyEpoch));
  stored->job.shards.assign(shards.begin(), shards.end());
  return absl::OkStatus();
}

absl::Status FakeStore::WriteSteps(const std::string& id, uint64_t epoch, std::span<const v1::StepRecord> records,
                                   bool replace) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, epoch));
  for (const v1::StepRecord& record : records) {
    if (replace) {
      stored->steps.insert_or_assign(record.step(), record);
    } else {
      stored->steps.try_emplace(record.step(), record);
    }
  }
  return absl::OkStatus();
}

absl::Status FakeStore::WriteValidation(const std::string& id, uint64_t epoch, uint64_t step, double loss) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, epoch));
  stored->validations[step] = loss;
  return absl::OkStatus();
}

absl::Status FakeStore::CutSteps(const std::string& id, uint64_t epoch, uint64_t step) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, epoch));
  stored->steps.erase(stored->steps.upper_bound(step), stored->steps.end());
  stored->validations.erase(stored->validations.upper_bound(step), stored->validations.end());
  stored->checkpoints.erase(stored->checkpoints.upper_bound(step), stored->checkpoints.end());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::StepRecord>> FakeStore::ReadSteps(const std::string& id, uint64_t from_step,
                                                                 size_t limit) {
  std::lock_guard lock(mutex_);
  std::vector<v1::StepRecord> records;
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return records;
  const Job& job = found->second;
  for (auto at = job.steps.lower_bound(from_step); at != job.steps.end() && records.size() < limit; ++at) {
    records.push_back(at->second);
    const auto validation = job.validations.find(at->first);
    if (validation != job.validations.end()) records.back().set_validation_loss(validation->second);
  }
  return records;
}

absl::Status FakeStore::AddEvents(std::span<const StoredEvent> events) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(TakeFault());
  events_.insert(events_.end(), events.begin(), events.end());
  while (events_.size() > kStoredEventsMax) events_.pop_front();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredEvent>> FakeStore::ReadEvents(const std::string& id, size_t limit) {
  std::lock_guard lock(mutex_);
  std::vector<StoredEvent> events;
  for (auto event = events_.rbegin(); event != events_.rend() && events.size() < limit; ++event) {
    if (id.empty() || event->job_id == id) events.push_back(*event);
  }
  std::reverse(events.begin(), events.end());
  return events;
}

absl::Status FakeStore::AddCheckpoint(const std::string& id, const StoredCheckpoint& checkpoint) {
  std::lock_guard lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(Job * stored, ForWrite(id, kAnyEpoch));
  stored->checkpoints[checkpoint.step] = checkpoint.path;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredCheckpoint>> FakeStore::ReadCheckpoints(const std::string& id) {
  std::lock_guard lock(mutex_);
  std::vector<StoredCheckpoint> checkpoints;
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return checkpoints;
  for (auto at = found->second.checkpoints.rbegin(); at != found->second.checkpoints.rend(); ++at) {
    checkpoints.push_back({at->first, at->second});
  }
  return checkpoints;
}

}  // namespace penstock
