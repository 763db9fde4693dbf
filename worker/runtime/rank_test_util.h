// What the runtime's tests share: a tiny job with a corpus, and a job's ranks as threads of this process.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_TEST_UTIL_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_TEST_UTIL_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/telemetry/metrics.h"
#include "worker/comm/fake/communicator.h"
#include "worker/runtime/fake_state_client.h"
#include "worker/runtime/rank_runner.h"

namespace penstock {

struct TinyJob {
  int pipeline = 1;
  int data = 1;
  v1::ParallelSpec::Schedule schedule = v1::ParallelSpec::SCHEDULE_1F1B;
  int zero = 1;
  int steps = 3;
  int validate_every = 0;
  int tensor = 1;
  int vocab_size = 128;
};

// A GPT-2 of 4 layers on 20 KB of text, 4 micro-batches a step and data rank; defaults filled in and checked.
v1::JobSpec MakeTinyJob(const TinyJob& job);

// The reports of a job's ranks, in the order in which they came. Thread-safe.
class ReportLog {
 public:
  void Add(v1::MemberReport report);
  std::vector<v1::MemberReport> All() const;
  void Clear();
  // Waits until `condition` holds for the reports so far.
  bool WaitFor(const std::function<bool(const std::vector<v1::MemberReport>&)>& condition,
               absl::Duration timeout = absl::Seconds(20)) const;
  int Count(v1::MemberReport::ReportCase kind) const;
  bool WaitForCount(v1::MemberReport::ReportCase kind, int count, absl::Duration timeout = absl::Seconds(20)) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<v1::MemberReport> reports_;  // guarded by mutex_
};

// Stops don't reach all ranks at the same moment: one that isn't stopped yet may see a stopped one's connections close.
// It says so, and nobody minds: the epoch is ending. It never takes that for good.
void ExpectNoPermanentFailure(const ReportLog& log);

// A counter's or gauge's value: "penstock_steps_total", or with its labels as /metrics shows them. The test fails when
// there is none.
double CounterIn(const Metrics& metrics, const std::string& name);

// All ranks of one epoch.
class TestEpoch {
 public:
  struct Options {
    v1::JobSpec spec;
    std::shared_ptr<FakeStateService> service = {};
    uint64_t epoch = 1;
    uint64_t start_step = 0;
    ReportLog* log = nullptr;
    Timeline* timeline = nullptr;
    WorkerMetrics* metrics = nullptr;
    absl::Duration hold_after_failure = absl::Seconds(20);
    absl::Duration memory_wait = absl::Seconds(20);
    // Ranks that are never started.
    std::vector<int> absent = {};
    // Real ones instead of the fakes.
    std::vector<std::string> shards = {"in process"};
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect = {};
    std::function<absl::StatusOr<std::unique_ptr<Backend>>()> backend = {};
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect_devices = {};
    std::function<absl::StatusOr<std::unique_ptr<StateClient>>(const RankPlan&)> state = {};
    std::function<void(const absl::Status&)> device_lost = {};
  };

  explicit TestEpoch(const Options& options);

  RankRunner& rank(int i) { return *runners_[i]; }
  bool present(int i) const { return runners_[i] != nullptr; }
  int size() const { return static_cast<int>(runners_.size()); }
  FakeNetwork& network() { return *network_; }
  // Waits for JobFinished.
  bool WaitFinished(absl::Duration timeout = absl::Seconds(30));
  // Waits until every rank has done its last step.
  bool WaitIdle(absl::Duration timeout = absl::Seconds(60));
  void StopAll();

 private:
  const Options options_;
  std::shared_ptr<FakeNetwork> network_;
  std::vector<std::unique_ptr<RankRunner>> runners_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_TEST_UTIL_H_
