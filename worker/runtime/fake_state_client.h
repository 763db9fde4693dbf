// The parameter service's state of one job in memory, and StateClients on it: same initial weights, same update, same
// waiting, no network.
//
//   auto service = FakeStateService::Create(spec, /*shards=*/2);
//   std::unique_ptr<StateClient> client = service->NewClient(/*epoch=*/1);
//
// Thread-safe. Only whole ranges are pushed and pulled; a step's gradients must come from one epoch.
#ifndef PENSTOCK_WORKER_RUNTIME_FAKE_STATE_CLIENT_H_
#define PENSTOCK_WORKER_RUNTIME_FAKE_STATE_CLIENT_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/layout/range.h"
#include "core/layout/shard_ranges.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class FakeStateService : public std::enable_shared_from_this<FakeStateService> {
 public:
  static std::shared_ptr<FakeStateService> Create(const v1::JobSpec& spec, int shards);

  std::unique_ptr<StateClient> NewClient(uint64_t epoch);

  // Refuses older epochs from now on, completes a step that some shard has committed, and drops any other open one.
  void Seal(uint64_t epoch);
  // Commits are answered with UNAVAILABLE this many times before they are done.
  void FailCommits(int times);
  // Overwrites a weight, as a bug would.
  void Poison(int64_t element, float value);
  // Takes every gradient with its sign turned and doubled, as a bug would.
  void FlipGradients();

  uint64_t committed_step() const;
  std::vector<float> weights() const;
  int clients_alive() const;

 private:
  friend class FakeStateClient;
  struct Waiting {
    const void* client;
    int shard;
    uint64_t step;
    v1::StepInputs inputs;
    std::function<void(absl::StatusOr<v1::PreparedStep>)> done;
  };
  using Ready = std::vector<std::function<void()>>;

  FakeStateService(const v1::JobSpec& spec, ParameterTable table, ShardRanges ranges);
  absl::Status CheckEpoch(uint64_t epoch) const;
  v1::PreparedStep PreparedLocked(const Waiting& waiting) const;
  // Takes the Prepares that can be answered. mutex_ is held; the answers are called without it.
  Ready TakeReadyLocked();
  void ApplyLocked(int shard, const v1::StepDecision& decision);
  // The numbers of a kind; `unset` where there is none.
  std::vector<float>& NumbersLocked(v1::StateKind kind, std::vector<float>& unset);

  const v1::JobSpec spec_;
  const ParameterTable table_;
  const ShardRanges ranges_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  uint64_t sealed_ = 0;
  std::vector<uint64_t> committed_;  // by shard
  std::vector<float> weights_, exp_avg_, exp_avg_sq_, gradient_;
  RangeSet arrived_;
  std::vector<Waiting> waiting_;
  std::optional<v1::StepDecision> last_decision_;
  int fail_commits_ = 0;
  bool flip_gradients_ = false;
  int clients_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_FAKE_STATE_CLIENT_H_
