// One assignment as a worker runs it: connect to the peers, pull the start version, then step after step exchange with
// the peers, push gradients, (the leader) drive the real StepLeader, pull the next version. It fails as a real rank
// does: it reports RankFailed, stops working, and stays until it is told to stop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/commit/step_leader.h"
#include "tests/simulation/sim_worker.h"

namespace penstock::simulation {

class SimRank : public std::enable_shared_from_this<SimRank> {
 public:
  SimRank(World& world, SimWorker& worker, SimAssignment assignment);

  uint64_t epoch() const { return assignment_.epoch; }
  int rank() const { return assignment_.rank; }
  void Start();
  // Stops everything: what is still under way finds nobody.
  void Abandon() { abandoned_ = true; }
  absl::Status OnPeer(int from_rank, uint64_t exchange);
  // After a reconnect: ready, failed, finished.
  void RepeatReports();

 private:
  bool leader() const { return assignment_.rank == world_.ranks() - 1; }
  bool active() const { return !abandoned_ && !failed_; }
  // Runs `run` in the worker after `delay`, if this rank is still at work.
  void After(absl::Duration delay, std::function<void()> run);
  void Fail(const absl::Status& status, bool permanent);

  // Exchange 0 connects; exchange k is step k's. `done` runs when all peers have come to it and know that this one has.
  void Exchange(uint64_t exchange, std::function<void()> done);
  void TellPeer(int peer, uint64_t exchange);
  void CheckExchange();

  void BeginStep();
  // Of a published job: updates what the rank owns, and publishes it where that is due.
  void UpdateOwn(uint64_t step);
  void PushAll();
  void PushRange(int shard, const ElementRange& range, int kind, const std::vector<double>& numbers);
  void PushChunk(int shard, ElementRange chunk, int kind, std::vector<double> numbers);
  void PullAll(uint64_t version);
  void PullFrom(int shard, uint64_t version, ElementRange range, int kind);
  void OnVersion(uint64_t version);
  void MaybeNextStep();

  // The leader.
  void Lead();
  void Execute(const StepLeader::Actions& actions);
  void SendPrepare(const StepLeader::SendPrepare& prepare);
  void SendCommit(const StepLeader::SendCommit& commit);
  void TickLeader();
  void Finish();

  World& world_;
  SimWorker& worker_;
  const SimAssignment assignment_;
  const ElementRange owned_;
  bool abandoned_ = false;
  bool failed_ = false;
  v1::MemberReport failure_;
  bool ready_ = false;
  bool finished_ = false;

  uint64_t version_ = 0;
  // Of version_, and of the one that comes; but for the weights only where the rank updates.
  State state_;
  State next_state_;
  // Of a published job, the leader's: of steps that no shard has heard of.
  std::vector<v1::StepRecord> unpublished_;
  int pulls_missing_ = 0;

  uint64_t exchange_ = 0;
  std::map<uint64_t, std::set<int>> heard_;  // by exchange: peers that have come to it
  std::set<int> told_;                       // peers that know that this rank has come to exchange_
  std::function<void()> exchange_done_;

  StepLeader leader_machine_;
  uint64_t leading_step_ = 0;
};

}  // namespace penstock::simulation
