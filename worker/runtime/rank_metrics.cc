#include "worker/runtime/rank_metrics.h"

#include <string>
#include <vector>

namespace penstock {

WorkerMetrics::WorkerMetrics(Metrics& metrics)
    : step_seconds_(metrics
                        .AddHistogram("penstock_worker_step_seconds", "Wall time of a training step on this rank.", {},
                                      LatencyBuckets())
                        .Default()),
      tokens_(
          metrics
              .AddCounter("penstock_worker_tokens_total",
                          "Targets trained on, counted by the ranks that have the loss: the sum over workers is the "
                          "job's.")
              .Default()),
      bubble_ratio_(metrics
                        .AddGauge("penstock_worker_bubble_ratio",
                                  "Share of the last step spent waiting for neighbours in the pipeline.")
                        .Default()),
      mirror_lag_(metrics
                      .AddGauge("penstock_mirror_lag_steps",
                                "Steps that the parameter service is behind this rank (zero.placement local).")
                      .Default()),
      bytes_sent_(
          metrics.AddCounter("penstock_worker_comm_bytes_total", "Bytes exchanged with other ranks.", {"direction"})
              .With({"sent"})),
      bytes_received_(
          metrics.AddCounter("penstock_worker_comm_bytes_total", "Bytes exchanged with other ranks.", {"direction"})
              .With({"received"})),
      ranks_ended_(metrics.AddCounter("penstock_worker_ranks_ended_total",
                                      "Ranks that this worker ran, by how they ended.", {"outcome"})) {
  CounterFamily& seconds =
      metrics.AddCounter("penstock_worker_activity_seconds_total", "Time of a rank's thread by what it did.", {"kind"});
  for (int i = 0; i < kActivities; ++i)
    activity_seconds_.push_back(&seconds.With({ActivityName(static_cast<Activity>(i))}));
  GaugeFamily& memory =
      metrics.AddGauge("penstock_worker_memory_bytes", "Memory planned for the rank under way, by class.", {"class"});
  GaugeFamily& host_memory = metrics.AddGauge(
      "penstock_worker_host_memory_bytes",
      "Pinned memory of the host planned beside a device's for the rank under way, by class.", {"class"});
  for (int i = 0; i < kMemoryClasses; ++i) {
    const char* const name = MemoryClassName(static_cast<MemoryClass>(i));
    memory_bytes_.push_back(&memory.With({name}));
    host_memory_bytes_.push_back(&host_memory.With({name}));
  }
}

void WorkerMetrics::StepDone(double step_seconds, uint64_t tokens, const RankClock& clock) {
  step_seconds_.Observe(step_seconds);
  if (tokens > 0) tokens_.Increment(static_cast<double>(tokens));
  bubble_ratio_.Set(clock.BubbleRatio(step_seconds));
  AddTime(clock);
}

void WorkerMetrics::AddTime(const RankClock& clock) {
  for (int i = 0; i < kActivities; ++i) activity_seconds_[i]->Increment(clock.seconds(static_cast<Activity>(i)));
}

void WorkerMetrics::SetMemory(const MemoryPlan& plan, const MemoryPlan& host) {
  for (int i = 0; i < kMemoryClasses; ++i) {
    const auto memory_class = static_cast<MemoryClass>(i);
    memory_bytes_[i]->Set(static_cast<double>(plan.BytesOf(memory_class)));
    host_memory_bytes_[i]->Set(static_cast<double>(host.BytesOf(memory_class)));
  }
}

void WorkerMetrics::ClearMemory() { SetMemory({}, {}); }

void WorkerMetrics::AddComm(const Communicator::Counters& before, const Communicator::Counters& now) {
  bytes_sent_.Increment(static_cast<double>(now.bytes_sent - before.bytes_sent));
  bytes_received_.Increment(static_cast<double>(now.bytes_received - before.bytes_received));
}

void WorkerMetrics::SetMirrorLag(int steps) { mirror_lag_.Set(steps); }

void WorkerMetrics::RankEnded(const char* outcome) { ranks_ended_.With({outcome}).Increment(); }

OperationMeters CountOperations(Metrics& metrics) {
  const std::vector<std::string> label = {"operation"};
  CounterFamily* const seconds =
      &metrics.AddCounter("penstock_worker_operation_seconds_total",
                          "Time of the operations of a rank's passes and updates (--operation_times).", label);
  CounterFamily* const calls =
      &metrics.AddCounter("penstock_worker_operation_calls_total", "Calls of an operation.", label);
  CounterFamily* const flops = &metrics.AddCounter(
      "penstock_worker_operation_flops_total", "Floating-point operations of matrix products in an operation.", label);
  CounterFamily* const bytes = &metrics.AddCounter("penstock_worker_operation_bytes_total",
                                                   "What an operation has to read and write at least.", label);
  return [=](const std::string& name) -> OperationMeter {
    return [&s = seconds->With({name}), &c = calls->With({name}), &f = flops->With({name}),
            &b = bytes->With({name})](const OperationCall& call) {
      s.Increment(call.seconds);
      c.Increment();
      f.Increment(call.flops);
      b.Increment(call.bytes);
    };
  };
}

}  // namespace penstock
