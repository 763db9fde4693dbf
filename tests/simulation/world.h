// One simulated cluster: the network, the store, the processes, the checkers. Owns everything; a run is Run().
//
//   World world({.seed = 7});
//   const Violations& found = world.Run();
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/commit/job_actions.h"
#include "core/plan/job_facts.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"
#include "tests/simulation/fence_checker.h"
#include "tests/simulation/history_checker.h"
#include "tests/simulation/network.h"
#include "tests/simulation/prepared_checker.h"
#include "tests/simulation/sample_checker.h"
#include "tests/simulation/training.h"
#include "tests/simulation/version_checker.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class SimShard;
class SimWorker;
class SimCoordinator;

// A bug that is put into one of the models, to prove that the checkers see it.
enum class Mutation {
  kNone,
  kShardForgetsFence,         // old epochs are served as if they were the sealed one
  kShardDropsPrepared,        // a prepared shard gives up by itself after a while
  kShardAppliesTwice,         // a commit that comes again is applied again
  kShardServesAnyVersion,     // a pull is answered with whatever version is there
  kShardHidesATornState,      // what was published only in part is taken for the version before
  kLeaderCommitsEarly,        // the leader takes one shard's yes for everybody's
  kLeaderCountsItsOwnSteps,   // sample ranges follow the leader's count of steps, not the step's number
  kCoordinatorSkipsASeal,     // a shard that doesn't answer is taken for sealed
  kCoordinatorTrustsItself,   // epochs are used without asking the store
  kCoordinatorAlwaysDiscards  // the open step is discarded whatever the shards report
};

// What the coordinators share: it survives all of them.
struct SimStore {
  PersistedJob job;
  std::map<uint64_t, v1::StepRecord> history;  // by step
  std::map<uint64_t, State> checkpoints;       // complete ones, by step
};

class World {
 public:
  struct Options {
    uint64_t seed = 1;
    Mutation mutation = Mutation::kNone;
    // Prints what happens as it happens.
    bool trace = false;
    absl::Duration faults_end = absl::Seconds(20);
    // After the faults; generous in virtual time, so that only a job that is stuck misses it.
    absl::Duration patience = absl::Minutes(10);
  };

  explicit World(Options options);
  ~World();

  const Violations& Run();

  // --- For the models. ---
  const Options& options() const { return options_; }
  bool Mutated(Mutation mutation) const { return options_.mutation == mutation; }
  Network& network() { return network_; }
  SimRandom& random() { return random_; }
  absl::Time now() const { return scheduler_.now(); }
  const v1::JobSpec& spec() const { return spec_; }
  uint64_t steps() const { return spec_.training().steps(); }
  int ranks() const { return ranks_; }
  // The ranks update, and publish their state now and then (zero.mirror off).
  bool published() const { return IsPublished(spec_); }
  // Only for the decisions that ranks make among themselves.
  const Reference& reference() const { return *reference_; }
  SimStore& store() { return store_; }
  std::vector<std::unique_ptr<SimShard>>& shards() { return shards_; }
  std::vector<std::unique_ptr<SimWorker>>& workers() { return workers_; }
  // The coordinator that the members' streams go to.
  SimCoordinator& coordinator() { return *coordinators_.back(); }
  // A process's memory is gone: the next number.
  uint64_t NextIncarnation() { return ++incarnations_; }
  void Trace(const std::string& who, const std::string& what);
  // Something worth knowing has happened: what the seeds together must have seen is tested, too.
  void Saw(const std::string& situation) { ++seen_[situation]; }
  const std::map<std::string, int>& seen() const { return seen_; }

  // The run's pace: how long a shard's data work and a rank's computing take at most.
  absl::Duration work_time_max() const { return work_time_max_; }
  absl::Duration compute_time_max() const { return compute_time_max_; }
  // The protocol is at a point where a fault matters most; some runs are struck there.
  void AtPoint();

  HistoryChecker& history_checker() { return *history_checker_; }
  VersionChecker& version_checker() { return *version_checker_; }
  PreparedChecker& prepared_checker() { return *prepared_checker_; }
  FenceChecker& fence_checker() { return *fence_checker_; }

  // --- For the faults. ---
  // A new coordinator takes over; the old one, paused or dead, stays around.
  void StartCoordinator();
  std::vector<std::unique_ptr<SimCoordinator>>& coordinators() { return coordinators_; }
  uint64_t events_run() const { return scheduler_.events_run(); }

 private:
  bool Ended() const;
  void AskToCancel();
  void CheckTheEnd();

  const Options options_;
  Scheduler scheduler_;
  SimRandom random_;
  Network network_;
  int ranks_;
  int shard_count_;
  v1::JobSpec spec_;
  uint64_t incarnations_ = 0;
  absl::Duration work_time_max_;
  absl::Duration compute_time_max_;
  double strike_probability_ = 0;
  int strikes_left_ = 0;
  bool cancelled_ = false;
  std::map<std::string, int> seen_;
  Violations violations_;
  std::unique_ptr<Reference> reference_;
  std::unique_ptr<HistoryChecker> history_checker_;
  std::unique_ptr<VersionChecker> version_checker_;
  std::unique_ptr<PreparedChecker> prepared_checker_;
  std::unique_ptr<FenceChecker> fence_checker_;
  SimStore store_;
  std::vector<std::unique_ptr<SimShard>> shards_;
  std::vector<std::unique_ptr<SimWorker>> workers_;
  std::vector<std::unique_ptr<SimCoordinator>> coordinators_;
};

}  // namespace penstock::simulation
