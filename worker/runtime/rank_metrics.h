// The worker's families of metrics. Thread-safe; they live as long as the process.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_

#include <cstdint>
#include <vector>

#include "services/telemetry/metrics.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/ops/operation_times.h"
#include "worker/runtime/rank_clock.h"

namespace penstock {

class WorkerMetrics {
 public:
  // `metrics` outlives it.
  explicit WorkerMetrics(Metrics& metrics);

  // `tokens`: targets that this rank has the loss of; 0 on other stages than the last.
  void StepDone(double step_seconds, uint64_t tokens, const RankClock& clock);
  // Time outside of a training step: the first pull, a validation.
  void AddTime(const RankClock& clock);
  // `host`: what is pinned beside a device's memory.
  void SetMemory(const MemoryPlan& plan, const MemoryPlan& host);
  void ClearMemory();
  // What was exchanged since `before`.
  void AddComm(const Communicator::Counters& before, const Communicator::Counters& now);
  // Steps that the parameter service is behind this rank. Any thread.
  void SetMirrorLag(int steps);
  void RankEnded(const char* outcome);

 private:
  Histogram& step_seconds_;
  Counter& tokens_;
  std::vector<Counter*> activity_seconds_;
  Gauge& bubble_ratio_;
  Gauge& mirror_lag_;
  std::vector<Gauge*> memory_bytes_;
  std::vector<Gauge*> host_memory_bytes_;
  Counter& bytes_sent_;
  Counter& bytes_received_;
  CounterFamily& ranks_ended_;
};

// What operations take, for MeasureOperations: seconds, calls, FLOPs and bytes of each by its name. `metrics` outlives
// what comes of it.
OperationMeters CountOperations(Metrics& metrics);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_
