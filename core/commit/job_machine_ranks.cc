// Workers that come, go and come back, and what their ranks report.
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_machine.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.
using Member = Gang::Member;

bool JobMachine::Running() const {
  return phase_ == Phase::kConnecting || phase_ == Phase::kTraining || phase_ == Phase::kAdopting;
}

// --- What the scheduler gives. ---

int JobMachine::WorkersWanted() const {
  return phase_ == Phase::kPending || (Gathering() && !job_.finished) ? gang_.missing() : 0;
}

JobActions JobMachine::OnWorkersOffered(const std::vector<WorkerRef>& workers, absl::Time now) {
  JobActions out;
  if (workers.empty() || static_cast<int>(workers.size()) != WorkersWanted()) {
    out.push_back(ReleaseWorkers{workers});
    return out;
  }
  gang_.Add(workers);
  short_detail_.clear();
  if (phase_ == Phase::kPending) {
    job_.state = v1::JOB_STATE_STARTING;
    BeginEpoch(out);
  }
  TryAssign(now, out);
  return out;
}

JobActions JobMachine::OnWorkersShort(int registered, int idle, const std::string& detail, absl::Time) {
  registered_workers_ = registered;
  idle_workers_ = idle;
  short_detail_ = detail;
  return {};
}

JobActions JobMachine::OnYieldWorkers(absl::Time) {
  JobActions out;
  if (!Gathering() || gang_.missing() == 0) return out;
  std::vector<WorkerRef> released;
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    if (!gang_.slot(rank).has_value() || gang_.slot(rank)->member != Member::kFree) continue;
    released.push_back(gang_.slot(rank)->worker);
    gang_.Remove(rank);
  }
  if (!released.empty()) out.push_back(ReleaseWorkers{released});
  return out;
}

// --- Stopping. ---

void JobMachine::StopRank(int rank, const std::string& reason, absl::Time now, JobActions& out) {
  gang_.Stop(rank, now + options_.stop_resend, now + options_.stop_timeout);
  out.push_back(StopRanks{gang_.slot(rank)->epoch, {gang_.slot(rank)->worker}, reason});
}

void JobMachine::StopAllRanks(const std::string& reason, absl::Time now, JobActions& out) {
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    const std::optional<Gang::Slot>& slot = gang_.slot(rank);
    if (!slot.has_value() || slot->member == Member::kFree || slot->member == Member::kStopping) continue;
    StopRank(rank, reason, now, out);
  }
}

void JobMachine::TickStopping(absl::Time now, JobActions& out) {
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    const std::optional<Gang::Slot> slot = gang_.slot(rank);
    if (!slot.has_value() || slot->member != Member::kStopping) continue;
    if (now >= slot->evict_at) {
      const std::string reason = absl::StrCat(slot->worker.id, " (rank ", rank, ") didn't stop within ",
                                              absl::FormatDuration(options_.stop_timeout));
      out.push_back(EvictWorker{slot->worker, reason});
      RankIsGone(rank, reason, now, out);
    } else if (now >= slot->resend_at) {
      gang_.Stop(rank, now + options_.stop_resend, slot->evict_at);
      out.push_back(StopRanks{slot->epoch, {slot->worker}, "stop (asked again)"});
    }
  }
}

// The rank's worker holds nothing of the job any more.
void JobMachine::RankIsFree(int rank, absl::Time now, JobActions& out) {
  const Member was = gang_.slot(rank)->member;
  gang_.Set(rank, Member::kFree);
  if (phase_ == Phase::kClosing) {
    out.push_back(ReleaseWorkers{{gang_.slot(rank)->worker}});
    gang_.Remove(rank);
    TryEnd(out);
  } else if (Running() && was != Member::kStopping) {
    BeginRecovery(absl::StrCat(gang_.slot(rank)->worker.id, " (rank ", rank, ") gave its rank up"), /*loss=*/false, now,
                  out);
  } else {
    TryAssign(now, out);
  }
}

// The worker is no more.
void JobMachine::RankIsGone(int rank, const std::string& reason, absl::Time now, JobActions& out) {
  gang_.Remove(rank);
  if (Running()) {
    BeginRecovery(reason, /*loss=*/true, now, out);
  } else if (Gathering()) {
    // What its peers said first ("connection closed") was a consequence.
    if (!cause_is_loss_) {
      cause_ = job_.message = reason;
      cause_is_loss_ = true;
    }
    out.push_back(Note{reason});
  } else if (phase_ == Phase::kClosing) {
    TryEnd(out);
  }
}

JobActions JobMachine::OnWorkerLost(const WorkerRef& worker, const std::string& reason, absl::Time now) {
  JobActions out;
  if (const std::optional<int> rank = gang_.RankOf(worker); rank.has_value()) RankIsGone(*rank, reason, now, out);
  return out;
}

// --- Coming back. ---

JobActions JobMachine::OnWorkerJoined(const WorkerRef& worker, const std::optional<v1::RunningRank>& running,
                                      absl::Time now) {
  JobActions out;
  const std::optional<int> rank = gang_.RankOf(worker);
  if (!rank.has_value()) {
    if (!running.has_value()) return out;
    if (phase_ == Phase::kAdopting && running->epoch() == job_.epoch &&
        gang_.Adopt(static_cast<int>(running->rank()), worker, job_.epoch)) {
      if (gang_.AllAre(Member::kReady)) AdoptionDone(out);
      return out;
    }
    out.push_back(StopRanks{running->epoch(), {worker}, "this rank isn't wanted any more"});
    return out;
  }
  const Gang::Slot slot = *gang_.slot(*rank);
  const bool runs_its_rank =
      running.has_value() && running->epoch() == slot.epoch && static_cast<int>(running->rank()) == *rank;
  switch (slot.member) {
    case Member::kFree:
      break;
    case Member::kStopping:
      if (running.has_value()) {
        out.push_back(StopRanks{slot.epoch, {worker}, "stop (asked again)"});
      } else {
        RankIsFree(*rank, now, out);
      }
      break;
    case Member::kAssigned:
    case Member::kReady:
      if (runs_its_rank) break;
      // The assignment was lost with the old stream, or the rank ended without a word.
      if (!running.has_value()) {
        RankIsFree(*rank, now, out);
      } else if (Running()) {
        BeginRecovery(
            absl::StrCat(worker.id, " (rank ", *rank, ") runs epoch ", running->epoch(), " instead of ", slot.epoch),
            /*loss=*/false, now, out);
      }
      break;
  }
  return out;
}

void JobMachine::AdoptionDone(JobActions& out) {
  Enter(Phase::kTraining);
  job_.state = v1::JOB_STATE_RUNNING;
  job_.message.clear();
  out.push_back(PersistJob{job_});
  out.push_back(Note{absl::StrCat("taken up again after the coordinator's restart, in epoch ", job_.epoch)});
  Fetch(out);
}

// --- Reports. ---

JobActions JobMachine::OnRankReady(uint64_t epoch, const WorkerRef& worker, absl::Time) {
  JobActions out;
  const std::optional<int> rank = gang_.RankOf(worker);
  if (!rank.has_value() || epoch != job_.epoch || phase_ != Phase::kConnecting) return out;
  gang_.Set(*rank, Member::kReady);
  if (!gang_.AllAre(Member::kReady)) return out;
  Enter(Phase::kTraining);
  job_.state = v1::JOB_STATE_RUNNING;
  job_.message.clear();
  cause_.clear();
  out.push_back(PersistJob{job_});
  out.push_back(Note{absl::StrCat("running from step ", committed_step_, " in epoch ", job_.epoch)});
  if (recorded_step_ < committed_step_) Fetch(out);
  return out;
}

JobActions JobMachine::OnRankFailed(uint64_t epoch, const WorkerRef& worker, const std::string& cause, bool permanent,
                                    absl::Time now) {
  JobActions out;
  const std::optional<int> rank = gang_.RankOf(worker);
  if (!rank.has_value() || gang_.slot(*rank)->epoch != epoch) return out;
  if (!Running() && !Gathering()) return out;
  if (permanent) {
    Fail(cause, now, out);
  } else if (Running()) {
    BeginRecovery(cause, /*loss=*/false, now, out);
  }
  return out;
}

JobActions JobMachine::OnRankStopped(uint64_t epoch, const WorkerRef& worker, absl::Time now) {
  JobActions out;
  const std::optional<int> rank = gang_.RankOf(worker);
  if (!rank.has_value() || epoch < gang_.slot(*rank)->epoch || gang_.slot(*rank)->member == Member::kFree) return out;
  RankIsFree(*rank, now, out);
  return out;
}

}  // namespace penstock
