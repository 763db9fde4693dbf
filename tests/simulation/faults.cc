#include "tests/simulation/faults.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_shard.h"
#include "tests/simulation/sim_worker.h"

namespace penstock::simulation {
namespace {

constexpr int kFaultsMax = 14;

void CrashWorker(World& world) {
  SimWorker& worker = *world.workers()[world.random().Below(static_cast<int>(world.workers().size()))];
  if (!worker.node().alive) return;
  world.Trace("faults", absl::StrCat(worker.name(), " crashes"));
  worker.Crash();
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(100), absl::Seconds(5)), [&worker] {
    if (!worker.node().alive) worker.Restart();
  });
}

void CrashShard(World& world) {
  SimShard& shard = *world.shards()[world.random().Below(static_cast<int>(world.shards().size()))];
  if (!shard.node().alive) return;
  world.Trace("faults", absl::StrCat(shard.name(), " crashes"));
  shard.Crash();
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(50), absl::Seconds(3)), [&shard] {
    if (!shard.node().alive) shard.Restart();
  });
}

void CrashCoordinator(World& world) {
  SimCoordinator& coordinator = world.coordinator();
  if (!coordinator.node().alive) return;
  world.Trace("faults", absl::StrCat(coordinator.node().name, " crashes"));
  world.network().Crash(coordinator.node());
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(50), absl::Seconds(3)),
                                    [&world, &coordinator] {
                                      if (&world.coordinator() == &coordinator) world.StartCoordinator();
                                    });
}

// A coordinator that hangs, is replaced, and wakes up with the commands that it was about to give.
void PauseCoordinator(World& world) {
  SimCoordinator& coordinator = world.coordinator();
  if (!coordinator.node().alive || coordinator.node().paused) return;
  world.Trace("faults", absl::StrCat(coordinator.node().name, " is paused"));
  coordinator.node().paused = true;
  Scheduler& clock = world.network().scheduler();
  clock.After(world.random().Between(absl::Milliseconds(200), absl::Seconds(3)), [&world, &coordinator] {
    if (&world.coordinator() == &coordinator) world.StartCoordinator();
  });
  clock.After(world.random().Between(absl::Milliseconds(100), absl::Seconds(9)), [&world, &coordinator] {
    world.Trace("faults", absl::StrCat(coordinator.node().name, " wakes up"));
    world.network().Resume(coordinator.node());
  });
}

void PauseWorker(World& world) {
  SimWorker& worker = *world.workers()[world.random().Below(static_cast<int>(world.workers().size()))];
  if (!worker.node().alive || worker.node().paused) return;
  world.Trace("faults", absl::StrCat(worker.name(), " is paused"));
  worker.node().paused = true;
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(300), absl::Seconds(8)),
                                    [&world, &worker] { world.network().Resume(worker.node()); });
}

// A worker whose rank hangs: it heartbeats, and doesn't stop when it is told to.
void HangWorker(World& world) {
  SimWorker& worker = *world.workers()[world.random().Below(static_cast<int>(world.workers().size()))];
  if (!worker.node().alive) return;
  world.Trace("faults", absl::StrCat(worker.name(), " hangs"));
  worker.HangUntil(world.now() + world.random().Between(absl::Seconds(1), absl::Seconds(20)));
}

void Partition(World& world) {
  const int workers = static_cast<int>(world.workers().size()), shards = static_cast<int>(world.shards().size());
  const int pick = world.random().Below(workers + shards + 1);
  Node& node = pick < workers            ? world.workers()[pick]->node()
               : pick < workers + shards ? world.shards()[pick - workers]->node()
                                         : world.coordinator().node();
  world.Trace("faults", absl::StrCat(node.name, " is cut off"));
  node.partition = 1 + world.random().Below(2);
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(200), absl::Seconds(6)),
                                    [&node] { node.partition = 0; });
}

void BadNetwork(World& world) {
  Network::Faults& faults = world.network().faults();
  faults.loss = world.random().Unit() * 0.3;
  faults.duplication = world.random().Unit() * 0.5;
  faults.straggling = world.random().Unit() * 0.2;
  faults.delay_max = world.random().Between(absl::Milliseconds(3), absl::Milliseconds(200));
  world.Trace("faults", "the network is bad");
  world.network().scheduler().After(world.random().Between(absl::Milliseconds(500), absl::Seconds(8)),
                                    [&world] { world.network().faults() = Network::Faults{}; });
}

void Heal(World& world) {
  world.Trace("faults", "everything heals");
  world.network().faults() = Network::Faults{};
  for (auto& worker : world.workers()) {
    worker->HangUntil(absl::InfinitePast());
    worker->node().partition = 0;
    if (worker->node().paused) world.network().Resume(worker->node());
    if (!worker->node().alive) worker->Restart();
  }
  for (auto& shard : world.shards()) {
    shard->node().partition = 0;
    if (!shard->node().alive) shard->Restart();
  }
  for (auto& coordinator : world.coordinators()) {
    coordinator->node().partition = 0;
    if (coordinator->node().paused) world.network().Resume(coordinator->node());
  }
  if (!world.coordinator().node().alive) world.StartCoordinator();
}

using Fault = void (*)(World&);
constexpr Fault kFaults[] = {CrashWorker, CrashShard, CrashCoordinator, PauseCoordinator,
                             PauseWorker, HangWorker, Partition,        BadNetwork};
constexpr int kKinds = std::size(kFaults);

}  // namespace

void Strike(World& world) { kFaults[world.random().Below(kKinds)](world); }

void PlanFaults(World& world) {
  // Some runs have all kinds of faults, some only one, some none.
  const int count = world.random().Below(kFaultsMax + 1);
  const int only = world.random().Chance(0.4) ? world.random().Below(kKinds) : -1;
  Scheduler& clock = world.network().scheduler();
  for (int i = 0; i < count; ++i) {
    const Fault fault = kFaults[only >= 0 ? only : world.random().Below(kKinds)];
    clock.After(world.random().Between(absl::ZeroDuration(), world.options().faults_end),
                [&world, fault] { fault(world); });
  }
  clock.After(world.options().faults_end + absl::Seconds(9), [&world] { Heal(world); });
}

}  // namespace penstock::simulation
