// Times a whole model's forward and backward pass in one process and prints one JSON line.
//
//   bazel run //worker/model:stage_model_benchmark -- --layers 4 --hidden 256 --heads 4 --seq_length 128 --vocab_size
//   256
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "core/base/status_macros.h"
#include "worker/model/testing/local_pipeline.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/cpu/passive_threads.h"
#include "worker/ops/testing/numeric.h"

ABSL_FLAG(uint32_t, layers, 4, "transformer layers");
ABSL_FLAG(uint32_t, hidden, 256, "width of the residual stream");
ABSL_FLAG(uint32_t, heads, 4, "attention heads");
ABSL_FLAG(uint32_t, seq_length, 128, "tokens in a sample");
ABSL_FLAG(uint32_t, vocab_size, 256, "vocabulary");
ABSL_FLAG(int64_t, micro_batch_size, 4, "samples in a micro-batch");
ABSL_FLAG(int, micro_batches, 1, "micro-batches in a step");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(int, steps, 7, "timed steps, after two that aren't");

namespace penstock {
namespace {

constexpr int kWarmupSteps = 2;

absl::Status Run() {
  v1::ModelSpec spec;
  spec.set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.set_layers(absl::GetFlag(FLAGS_layers));
  spec.set_hidden(absl::GetFlag(FLAGS_hidden));
  spec.set_heads(absl::GetFlag(FLAGS_heads));
  spec.set_seq_length(absl::GetFlag(FLAGS_seq_length));
  spec.set_vocab_size(absl::GetFlag(FLAGS_vocab_size));
  spec.set_mlp_hidden(4 * spec.hidden());
  spec.set_init_std(0.02);
  spec.set_layer_norm_epsilon(1e-5);
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec));
  PENSTOCK_ASSIGN_OR_RETURN(const auto backend, CreateCpuBackend({.threads = absl::GetFlag(FLAGS_threads)}));
  const int64_t samples = absl::GetFlag(FLAGS_micro_batch_size) * absl::GetFlag(FLAGS_micro_batches);
  const int64_t tokens_per_step = samples * spec.seq_length();
  PENSTOCK_ASSIGN_OR_RETURN(const auto pipeline,
                            LocalPipeline::Create(spec, table,
                                                  {.stages = {{0, static_cast<int>(table.blocks().size())}},
                                                   .micro_batch_size = absl::GetFlag(FLAGS_micro_batch_size)},
                                                  backend.get()));
  pipeline->SetWeights(ToFloats(RandomValues(table.size(), 1, 0.05)));
  const auto tokens = RandomTokens(tokens_per_step, spec.vocab_size(), 2);
  const auto targets = RandomTokens(tokens_per_step, spec.vocab_size(), 3);

  std::vector<double> seconds;
  for (int step = 0; step < kWarmupSteps + absl::GetFlag(FLAGS_steps); ++step) {
    const auto start = std::chrono::steady_clock::now();
    PENSTOCK_RETURN_IF_ERROR(pipeline->Step(tokens, targets).status());
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (step >= kWarmupSteps) seconds.push_back(elapsed.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"backend\": \"%s\", \"parameters\": %lld, \"step_ms\": %.1f, \"step_ms_min\": %.1f, \"step_ms_max\": %.1f, "
      "\"tokens_per_second\": %.1f}\n",
      backend->Describe().c_str(), static_cast<long long>(table.size()), median * 1e3, seconds.front() * 1e3,
      seconds.back() * 1e3, static_cast<double>(tokens_per_step) / median);
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  penstock::MakeWaitingThreadsSleep(argv);
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = penstock::Run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
