// A thin worker process: its membership (stream, heartbeats, commands) and the one rank that it may run (sim_rank.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/commit/gang.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "tests/simulation/link.h"
#include "tests/simulation/world.h"

namespace penstock::simulation {

class SimRank;

struct SimAssignment {
  uint64_t epoch = 0;
  int rank = 0;
  uint64_t start_step = 0;
  // By rank: index of the worker.
  std::vector<int> peers;
};

class SimWorker {
 public:
  SimWorker(World& world, int index);
  ~SimWorker();

  Node& node() { return node_; }
  const std::string& name() const { return node_.name; }
  int index() const { return index_; }
  WorkerRef ref() const { return {node_.name, incarnation_}; }
  void Start();
  void Crash();
  void Restart();

  // Until then commands are not obeyed, and the rank does nothing.
  void HangUntil(absl::Time time) { hangs_until_ = time; }
  bool hangs() const { return world_.now() < hangs_until_; }

  // --- Commands. ---
  void OnAssign(const SimAssignment& assignment);
  void OnStop(uint64_t epoch);
  void OnEvict();

  // --- For its rank. ---
  void Report(v1::MemberReport report);
  // A peer's message: it has come to exchange number `exchange` of `epoch`.
  absl::Status OnPeer(uint64_t epoch, int from_rank, uint64_t exchange);
  // Steps that this process has led, for a mutation.
  uint64_t steps_led = 0;

 private:
  void Connect();
  void Flush();
  void Heartbeat();

  World& world_;
  const int index_;
  Node node_;
  uint64_t incarnation_ = 0;
  // The coordinator that link_ leads to; it may be an old one.
  SimCoordinator* coordinator_ = nullptr;
  std::shared_ptr<Link> link_;
  std::deque<v1::MemberReport> reports_;
  uint64_t newest_epoch_ = 0;
  absl::Time hangs_until_ = absl::InfinitePast();
  std::shared_ptr<SimRank> rank_;
};

}  // namespace penstock::simulation
