// Start, submission, cancelling and the end of jobs.
#include "coordinator/jobs/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_state.h"
#include "core/mesh/mesh.h"
#include "core/plan/job_facts.h"
#include "services/base/log.h"

namespace penstock {
namespace {

constexpr size_t kHistoryPage = 4096;

// Ended, and cleaned up.
bool IsOver(const StoredJob& job) { return IsEnded(job.persisted.state) && !job.persisted.shards_open; }

absl::StatusOr<std::vector<v1::StepRecord>> ReadHistory(Store& store, const std::string& id) {
  std::vector<v1::StepRecord> history;
  uint64_t from = 0;
  while (true) {
    PENSTOCK_ASSIGN_OR_RETURN(std::vector<v1::StepRecord> page, store.ReadSteps(id, from, kHistoryPage));
    if (page.empty()) return history;
    from = page.back().step() + 1;
    std::move(page.begin(), page.end(), std::back_inserter(history));
  }
}

}  // namespace

Scheduler::Scheduler(Options options, JobEnvironment environment, MemberStreams* streams, SchedulerView* view)
    : options_(std::move(options)),
      environment_(std::move(environment)),
      streams_(streams),
      view_(view),
      started_at_(environment_.clock->Monotonic()),
      leases_(options_.lease) {
  environment_.cluster = this;
}

JobMachine::Options Scheduler::MachineOptions(const v1::JobSpec& spec) const {
  JobMachine::Options options = options_.machine;
  options.spec = spec;
  options.adopt_timeout = options_.lease + options_.return_grace;
  return options;
}

// --- After a restart. ---

absl::Status Scheduler::Recover() {
  PENSTOCK_ASSIGN_OR_RETURN(std::vector<StoredJob> jobs, environment_.store->LoadJobs());
  restarted_ = !jobs.empty();
  for (StoredJob& job : jobs) {
    if (!MeshOf(job.spec).ok()) {
      return absl::DataLossError(absl::StrCat("the store's job ", job.id, " has a mesh that makes no sense"));
    }
    requests_[job.request_id] = job.id;
    std::vector<v1::StepRecord> history;
    if (!IsOver(job)) {
      PENSTOCK_ASSIGN_OR_RETURN(history, ReadHistory(*environment_.store, job.id));
    }
    TakeUp(std::move(job), history);
  }
  return absl::OkStatus();
}

void Scheduler::TakeUp(StoredJob job, const std::vector<v1::StepRecord>& history) {
  if (IsOver(job)) {
    v1::JobStatus status = job.shown;
    *status.mutable_spec() = job.spec;
    Show(status);
    AddEnded(job.id, job.request_id);
    return;
  }
  LogInfo("job {} ({}) is taken up in state {}, epoch {}", job.spec.name(), job.id,
          v1::JobState_Name(job.persisted.state), job.persisted.epoch);
  JobMachine::Options machine = MachineOptions(job.spec);
  const auto runner = std::make_shared<JobRunner>(&environment_, std::move(job), std::move(machine));
  // By age, which is their place in the queue.
  const auto younger = std::find_if(runners_.begin(), runners_.end(), [&runner](const auto& other) {
    return other->submitted_at() > runner->submitted_at();
  });
  runners_.insert(younger, runner);
  runner->Restore(history);
}

// The machine has let go of the job because the store or the shards know a newer epoch. As long as members report to
// this coordinator somebody has to see to it: with a new machine, and an epoch newer than any.
void Scheduler::ReadAgain(const std::string& id) {
  struct Read {
    std::optional<StoredJob> job;
    std::vector<v1::StepRecord> history;
  };
  const auto read = std::make_shared<Read>();
  // On the writer's thread, behind all that was written before.
  environment_.writer->WriteOnce(
      [id, read](Store& store) -> absl::Status {
        PENSTOCK_ASSIGN_OR_RETURN(std::vector<StoredJob> jobs, store.LoadJobs());
        for (StoredJob& job : jobs) {
          if (job.id == id) read->job = std::move(job);
        }
        PENSTOCK_ASSIGN_OR_RETURN(read->history, ReadHistory(store, id));
        return absl::OkStatus();
      },
      [this, id, read](const absl::Status& status) {
        environment_.loop->Post([this, id, read, status] {
          if (FindRunner(id) != nullptr) return;
          if (!status.ok()) {
            LogError("job {} can't be read again: {}", id, status);
            environment_.loop->PostAt(Now() + kReadAgainPause, [this, id] { ReadAgain(id); });
          } else if (read->job.has_value()) {
            TakeUp(*std::move(read->job), read->history);
          }
        });
      });
}

std::shared_ptr<JobRunner> Scheduler::FindRunner(const std::string& id) const {
  for (const auto& runner : runners_) {
    if (runner->id() == id) return runner;
  }
  return nullptr;
}

// --- Submission. ---

void Scheduler::Submit(StoredJob job, Done done) {
  environment_.loop->Post([this, job = std::move(job), done = std::move(done)] { DoSubmit(job, done); });
}

void Scheduler::FindRequest(const std::string& request_id, Done done) {
  environment_.loop->Post([this, request_id, done = std::move(done)] {
    const auto found = requests_.find(request_id);
    const auto shown = found == requests_.end() ? shown_.end() : shown_.find(found->second);
    done(shown == shown_.end() ? absl::StatusOr<v1::JobStatus>(absl::NotFoundError("no job was submitted with this id"))
                               : shown->second);
  });
}

// What a job wants can't come from busy members only: those that are registered have to be enough.
absl::Status Scheduler::CheckCapacity(const v1::JobSpec& spec) const {
  const int wanted = WorldSize(spec);
  const int registered = RegisteredWorkers();
  if (wanted > registered) {
    return absl::ResourceExhaustedError(absl::StrCat("the job wants ", wanted, wanted == 1 ? " worker (" : " workers (",
                                                     MeshOf(spec)->ToString(), "), but ", registered,
                                                     registered == 1 ? " is" : " are", " registered"));
  }
  const size_t shards_wanted = std::max<size_t>(1, spec.parallel().shards());
  const size_t shards = LivingShards().size();
  if (shards_wanted > shards) {
    return absl::ResourceExhaustedError(absl::StrCat("the job wants ", shards_wanted, " parameter ",
                                                     shards_wanted == 1 ? "shard" : "shards", ", but ", shards,
                                                     shards == 1 ? " is" : " are", " registered"));
  }
  return absl::OkStatus();
}

void Scheduler::DoSubmit(StoredJob job, Done done) {
  const std::string& name = job.spec.name();
  if (const auto found = requests_.find(job.request_id); found != requests_.end()) {
    const auto shown = shown_.find(found->second);
    if (shown != shown_.end()) {
      done(shown->second);
    } else {
      done(absl::UnavailableError("this submission is being written; ask again"));
    }
    return;
  }
  size_t live = names_in_flight_.size();
  for (const auto& runner : runners_) {
    if (!runner->machine().live()) continue;
    ++live;
    if (runner->spec().name() == name) {
      done(absl::AlreadyExistsError(absl::StrCat("the job ", name, " (", runner->id(),
                                                 ") is live: ", v1::JobState_Name(runner->machine().state()).substr(10),
                                                 "; cancel it, or choose another name")));
      return;
    }
  }
  if (names_in_flight_.contains(name)) {
    done(absl::AlreadyExistsError(absl::StrCat("another job ", name, " is being submitted")));
    return;
  }
  if (live >= kLiveJobsMax) {
    done(absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", live, " jobs are live")));
    return;
  }
  if (const absl::Status capacity = CheckCapacity(job.spec); !capacity.ok()) {
    // Right after a restart they may be on their way back.
    const absl::Time wait_until = started_at_ + kReturnTimeMax;
    if (!restarted_ || Now() >= wait_until || waiting_submissions_.size() >= kLiveJobsMax) {
      done(capacity);
      return;
    }
    waiting_submissions_.push_back({std::move(job), std::move(done)});
    environment_.loop->PostAt(wait_until, [this] { RetryWaitingSubmissions(); });
    return;
  }
  AddJob(std::move(job), std::move(done));
}

void Scheduler::RetryWaitingSubmissions() {
  std::vector<WaitingSubmission> waiting = std::move(waiting_submissions_);
  waiting_submissions_.clear();
  for (WaitingSubmission& submission : waiting) DoSubmit(std::move(submission.job), std::move(submission.done));
}

void Scheduler::AddJob(StoredJob job, Done done) {
  names_in_flight_.insert(job.spec.name());
  requests_[job.request_id] = job.id;
  job.persisted.state = v1::JOB_STATE_PENDING;
  environment_.writer->WriteOnce(
      [job](Store& store) { return store.AddJob(job); },
      [this, job, done = std::move(done)](const absl::Status& status) {
        environment_.loop->Post([this, job, done, status] {
          names_in_flight_.erase(job.spec.name());
          if (!status.ok()) {
            requests_.erase(job.request_id);
            done(absl::Status(
                status.code() == absl::StatusCode::kAlreadyExists ? absl::StatusCode::kInternal : status.code(),
                absl::StrCat("the job can't be stored: ", status.message())));
            return;
          }
          auto runner = std::make_shared<JobRunner>(&environment_, job, MachineOptions(job.spec));
          runners_.push_back(runner);
          runner->Begin();
          environment_.writer->AddEvent({environment_.clock->Now(), job.id, 0, "submitted"});
          done(runner->Status());
        });
      });
}

// --- The end. ---

void Scheduler::Cancel(const std::string& id, Done done) {
  environment_.loop->Post([this, id, done = std::move(done)] {
    const auto shown = shown_.find(id);
    if (shown == shown_.end()) {
      done(absl::NotFoundError(absl::StrCat("there is no job ", id)));
      return;
    }
    const auto runner = FindRunner(id);
    if (runner == nullptr || !runner->machine().live()) {
      const v1::JobState state = runner != nullptr ? runner->machine().state() : shown->second.state();
      done(absl::FailedPreconditionError(
          absl::StrCat("the job ", shown->second.name(), " has ended: ", v1::JobState_Name(state).substr(10))));
      return;
    }
    // Answered when the end is in the store, which is when it is shown.
    waiting_for_end_.emplace(id, done);
    runner->Cancel();
  });
}

void Scheduler::Show(const v1::JobStatus& status) {
  shown_[status.id()] = status;
  view_->ShowJob(status);
  if (!IsEnded(status.state())) return;
  const auto [begin, end] = waiting_for_end_.equal_range(status.id());
  for (auto waiting = begin; waiting != end; ++waiting) waiting->second(status);
  waiting_for_end_.erase(begin, end);
}

void Scheduler::ShowStep(const std::string& job_id, const v1::StepRecord& record) {
  const auto shown = shown_.find(job_id);
  if (shown != shown_.end()) view_->ShowStep(shown->second, record);
}

void Scheduler::JobIsDone(const std::string& job_id) {
  environment_.loop->Post([this, job_id] {
    const auto found = std::find_if(runners_.begin(), runners_.end(),
                                    [&job_id](const auto& runner) { return runner->id() == job_id; });
    if (found == runners_.end()) return;
    if ((*found)->machine().live()) {
      environment_.loop->PostAt(Now() + kReadAgainPause, [this, job_id] { ReadAgain(job_id); });
    } else {
      AddEnded(job_id, (*found)->request_id());
    }
    runners_.erase(found);
    ScheduleSoon();
  });
}

void Scheduler::AddEnded(const std::string& id, const std::string& request_id) {
  ended_.emplace_back(id, request_id);
  if (ended_.size() <= kEndedJobsMax) return;
  const auto [oldest, oldest_request] = ended_.front();
  ended_.pop_front();
  requests_.erase(oldest_request);
  shown_.erase(oldest);
  view_->ForgetJob(oldest);
  environment_.writer->Write([oldest = oldest](Store& store) { return store.RemoveJob(oldest); });
}

void Scheduler::AddEvent(const std::string& message) {
  LogInfo("{}", message);
  environment_.writer->AddEvent({environment_.clock->Now(), "", 0, message});
}

}  // namespace penstock
