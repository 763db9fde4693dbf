// Members that come, go and report.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/scheduler.h"

namespace penstock {
namespace {

// Heartbeats in a lease: so many may be lost before it ends.
constexpr int kHeartbeatsPerLease = 8;

void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  out->set_seconds(nanos / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace

// --- From gRPC's threads. ---

void Scheduler::OnReport(uint64_t stream, v1::MemberReport report, absl::Time arrived) {
  const bool posted = environment_.loop->TryPost(
      [this, stream, report = std::move(report), arrived] { HandleReport(stream, report, arrived); });
  // Reports are delivered again on the next stream.
  if (!posted) streams_->End(stream, absl::UnavailableError("the coordinator is behind; come back"));
}

void Scheduler::OnEnd(uint64_t stream, const std::string& reason) {
  environment_.loop->Post([this, stream, reason] {
    const LeaseTable::Member* const member = leases_.OnStreamEnd(stream, reason);
    if (member != nullptr && gone_questions_ < kGoneQuestionsMax) {
      AskWhetherGone({member->info.id(), member->info.incarnation()});
    }
  });
}

// --- In the loop. ---

void Scheduler::HandleReport(uint64_t stream, const v1::MemberReport& report, absl::Time arrived) {
  const LeaseTable::Member* const member = leases_.OnHeard(stream, arrived);
  if (report.has_hello()) {
    if (member != nullptr) {
      streams_->End(stream, absl::InvalidArgumentError("a stream says Hello once"));
    } else {
      HandleHello(stream, report.hello(), arrived);
    }
    return;
  }
  if (member == nullptr) {
    // Of a stream that was replaced or whose lease has ended: its process says Hello on a new one.
    streams_->End(stream, absl::UnavailableError("say Hello first"));
    return;
  }
  if (report.has_heartbeat()) {
    leases_.OnCursor(stream, report.heartbeat().cursor());
    return;
  }
  if (member->info.role() != v1::MEMBER_ROLE_WORKER) return;
  const WorkerRef worker{member->info.id(), member->info.incarnation()};
  const auto stray = strays_.find(worker.id);
  if (report.has_stopped() && stray != strays_.end() && stray->second.job_id == report.job_id() &&
      report.epoch() >= stray->second.epoch) {
    strays_.erase(stray);
    ScheduleSoon();
  }
  if (const auto runner = FindRunner(report.job_id())) runner->OnReport(worker, report);
}

void Scheduler::HandleHello(uint64_t stream, const v1::Hello& hello, absl::Time arrived) {
  const absl::StatusOr<LeaseTable::Joined> joined = leases_.OnHello(stream, hello.info(), arrived);
  if (!joined.ok()) {
    streams_->End(stream, joined.status());
    return;
  }
  if (joined->superseded_stream.has_value()) {
    streams_->End(*joined->superseded_stream, absl::UnavailableError("the process has a newer stream"));
  }
  if (joined->refused_stream.has_value()) {
    streams_->End(*joined->refused_stream,
                  absl::AbortedError(absl::StrCat("another process has the id ", hello.info().id(), " now")));
  }
  v1::MemberCommand welcome;
  SetDuration(options_.lease, welcome.mutable_welcome()->mutable_lease());
  SetDuration(options_.lease / kHeartbeatsPerLease, welcome.mutable_welcome()->mutable_heartbeat_interval());
  streams_->Send(stream, welcome);
  if (joined->is_new) {
    AddEvent(absl::StrCat(hello.info().id(), " joined at ", hello.info().address(), " (pid ", hello.info().pid(), ")"));
  }
  if (joined->lost.has_value()) HandleLost(*joined->lost);
  if (hello.info().role() == v1::MEMBER_ROLE_WORKER) {
    std::optional<v1::RunningRank> running;
    if (hello.has_running()) running = hello.running();
    HandleWorkerHello({hello.info().id(), hello.info().incarnation()}, running);
  }
  ArmLeaseTick();
  ScheduleSoon();
  RetryWaitingSubmissions();
}

void Scheduler::HandleWorkerHello(const WorkerRef& worker, const std::optional<v1::RunningRank>& running) {
  strays_.erase(worker.id);
  const std::string running_job = running.has_value() ? running->job_id() : "";
  for (const auto& runner : Runners(runners_)) {
    const bool runs_it = runner->id() == running_job;
    if (!runs_it && !runner->machine().gang().RankOf(worker).has_value()) continue;
    runner->OnWorkerJoined(worker, runs_it ? running : std::nullopt);
  }
  if (!running.has_value()) return;
  const auto runner = FindRunner(running_job);
  if (runner != nullptr && runner->machine().gang().RankOf(worker).has_value()) return;
  strays_[worker.id] = {worker.incarnation, running_job, running->epoch()};
  StopStray(worker.id);
}

// Told again and again until it says that it has stopped, or is gone.
void Scheduler::StopStray(const std::string& worker_id) {
  const auto found = strays_.find(worker_id);
  if (found == strays_.end()) return;
  const Stray stray = found->second;
  if (leases_.FindLiving(worker_id, stray.incarnation) == nullptr) {
    strays_.erase(found);
    return;
  }
  v1::MemberCommand command;
  command.mutable_stop()->set_job_id(stray.job_id);
  command.mutable_stop()->set_epoch(stray.epoch);
  command.mutable_stop()->set_reason("this rank isn't wanted any more");
  Send({worker_id, stray.incarnation}, command);
  environment_.loop->PostAt(Now() + kStrayStopInterval, [this, worker_id, stray] {
    const auto now = strays_.find(worker_id);
    if (now != strays_.end() && now->second.incarnation == stray.incarnation && now->second.job_id == stray.job_id &&
        now->second.epoch == stray.epoch) {
      StopStray(worker_id);
    }
  });
}

void Scheduler::HandleLost(const LeaseTable::Lost& lost) {
  AddEvent(absl::StrCat(lost.id, " was lost: ", lost.reason));
  if (lost.stream.has_value()) streams_->End(*lost.stream, absl::UnavailableError("the lease has ended; come back"));
  for (const auto& runner : Runners(runners_)) {
    if (lost.role == v1::MEMBER_ROLE_WORKER) {
      runner->OnWorkerLost({lost.id, lost.incarnation}, lost.cursor, lost.reason);
    } else if (runner->UsesShard(lost.id)) {
      runner->OnShardLost(absl::StrCat(lost.id, " was lost: ", lost.reason));
    }
  }
  if (lost.role == v1::MEMBER_ROLE_WORKER) strays_.erase(lost.id);
  ScheduleSoon();
}

// A killed process's connections break at once, so there is no need to wait for its lease. A wrong answer would cost an
// epoch and nothing else: what a worker may do is decided by the seals, not here.
void Scheduler::AskWhetherGone(const WorkerRef& ref) {
  const LeaseTable::Member* const member = leases_.FindLiving(ref.id, ref.incarnation);
  if (options_.is_gone == nullptr || member == nullptr || member->stream != 0) return;
  ++gone_questions_;
  environment_.pool->Run([this, ref, address = member->info.address()] {
    const bool gone = options_.is_gone(address);
    environment_.loop->Post([this, ref, gone] {
      --gone_questions_;
      if (!gone) {
        // A process that is just ending may still have its port.
        environment_.loop->PostAt(Now() + kGoneQuestionPause, [this, ref] { AskWhetherGone(ref); });
      } else if (const auto lost = leases_.OnGone(ref.id, ref.incarnation)) {
        HandleLost(*lost);
      }
    });
  });
}

void Scheduler::ArmLeaseTick() {
  const absl::Time next = leases_.NextTick();
  if (next >= lease_tick_at_) return;
  lease_tick_at_ = next;
  environment_.loop->PostAt(next, [this, next] {
    lease_tick_at_ = absl::InfiniteFuture();
    if (Now() > next + options_.lease / 4) {
      // This process has slept (paused, or starved), and so have the streams' threads: what has arrived is still on its
      // way through them. Silence proves nothing yet.
      const absl::Time again = Now() + options_.lease / 4;
      lease_tick_at_ = again;
      environment_.loop->PostAt(again, [this] {
        lease_tick_at_ = absl::InfiniteFuture();
        for (const LeaseTable::Lost& lost : leases_.OnTick(Now())) HandleLost(lost);
        ArmLeaseTick();
      });
      return;
    }
    for (const LeaseTable::Lost& lost : leases_.OnTick(Now())) HandleLost(lost);
    ArmLeaseTick();
  });
}

// --- What runners ask. ---

std::optional<ShardAddress> Scheduler::FindShard(const std::string& id) const {
  const LeaseTable::Member* const member = leases_.Find(id);
  if (member == nullptr || member->info.role() != v1::MEMBER_ROLE_SHARD) return std::nullopt;
  return ShardAddress{id, member->info.address()};
}

std::optional<v1::MemberInfo> Scheduler::FindShardInfo(const std::string& id) const {
  const LeaseTable::Member* const member = leases_.Find(id);
  if (member == nullptr || member->info.role() != v1::MEMBER_ROLE_SHARD) return std::nullopt;
  return member->info;
}

std::vector<std::string> Scheduler::LivingShards() const {
  std::vector<std::string> shards;
  for (const auto& [id, member] : leases_.members()) {
    if (!member.lost && member.info.role() == v1::MEMBER_ROLE_SHARD) shards.push_back(id);
  }
  std::sort(shards.begin(), shards.end(), MemberIdLess);
  return shards;
}

std::optional<v1::MemberInfo> Scheduler::FindWorker(const WorkerRef& worker) const {
  const LeaseTable::Member* const member = leases_.FindLiving(worker.id, worker.incarnation);
  return member == nullptr ? std::nullopt : std::optional<v1::MemberInfo>(member->info);
}

v1::Cursor Scheduler::CursorOf(const WorkerRef& worker) const {
  const LeaseTable::Member* const member = leases_.Find(worker.id);
  if (member == nullptr || member->info.incarnation() != worker.incarnation) return {};
  return member->cursor;
}

bool Scheduler::IsConnected(const WorkerRef& worker) const {
  const LeaseTable::Member* const member = leases_.FindLiving(worker.id, worker.incarnation);
  return member != nullptr && member->stream != 0;
}

void Scheduler::Send(const WorkerRef& worker, const v1::MemberCommand& command) {
  const LeaseTable::Member* const member = leases_.FindLiving(worker.id, worker.incarnation);
  // Without a stream it is lost; what its worker is to do comes up again with its next Hello.
  if (member != nullptr && member->stream != 0) streams_->Send(member->stream, command);
}

void Scheduler::Evict(const WorkerRef& worker, const std::string& reason) {
  AddEvent(absl::StrCat(worker.id, " is turned out: ", reason));
  const std::optional<uint64_t> stream = leases_.Evict(worker.id, worker.incarnation);
  if (stream.has_value()) streams_->End(*stream, absl::AbortedError(reason));
  ScheduleSoon();
}

// --- What clients see. ---

void Scheduler::ListMembers(v1::MemberRole role, std::function<void(std::vector<v1::MemberStatus>)> done) {
  environment_.loop->Post([this, role, done = std::move(done)] { done(MemberStatuses(role)); });
}

std::vector<v1::MemberStatus> Scheduler::MemberStatuses(v1::MemberRole role) const {
  std::map<std::string, std::pair<const JobRunner*, int>> ranks;
  std::set<std::string> busy_shards;
  for (const auto& runner : runners_) {
    const Gang& gang = runner->machine().gang();
    for (int rank = 0; rank < gang.ranks(); ++rank) {
      if (gang.slot(rank).has_value()) ranks[gang.slot(rank)->worker.id] = {runner.get(), rank};
    }
  }
  std::vector<v1::MemberStatus> statuses;
  for (const auto& [id, member] : leases_.members()) {
    if (role != v1::MEMBER_ROLE_UNSPECIFIED && member.info.role() != role) continue;
    v1::MemberStatus& status = statuses.emplace_back();
    *status.mutable_info() = member.info;
    status.set_heartbeat_age_seconds(std::max(0.0, absl::ToDoubleSeconds(Now() - member.heard_at)));
    bool busy = strays_.contains(id);
    if (const auto found = ranks.find(id); found != ranks.end() && !member.lost) {
      busy = true;
      const auto [runner, rank] = found->second;
      const MeshCoordinates at = runner->mesh().CoordinatesOf(rank);
      status.set_job(runner->spec().name());
      status.set_stage(static_cast<uint32_t>(at.stage));
      status.set_data_rank(static_cast<uint32_t>(at.data_rank));
      status.set_tensor_rank(static_cast<uint32_t>(at.tensor_rank));
    }
    if (member.info.role() == v1::MEMBER_ROLE_SHARD) {
      busy = std::any_of(runners_.begin(), runners_.end(),
                         [&id = id](const auto& runner) { return runner->UsesShard(id) && runner->machine().live(); });
    }
    status.set_state(member.lost ? "LOST" : busy ? "BUSY" : "IDLE");
  }
  std::sort(statuses.begin(), statuses.end(), [](const auto& a, const auto& b) {
    if (a.info().role() != b.info().role()) return a.info().role() < b.info().role();
    return MemberIdLess(a.info().id(), b.info().id());
  });
  return statuses;
}

void Scheduler::ShowMembers() { view_->ShowMembers(MemberStatuses(v1::MEMBER_ROLE_UNSPECIFIED)); }

}  // namespace penstock
