#include "services/parameter/job_table.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <google/protobuf/util/message_differencer.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/parameter/limits.h"

namespace penstock {
namespace {

absl::Status CheckSameRequest(const v1::OpenJobRequest& held, const v1::OpenJobRequest& request) {
  if (google::protobuf::util::MessageDifferencer::Equals(held, request)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("job ", request.job_id(), " is open under epoch ", request.epoch(),
                                                 " as shard ", held.shard_index(), " of ", held.shard_count(),
                                                 " with another spec, place or checkpoint"));
}

}  // namespace

JobTable::~JobTable() { Stop(); }

void JobTable::Stop() {
  const Lock lock(mutex_);
  stopped_ = true;
  for (auto& [id, entry] : jobs_) {
    if (entry.cancelled != nullptr) *entry.cancelled = true;
  }
  changed_.notify_all();
}

absl::StatusOr<std::shared_ptr<ShardJob>> JobTable::Find(const std::string& job_id) const {
  const Lock lock(mutex_);
  const auto it = jobs_.find(job_id);
  if (it == jobs_.end()) return absl::NotFoundError(absl::StrCat("job ", job_id, " isn't open on this shard"));
  if (it->second.opening || it->second.closing) {
    return absl::UnavailableError(
        absl::StrCat("job ", job_id, " is being ", it->second.opening ? "opened" : "closed", "; ask again"));
  }
  return it->second.job;
}

std::vector<std::shared_ptr<ShardJob>> JobTable::Jobs() const {
  const Lock lock(mutex_);
  std::vector<std::shared_ptr<ShardJob>> jobs;
  for (const auto& [id, entry] : jobs_) {
    if (entry.job != nullptr && !entry.opening && !entry.closing) jobs.push_back(entry.job);
  }
  return jobs;
}

absl::StatusOr<std::shared_ptr<ShardJob>> JobTable::BeginOpen(const v1::OpenJobRequest& request, Lock& lock) {
  const std::string& id = request.job_id();
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kOpenWaitMax);
  while (true) {
    if (stopped_) return absl::UnavailableError("the shard is stopping");
    if (const auto closed = closed_epochs_.find(id);
        closed != closed_epochs_.end() && request.epoch() < closed->second) {
      return absl::FailedPreconditionError(
          absl::StrCat("open under epoch ", request.epoch(), ": the job was closed under epoch ", closed->second));
    }
    const auto it = jobs_.find(id);
    if (it == jobs_.end()) {
      if (jobs_.size() >= static_cast<size_t>(kJobsMax)) {
        return absl::ResourceExhaustedError(absl::StrCat("this shard holds ", kJobsMax, " jobs already"));
      }
      return nullptr;
    }
    Entry& entry = it->second;
    if (entry.closing) return absl::UnavailableError(absl::StrCat("job ", id, " is being closed; ask again"));
    if (!entry.opening) {
      PENSTOCK_ASSIGN_OR_RETURN(const OpenVerdict verdict, entry.job->BeginOpen(request.epoch()));
      if (verdict != OpenVerdict::kAlreadyOpen) return nullptr;
      PENSTOCK_RETURN_IF_ERROR(CheckSameRequest(entry.job->request(), request));
      return entry.job;
    }
    if (request.epoch() < entry.opening_epoch) {
      return absl::FailedPreconditionError(absl::StrCat("open under epoch ", request.epoch(),
                                                        ": the job is being opened under epoch ", entry.opening_epoch));
    }
    if (request.epoch() > entry.opening_epoch) {
      *entry.cancelled = true;  // nobody wants that one any more
      return absl::UnavailableError(absl::StrCat("job ", id, " is being opened under epoch ", entry.opening_epoch,
                                                 ", which is given up; ask again"));
    }
    if (changed_.wait_until(lock, deadline) == std::cv_status::timeout) {
      return absl::UnavailableError(absl::StrCat("job ", id, " is still being opened; ask again"));
    }
  }
}

absl::StatusOr<std::shared_ptr<ShardJob>> JobTable::OpenNow(const v1::OpenJobRequest& request,
                                                            const std::shared_ptr<ShardJob>& replaced,
                                                            const std::atomic<bool>& cancelled) {
  if (replaced != nullptr) PENSTOCK_RETURN_IF_ERROR(replaced->Close());
  return ShardJob::Open(request, resources_, cancelled);
}

absl::StatusOr<v1::OpenJobResponse> JobTable::Open(const v1::OpenJobRequest& request) {
  PENSTOCK_RETURN_IF_ERROR(CheckOpenRequest(request));
  const auto cancelled = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<ShardJob> replaced;
  {
    Lock lock(mutex_);
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<ShardJob> open, BeginOpen(request, lock));
    if (open != nullptr) {
      lock.unlock();
      return open->Describe();
    }
    Entry& entry = jobs_[request.job_id()];
    replaced = entry.job;
    entry.opening = true;
    entry.opening_epoch = request.epoch();
    entry.cancelled = cancelled;
  }
  const absl::StatusOr<std::shared_ptr<ShardJob>> opened = OpenNow(request, replaced, *cancelled);
  {
    const Lock lock(mutex_);
    Entry& entry = jobs_[request.job_id()];
    entry.opening = false;
    entry.cancelled.reset();
    if (opened.ok()) {
      entry.job = *opened;
    } else {
      // What it replaced was given up by the epoch that asked; it doesn't come back.
      jobs_.erase(request.job_id());
      Remember(request.job_id(), request.epoch());
    }
  }
  changed_.notify_all();
  PENSTOCK_RETURN_IF_ERROR(opened.status());
  return (*opened)->Describe();
}

absl::Status JobTable::Close(const v1::CloseJobRequest& request) {
  std::shared_ptr<ShardJob> job;
  {
    const Lock lock(mutex_);
    const auto it = jobs_.find(request.job_id());
    if (it == jobs_.end()) {
      Remember(request.job_id(), request.epoch());
      return absl::OkStatus();
    }
    Entry& entry = it->second;
    if (entry.opening) {
      if (request.epoch() < entry.opening_epoch) {
        return absl::FailedPreconditionError(absl::StrCat(
            "close under epoch ", request.epoch(), ": the job is being opened under epoch ", entry.opening_epoch));
      }
      *entry.cancelled = true;
      return absl::UnavailableError(absl::StrCat("job ", request.job_id(), " is being opened; ask again"));
    }
    PENSTOCK_RETURN_IF_ERROR(entry.job->BeginClose(request.epoch()));
    entry.closing = true;
    job = entry.job;
  }
  const absl::Status closed = job->Close();
  if (!closed.ok()) return closed;  // it stays, closing, until somebody asks again
  {
    const Lock lock(mutex_);
    const auto it = jobs_.find(request.job_id());
    if (it != jobs_.end() && it->second.job == job) jobs_.erase(it);
    Remember(request.job_id(), request.epoch());
  }
  changed_.notify_all();
  return absl::OkStatus();
}

void JobTable::Remember(const std::string& job_id, uint64_t epoch) {
  const auto [it, inserted] = closed_epochs_.try_emplace(job_id, epoch);
  if (!inserted) {
    it->second = std::max(it->second, epoch);
    return;
  }
  closed_order_.push_back(job_id);
  if (closed_order_.size() <= kClosedJobsMax) return;
  closed_epochs_.erase(closed_order_.front());
  closed_order_.pop_front();
}

}  // namespace penstock
