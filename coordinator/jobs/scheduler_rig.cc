#include "coordinator/jobs/scheduler_rig.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_rules.h"

namespace penstock {

SchedulerRig::SchedulerRig() { Build(); }

void SchedulerRig::Build() {
  loop_ = std::make_unique<ManualLoop>(&clock);
  pool_ = std::make_unique<WorkPool>(/*threads=*/0);
  writer_ = std::make_unique<StoreWriter>(&store, StoreWriter::Mode::kInline);
  JobEnvironment environment;
  environment.coordinator_id = absl::StrCat("coordinator-", next_incarnation_++);
  environment.clock = &clock;
  environment.loop = loop_.get();
  environment.pool = pool_.get();
  environment.store = &store;
  environment.writer = writer_.get();
  environment.shards = &shards;
  environment.blobs = &blobs;
  Scheduler::Options options;
  options.is_gone = [this](const std::string& address) { return is_gone != nullptr && is_gone(address); };
  scheduler_ = std::make_unique<Scheduler>(std::move(options), environment, &streams, &view);
  PENSTOCK_CHECK(scheduler_->Recover().ok());
  Settle();
}

void SchedulerRig::Restart() {
  scheduler_.reset();
  loop_.reset();
  view.jobs.clear();
  view.epochs.clear();
  streams.commands.clear();
  for (auto& [id, member] : members_) member.stream = 0;
  Build();
}

// --- Members. ---

void SchedulerRig::AddWorker(const std::string& id) {
  FakeMember& member = members_[id] = FakeMember();
  member.info.set_role(v1::MEMBER_ROLE_WORKER);
  member.info.set_id(id);
  member.info.set_address(absl::StrCat(id, ":1"));
  member.info.set_incarnation(next_incarnation_++);
  Connect(id);
}

void SchedulerRig::AddShard(const std::string& id) {
  FakeMember& member = members_[id] = FakeMember();
  member.info.set_role(v1::MEMBER_ROLE_SHARD);
  member.info.set_id(id);
  member.info.set_address(absl::StrCat(id, ":1"));
  member.info.set_incarnation(next_incarnation_++);
  Connect(id);
}

void SchedulerRig::Connect(const std::string& id) {
  FakeMember& member = members_.at(id);
  member.stream = next_stream_++;
  v1::MemberReport report;
  *report.mutable_hello()->mutable_info() = member.info;
  if (member.running.has_value()) *report.mutable_hello()->mutable_running() = *member.running;
  scheduler_->OnReport(member.stream, report, clock.Monotonic());
  Settle();
}

void SchedulerRig::Disconnect(const std::string& id) {
  FakeMember& member = members_.at(id);
  scheduler_->OnEnd(std::exchange(member.stream, 0), "connection closed");
  Settle();
}

void SchedulerRig::Kill(const std::string& id) {
  const uint64_t stream = members_.at(id).stream;
  members_.erase(id);
  scheduler_->OnEnd(stream, "connection closed");
  Settle();
}

void SchedulerRig::Report(const std::string& id, const v1::MemberReport& report) {
  scheduler_->OnReport(members_.at(id).stream, report, clock.Monotonic());
  Settle();
}

FakeMember* SchedulerRig::ByStream(uint64_t stream) {
  for (auto& [id, member] : members_) {
    if (member.stream == stream) return &member;
  }
  return nullptr;
}

void SchedulerRig::Answer(FakeMember& member, const v1::MemberCommand& command) {
  v1::MemberReport report;
  if (command.has_assign()) {
    v1::RunningRank running;
    running.set_job_id(command.assign().job_id());
    running.set_epoch(command.assign().epoch());
    running.set_rank(command.assign().rank());
    member.running = running;
    member.cursor.set_job_id(running.job_id());
    member.cursor.set_epoch(running.epoch());
    report.mutable_ready()->set_rank(running.rank());
    report.set_job_id(running.job_id());
    report.set_epoch(running.epoch());
  } else if (command.has_stop()) {
    report.mutable_stopped();
    report.set_job_id(command.stop().job_id());
    report.set_epoch(command.stop().epoch());
    if (member.running.has_value() && member.running->job_id() == command.stop().job_id()) member.running.reset();
  } else {
    return;
  }
  scheduler_->OnReport(member.stream, report, clock.Monotonic());
}

bool SchedulerRig::AnswerCommands() {
  bool any = false;
  while (!streams.commands.empty()) {
    const auto [stream, command] = std::move(streams.commands.front());
    streams.commands.pop_front();
    FakeMember* const member = ByStream(stream);
    if (member == nullptr || !member->obedient) continue;
    Answer(*member, command);
    any = true;
  }
  return any;
}

// --- Jobs. ---

v1::JobSpec SchedulerRig::Spec(const std::string& name, uint32_t workers, uint64_t steps) const {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(1);
  spec.mutable_model()->set_hidden(64);
  spec.mutable_model()->set_heads(2);
  spec.mutable_model()->set_seq_length(32);
  spec.mutable_model()->set_vocab_size(2048);
  spec.mutable_data()->set_path("/corpus");
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
  spec.mutable_training()->set_steps(steps);
  spec.mutable_training()->set_global_batch_size(workers == 3 ? 9 : 8);
  spec.mutable_training()->set_micro_batch_size(1);
  spec.mutable_parallel()->set_data(workers);
  FillDefaults(&spec);
  PENSTOCK_CHECK(CheckJob(spec).empty());
  return spec;
}

absl::StatusOr<std::string> SchedulerRig::Submit(const v1::JobSpec& spec, const std::string& request_id) {
  StoredJob job;
  job.id = absl::StrCat("job-", next_job_++);
  job.request_id = request_id.empty() ? job.id : request_id;
  job.spec = spec;
  job.submitted_at = clock.Now();
  clock.Advance(absl::Milliseconds(1));
  std::optional<absl::StatusOr<v1::JobStatus>> answer;
  scheduler_->Submit(job, [&answer](absl::StatusOr<v1::JobStatus> status) { answer = std::move(status); });
  Settle();
  // Right after a start it may be held back until members had time to come.
  if (!answer.has_value()) Pass(absl::Seconds(6));
  PENSTOCK_CHECK(answer.has_value());
  if (!answer->ok()) return answer->status();
  Settle();
  return (*answer)->id();
}

absl::Status SchedulerRig::Cancel(const std::string& id) {
  std::optional<absl::Status> answer;
  scheduler_->Cancel(id, [&answer](const absl::StatusOr<v1::JobStatus>& status) { answer = status.status(); });
  Settle();
  PENSTOCK_CHECK(answer.has_value());
  return *answer;
}

void SchedulerRig::Train(const std::string& id, int steps) {
  for (int i = 0; i < steps; ++i) {
    v1::MemberReport report;
    report.set_job_id(id);
    report.set_epoch(Job(id).epoch());
    *report.mutable_step() = shards.CommitStep(id, Job(id).epoch());
    Report(WorkersOf(id).front(), report);
  }
}

void SchedulerRig::TrainUnreported(const std::string& id, int steps) {
  for (int i = 0; i < steps; ++i) shards.CommitStep(id, Job(id).epoch());
}

void SchedulerRig::FinishJob(const std::string& id) {
  v1::MemberReport report;
  report.set_job_id(id);
  report.set_epoch(Job(id).epoch());
  report.mutable_finished();
  Report(WorkersOf(id).front(), report);
}

std::vector<std::string> SchedulerRig::WorkersOf(const std::string& id) const {
  std::map<uint32_t, std::string> by_rank;
  for (const auto& [worker, member] : members_) {
    if (member.running.has_value() && member.running->job_id() == id) by_rank[member.running->rank()] = worker;
  }
  std::vector<std::string> workers;
  for (const auto& [rank, worker] : by_rank) workers.push_back(worker);
  return workers;
}

std::string SchedulerRig::Events(const std::string& id) {
  std::string text;
  const auto events = store.ReadEvents(id, 1000);
  for (const StoredEvent& event : *events) absl::StrAppend(&text, event.message, "\n");
  return text;
}

// --- Time. ---

void SchedulerRig::Settle() {
  do {
    loop_->RunAll();
  } while (AnswerCommands());
}

void SchedulerRig::Pass(absl::Duration duration) {
  const absl::Duration kBeat = absl::Milliseconds(250);
  const absl::Time end = clock.Monotonic() + duration;
  while (clock.Monotonic() < end) {
    for (const auto& [id, member] : members_) {
      if (member.stream == 0) continue;
      v1::MemberReport report;
      *report.mutable_heartbeat()->mutable_cursor() = member.cursor;
      scheduler_->OnReport(member.stream, report, clock.Monotonic());
    }
    Settle();
    loop_->Advance(std::min(kBeat, end - clock.Monotonic()));
    Settle();
  }
}

}  // namespace penstock
