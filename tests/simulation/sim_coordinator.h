// A thin coordinator process around the real JobMachine and EpochChange: leases, the scheduler of one job, the store
// and the RPCs that the machines' actions stand for. One object is one life; its successor reads the store.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/commit/epoch_change.h"
#include "core/commit/job_machine.h"
#include "tests/simulation/link.h"
#include "tests/simulation/sim_shard.h"
#include "tests/simulation/world.h"

namespace penstock::simulation {

class SimCoordinator {
 public:
  SimCoordinator(World& world, int index);

  Node& node() { return node_; }
  const JobMachine& machine() const { return *machine_; }
  // Reads the store and begins.
  void Start();
  // The user's wish; asked for again until the store says that the job has ended.
  void Cancel() { Apply(machine_->OnCancel(world_.now())); }

  // --- From members. ---
  void OnHello(int worker, const WorkerRef& ref, const std::optional<v1::RunningRank>& running,
               std::shared_ptr<Link> link);
  void OnHeartbeat(int worker, const WorkerRef& ref);
  void OnReport(const WorkerRef& ref, const v1::MemberReport& report);

 private:
  struct Member {
    WorkerRef ref;
    bool alive = false;
    absl::Time last_seen;
    std::shared_ptr<Link> link;
    // The epoch of the rank that it said it runs, until it says that it has stopped; 0: none.
    uint64_t runs_epoch = 0;
  };
  struct ShardHealth {
    std::optional<uint64_t> incarnation;
    absl::Time last_seen;
    bool reported_lost = false;
  };

  void Tick();
  void Schedule();
  void StopStrays();
  void PingShards();
  Member* Find(const WorkerRef& ref);
  int IndexOf(const WorkerRef& ref) const;
  void Command(const WorkerRef& ref, std::function<void(int)> command);

  // The machine's actions (sim_coordinator_actions.cc).
  void Apply(JobActions actions);
  bool Execute(const JobAction& action);
  void Do(const job_action::PersistEpoch& action);
  void Do(const job_action::OpenShards& action);
  void Do(const job_action::StartEpochChange& action);
  void Do(const job_action::FetchSteps& action);
  void Do(const job_action::AssignRanks& action);
  void Do(const job_action::WriteCheckpoint& action);
  void Do(const job_action::CloseShards& action);
  bool Refused();

  void OpenOne(int shard, uint64_t epoch, uint64_t step, const State& state);
  void CloseOne(int shard, uint64_t epoch, int attempts_left);
  void SnapshotOne(int shard, uint64_t step, int attempts_left);
  void SnapshotsDone(uint64_t step, const absl::Status& status);
  void Run(const EpochChange::Actions& actions);
  void SendSeal(int shard);
  void SendDecide(const EpochChange::SendDecide& decide);
  int shard_count() const { return static_cast<int>(world_.shards().size()); }
  Node& shard_node(int shard) { return world_.shards()[shard]->node(); }

  World& world_;
  const int index_;
  Node node_;
  std::unique_ptr<JobMachine> machine_;
  std::unique_ptr<EpochChange> change_;
  std::vector<Member> members_;
  std::vector<ShardHealth> shard_health_;

  // OpenShards under way: the epoch, where from, and the shards that have answered.
  uint64_t opening_epoch_ = 0;
  uint64_t opening_step_ = 0;
  State opening_state_;
  std::map<int, uint64_t> opened_;
  uint64_t closing_epoch_ = 0;
  int closed_ = 0;
  // WriteCheckpoint under way.
  std::optional<uint64_t> snapshot_step_;
  std::map<int, State> snapshot_;
};

}  // namespace penstock::simulation
