// Measures the pipeline bubble of the real executor at equal injected stage costs: every stage's passes sleep for a
// fixed time, so that stages don't contend for cores; lists, messages (Gloo over loopback) and buffers are the real
// ones. Prints one JSON line for each pipeline.
//
//   bazel run //tests/bench:bubble_bench
//
// bubble: measured time of a step over the m (f + b) that one stage computes, less one; ideal: (p - 1) / m (Narayanan
// et al. 2021). excess: how much longer the step takes than (m + p - 1) (f + b).
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "services/data/samples.h"
#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/gloo/gloo_communicator.h"
#include "worker/comm/gloo/gloo_device.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/runtime/abort_scope.h"
#include "worker/runtime/batch_reader.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/rank_progress.h"

ABSL_FLAG(absl::Duration, forward, absl::Milliseconds(10), "what a forward pass of a stage takes");
ABSL_FLAG(absl::Duration, backward, absl::Milliseconds(20), "what a backward pass takes");
ABSL_FLAG(int, steps, 5, "timed steps of each pipeline, after one that isn't");

namespace penstock {
namespace {

using SteadyClock = std::chrono::steady_clock;

// A stage that takes its time and computes nothing.
class SleepingModel final : public StageModel {
 public:
  SleepingModel(const StageParameters& parameters, int64_t tokens, int64_t hidden, int slots)
      : parameters_(parameters), tokens_(tokens), hidden_(hidden), slots_(slots) {}

  void Bind(const Arena&, TensorGroup*) override {}
  const StageParameters& parameters() const override { return parameters_; }
  DataType type() const override { return DataType::kFloat32; }
  int64_t boundary_bytes() const override { return tokens_ * hidden_ * BytesOf(type()); }
  int64_t tokens_per_micro_batch() const override { return tokens_; }
  int slots() const override { return slots_; }
  std::span<std::byte> UntiedWeights() override { return {}; }
  std::span<std::byte> TiedWeights() override { return {}; }
  std::span<float> UntiedGradients() override { return {}; }
  std::span<float> TiedGradients(TiedUse) override { return {}; }
  void ZeroGradients() override {}
  void SetGradientGuard(std::function<absl::Status()>) override {}
  void SetBucketSink(BucketSink) override {}
  std::span<std::byte> InputBuffer(int) override { return {}; }
  absl::StatusOr<LossSum> Forward(int, const ForwardArgs&) override {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(absl::GetFlag(FLAGS_forward)));
    LossSum loss;
    loss.loss = 1;
    loss.target_count = tokens_;
    if (parameters_.last) losses_.push_back(loss);
    return loss;
  }
  absl::StatusOr<std::vector<LossSum>> TakeLosses() override { return std::exchange(losses_, {}); }
  absl::Status Backward(int, std::span<const std::byte>, std::span<std::byte>) override {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(absl::GetFlag(FLAGS_backward)));
    return absl::OkStatus();
  }
  void Reset() override {}

 private:
  const StageParameters parameters_;
  const int64_t tokens_;
  const int64_t hidden_;
  const int slots_;
  std::vector<LossSum> losses_;
};

v1::JobSpec Spec(int stages, int micro_batches, v1::ParallelSpec::Schedule schedule, const std::string& corpus) {
  v1::JobSpec spec;
  spec.set_name("bubble");
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(static_cast<uint32_t>(stages));
  spec.mutable_model()->set_hidden(64);
  spec.mutable_model()->set_heads(4);
  spec.mutable_model()->set_seq_length(64);
  spec.mutable_model()->set_vocab_size(256);
  spec.mutable_data()->set_path(corpus);
  spec.mutable_training()->set_steps(1000);
  spec.mutable_training()->set_micro_batch_size(1);
  spec.mutable_training()->set_global_batch_size(static_cast<uint32_t>(micro_batches));
  spec.mutable_parallel()->set_pipeline(static_cast<uint32_t>(stages));
  spec.mutable_parallel()->set_schedule(schedule);
  FillDefaults(&spec);
  return spec;
}

// Runs one stage: `warm` and timed steps, each between two meetings of all stages; stage 0 notes the times.
absl::Status RunStage(const v1::JobSpec& spec, int rank, const std::shared_ptr<GlooDevice>& device,
                      const std::shared_ptr<FakeRendezvousStore>& store, std::barrier<>& meeting,
                      std::vector<double>* seconds) {
  v1::Assignment assignment;
  assignment.set_job_id("bubble");
  assignment.set_epoch(1);
  *assignment.mutable_spec() = spec;
  assignment.set_rank(static_cast<uint32_t>(rank));
  const int stages = static_cast<int>(spec.parallel().pipeline());
  for (int i = 0; i < stages; ++i) assignment.add_peers()->set_rank(static_cast<uint32_t>(i));
  assignment.add_shards("127.0.0.1:1");
  PENSTOCK_ASSIGN_OR_RETURN(const RankPlan plan, MakeRankPlan(assignment));
  PENSTOCK_ASSIGN_OR_RETURN(Samples samples, Samples::Open(spec));
  PENSTOCK_ASSIGN_OR_RETURN(const auto backend, CreateCpuBackend({.threads = 1}));
  PENSTOCK_ASSIGN_OR_RETURN(BatchReader reader,
                            BatchReader::Create(std::move(samples), spec.training().micro_batch_size(),
                                                spec.model().seq_length(), backend.get()));
  SleepingModel model(plan.parameters, spec.model().seq_length(), spec.model().hidden(), plan.slots);
  MemoryPlan memory;
  StageExecutor executor(plan, {});
  PENSTOCK_RETURN_IF_ERROR(executor.PlanMemory(model, &memory));
  PENSTOCK_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate(memory, backend.get()));
  GlooConnectorOptions connecting;
  connecting.device = device;
  connecting.rendezvous = std::make_shared<FakeRendezvous>(store);
  connecting.rank = rank;
  connecting.size = stages;
  PENSTOCK_ASSIGN_OR_RETURN(const auto comm, MakeGlooConnector(std::move(connecting))->Connect());
  AbortScope abort;
  RankProgress progress("bubble", 1);
  RankClock clock;
  executor.Bind(arena, {.model = &model,
                        .comm = comm.get(),
                        .reader = &reader,
                        .abort = &abort,
                        .progress = &progress,
                        .clock = &clock,
                        .timeline = nullptr});
  StageExecutor::RunOptions run;
  run.samples = [&](int micro_batch) { return SamplesOfMicroBatch(spec, run.step, 0, micro_batch); };
  run.reduce_gradients = run.optimizer_step = [] { return absl::OkStatus(); };
  absl::Status status;
  for (int step = 0; step <= absl::GetFlag(FLAGS_steps); ++step) {
    run.step = static_cast<uint64_t>(step) + 1;
    meeting.arrive_and_wait();
    const SteadyClock::time_point begin = SteadyClock::now();
    if (status.ok()) status = executor.Run(plan.training, run);
    meeting.arrive_and_wait();
    if (rank == 0 && step > 0) seconds->push_back(std::chrono::duration<double>(SteadyClock::now() - begin).count());
  }
  return status;
}

absl::Status Measure(int stages, int micro_batches, v1::ParallelSpec::Schedule schedule,
                     const std::shared_ptr<GlooDevice>& device, const std::string& corpus) {
  const v1::JobSpec spec = Spec(stages, micro_batches, schedule, corpus);
  const auto store = std::make_shared<FakeRendezvousStore>();
  std::barrier meeting(stages);
  std::vector<double> seconds;
  std::vector<absl::Status> statuses(static_cast<size_t>(stages));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < stages; ++rank) {
    threads.emplace_back(
        [&, rank] { statuses[static_cast<size_t>(rank)] = RunStage(spec, rank, device, store, meeting, &seconds); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) PENSTOCK_RETURN_IF_ERROR(status);
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double pass = absl::ToDoubleSeconds(absl::GetFlag(FLAGS_forward) + absl::GetFlag(FLAGS_backward));
  std::printf(
      "{\"schedule\": \"%s\", \"stages\": %d, \"micro_batches\": %d, \"step_seconds\": %.5f, \"bubble\": %.4f, "
      "\"ideal\": %.4f, \"excess\": %.4f}\n",
      ScheduleKindName(ScheduleKindOf(spec)), stages, micro_batches, median, median / (micro_batches * pass) - 1,
      static_cast<double>(stages - 1) / micro_batches, median / ((micro_batches + stages - 1) * pass) - 1);
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status Run() {
  const std::string corpus = (std::filesystem::temp_directory_path() / "penstock-bubble-corpus.txt").string();
  std::ofstream(corpus) << std::string(1 << 16, 'a');
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<GlooDevice> device, GlooDevice::Create("127.0.0.1"));
  for (const auto schedule : {v1::ParallelSpec::SCHEDULE_1F1B, v1::ParallelSpec::SCHEDULE_GPIPE}) {
    for (const auto& [stages, micro_batches] : {std::pair(2, 4), std::pair(2, 8), std::pair(4, 8), std::pair(4, 16)}) {
      PENSTOCK_RETURN_IF_ERROR(Measure(stages, micro_batches, schedule, device, corpus));
    }
  }
  std::filesystem::remove(corpus);
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = penstock::Run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
