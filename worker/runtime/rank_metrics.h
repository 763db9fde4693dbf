// What a rank's time and memory went to, by kind; and the worker's families of metrics.
//
// RankClock: none (the rank's thread). WorkerMetrics: thread-safe, lives as long as the process.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/telemetry/metrics.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"

namespace penstock {

enum class Activity {
  kCompute,
  kTensor,          // exchanging with the tensor group inside of a layer
  kData,            // reading samples
  kWaitActivation,  // for the previous stage
  kWaitGradient,    // for the next stage
  kWaitSend,        // for a neighbour to take a message
  kReduce,
  kPush,
  kCommitWait,  // the leader's prepare and commit
  kPull,        // waiting for the new version and taking it
  kUpdate,      // the norm, the update and the new weights' way, where the ranks update themselves
  kMirror,      // for the parameter service to follow
};
inline constexpr int kActivities = 12;
// The value of the metric's label: "wait_activation".
const char* ActivityName(Activity activity);

// Seconds of one step by activity. Activities don't nest, but for InnerScope.
class RankClock {
 public:
  class Scope {
   public:
    Scope(RankClock& clock, Activity activity)
        : clock_(clock), activity_(activity), begin_(Clock::Real()->Monotonic()) {}
    ~Scope() {
      clock_.seconds_[static_cast<int>(activity_)] += absl::ToDoubleSeconds(Clock::Real()->Monotonic() - begin_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    RankClock& clock_;
    const Activity activity_;
    const absl::Time begin_;
  };

  // Inside of a Scope of `outer`: its time counts as `inner` instead.
  class InnerScope {
   public:
    InnerScope(RankClock& clock, Activity outer, Activity inner)
        : clock_(clock), outer_(outer), inner_(inner), begin_(Clock::Real()->Monotonic()) {}
    ~InnerScope() {
      const double seconds = absl::ToDoubleSeconds(Clock::Real()->Monotonic() - begin_);
      clock_.seconds_[static_cast<int>(inner_)] += seconds;
      clock_.seconds_[static_cast<int>(outer_)] -= seconds;
    }
    InnerScope(const InnerScope&) = delete;
    InnerScope& operator=(const InnerScope&) = delete;

   private:
    RankClock& clock_;
    const Activity outer_;
    const Activity inner_;
    const absl::Time begin_;
  };

  void Reset() { seconds_.fill(0); }
  double seconds(Activity activity) const { return seconds_[static_cast<int>(activity)]; }
  // Share of `step_seconds` spent waiting for neighbours in the pipeline, 0 to 1.
  double BubbleRatio(double step_seconds) const;

 private:
  std::array<double, kActivities> seconds_{};
};

class WorkerMetrics {
 public:
  // `metrics` outlives it.
  explicit WorkerMetrics(Metrics& metrics);

  // `tokens`: targets that this rank has the loss of; 0 on other stages than the last.
  void StepDone(double step_seconds, uint64_t tokens, const RankClock& clock);
  // Time outside of a training step: the first pull, a validation.
  void AddTime(const RankClock& clock);
  void SetMemory(const MemoryPlan& plan);
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
  Counter& bytes_sent_;
  Counter& bytes_received_;
  CounterFamily& ranks_ended_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_METRICS_H_
