#include "tests/simulation/world.h"

#include <cstdio>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/simulation/faults.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_shard.h"
#include "tests/simulation/sim_worker.h"

namespace penstock::simulation {

World::World(Options options) : options_(options), random_(options.seed), network_(scheduler_, random_) {
  ranks_ = 1 + random_.Below(3);
  shard_count_ = 1 + random_.Below(3);
  const int spares = random_.Below(2);
  const uint64_t steps = 15 + static_cast<uint64_t>(random_.Below(35));
  const uint64_t checkpoint_every = random_.Chance(0.7) ? 3 + static_cast<uint64_t>(random_.Below(8)) : 0;
  work_time_max_ = absl::Milliseconds(random_.Chance(0.5) ? 4 : 120);
  compute_time_max_ = absl::Milliseconds(random_.Chance(0.5) ? 400 : 60);
  strike_probability_ = random_.Chance(0.5) ? random_.Unit() * 0.1 : 0;
  strikes_left_ = random_.Below(16);
  // Drawn apart, so that all other jobs' runs are what they would be without such ones.
  SimRandom kinds(options.seed * 7919 + 13);
  const uint64_t publish_every = kinds.Chance(0.3) ? 1 + static_cast<uint64_t>(kinds.Below(8)) : 0;
  spec_ = SimSpec(ranks_, steps, checkpoint_every, publish_every);
  reference_ = std::make_unique<Reference>(shard_count_, ranks_, spec_);
  history_checker_ = std::make_unique<HistoryChecker>(violations_, *reference_, published());
  version_checker_ = std::make_unique<VersionChecker>(violations_, *reference_);
  prepared_checker_ = std::make_unique<PreparedChecker>(violations_, shard_count_);
  fence_checker_ = std::make_unique<FenceChecker>(violations_);
  for (int i = 0; i < shard_count_; ++i) shards_.push_back(std::make_unique<SimShard>(*this, i));
  for (int i = 0; i < ranks_ + spares; ++i) workers_.push_back(std::make_unique<SimWorker>(*this, i));
}

World::~World() = default;

void World::StartCoordinator() {
  coordinators_.push_back(std::make_unique<SimCoordinator>(*this, static_cast<int>(coordinators_.size())));
  Trace(coordinator().node().name, "starts");
  coordinator().Start();
}

void World::Trace(const std::string& who, const std::string& what) {
  if (!options_.trace) return;
  const std::string line =
      absl::StrFormat("%9.4f  %-14s %s\n", absl::ToDoubleSeconds(now() - absl::FromUnixSeconds(0)), who, what);
  std::fputs(line.c_str(), stderr);
}

void World::AtPoint() {
  const bool in_time = now() < absl::FromUnixSeconds(0) + options_.faults_end;
  if (!in_time || strikes_left_ == 0 || !random_.Chance(strike_probability_)) return;
  --strikes_left_;
  scheduler_.After(random_.Between(absl::ZeroDuration(), absl::Milliseconds(10)), [this] { Strike(*this); });
}

bool World::Ended() const {
  const v1::JobState state = store_.job.state;
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

void World::AskToCancel() {
  if (Ended()) return;
  cancelled_ = true;
  Node& node = coordinator().node();
  network_.RunIn(node, node.life, [this, &to = coordinator()] { to.Cancel(); });
  scheduler_.After(absl::Seconds(1), [this] { AskToCancel(); });
}

const Violations& World::Run() {
  StartCoordinator();
  for (auto& worker : workers_) worker->Start();
  PlanFaults(*this);
  if (random_.Chance(0.08)) {
    scheduler_.After(random_.Between(absl::ZeroDuration(), options_.faults_end), [this] { AskToCancel(); });
  }
  const absl::Time deadline = now() + options_.faults_end + options_.patience;
  while (now() < deadline && violations_.empty()) {
    // The job has ended, and its coordinator has cleaned up.
    if (Ended() && !store_.job.shards_open) break;
    if (!scheduler_.RunNext()) break;
  }
  if (violations_.empty()) CheckTheEnd();
  for (const Violation& violation : violations_.found()) Trace(violation.checker, violation.text);
  return violations_;
}

void World::CheckTheEnd() {
  // A cancel may come too late, but must not be forgotten.
  if (cancelled_ && store_.job.state == v1::JOB_STATE_CANCELLED && !store_.job.shards_open) {
    Saw("a cancelled job");
    return;
  }
  if (store_.job.state != v1::JOB_STATE_SUCCEEDED || store_.job.shards_open) {
    violations_.Add("progress", absl::StrCat("the job is ", v1::JobState_Name(store_.job.state), " in epoch ",
                                             store_.job.epoch, " with ", store_.history.size(), " of ", steps(),
                                             " steps: ", coordinator().machine().message()));
    return;
  }
  prepared_checker_->AtEnd();
  SampleChecker(violations_).AtEnd(store_.history, steps());
  if (!spec_.checkpoint().directory().empty() && !store_.checkpoints.contains(steps())) {
    violations_.Add("progress", "the last step has no checkpoint");
  }
}

}  // namespace penstock::simulation
