#include "worker/runtime/rate_probe.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"

namespace penstock {
namespace {

// Widths between which the planner interpolates. The widest is where products have reached their full speed.
struct Width {
  uint32_t hidden;
  // Tokens of a run: enough for the products' full speed, few enough for the run to be short.
  uint32_t rows;
  int runs;
};
constexpr Width kWidths[] = {{32, 256, 5}, {64, 256, 5}, {128, 256, 4}, {256, 256, 3}, {512, 128, 3}};
constexpr uint32_t kHeadDim = 32;
// The same rows as many short samples and as few long ones: the difference is attention's.
constexpr uint32_t kShortSeq = 32;
constexpr uint32_t kLongSeq = 128;
constexpr Width kHead = {256, 256, 3};
constexpr uint32_t kHeadVocab = 2048;
// Far more than caches close to a core hold.
constexpr int64_t kCopyBytes = int64_t{24} << 20;
constexpr int kCopyRuns = 3;
// Attention is never taken for faster than this share of the time of its layer allows: a difference of two times that
// are nearly the same says little.
constexpr double kAttentionShareMin = 0.01;

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Wall time; of a single thread its processor time, which is the same but for those that took the core away meanwhile:
// the workers of a machine all start at once.
template <typename Run>
double SecondsOf(int threads, const Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  const double used = ThreadSeconds();
  run();
  if (threads == 1) return ThreadSeconds() - used;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

v1::ModelSpec Model(uint32_t hidden, uint32_t seq_length, uint32_t vocab_size) {
  v1::ModelSpec model;
  model.set_family(v1::ModelSpec::FAMILY_GPT2);
  // The middle one has neither embedding nor head beside it.
  model.set_layers(3);
  model.set_hidden(hidden);
  model.set_heads(std::max(1u, hidden / kHeadDim));
  model.set_seq_length(seq_length);
  model.set_vocab_size(vocab_size);
  model.set_mlp_hidden(4 * hidden);
  model.set_init_std(0.02);
  model.set_layer_norm_epsilon(1e-5);
  return model;
}

struct Probe {
  DataType type = DataType::kFloat32;
  int threads = 1;
  Backend* backend = nullptr;
};

struct PassSeconds {
  double forward = std::numeric_limits<double>::infinity();
  double backward = std::numeric_limits<double>::infinity();
};

// Best times of one block's passes over `rows` tokens.
absl::StatusOr<PassSeconds> TimeBlock(const v1::ModelSpec& spec, int block, uint32_t rows, int runs,
                                      const Probe& probe) {
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec));
  const bool last = block + 1 == static_cast<int>(table.blocks().size());
  MemoryPlan plan;
  StageOptions options;
  options.blocks = {block, block + 1};
  options.micro_batch_size = rows / spec.seq_length();
  options.type = probe.type;
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<StageModel> model,
                            CreateStageModel(spec, table, options, probe.backend, &plan));
  const RegionId input = plan.Add(MemoryClass::kCommunication, "input", model->boundary_bytes());
  const RegionId output = plan.Add(MemoryClass::kCommunication, "output", model->boundary_bytes());
  PENSTOCK_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate(plan, probe.backend));
  model->Bind(arena);
  const std::vector<int32_t> targets(last ? rows : 0, 1);
  ForwardArgs args;
  args.targets = targets;
  args.input = arena.Bytes(input);
  if (!last) args.output = arena.Bytes(output);
  PassSeconds best;
  absl::Status status;
  for (int run = 0; run < runs && status.ok(); ++run) {
    best.forward = std::min(best.forward, SecondsOf(probe.threads, [&] {
                              status.Update(model->Forward(0, args).status());
                              status.Update(probe.backend->Synchronize({}));
                            }));
    best.backward = std::min(best.backward, SecondsOf(probe.threads, [&] {
                               status.Update(model->Backward(0, args.output, arena.Bytes(input)));
                               status.Update(probe.backend->Synchronize({}));
                             }));
  }
  PENSTOCK_RETURN_IF_ERROR(status);
  return best;
}

// FLOPs of a layer's forward pass over `rows` tokens that the parameter table counts beyond its products with weights.
struct LayerFlops {
  double linear = 0;
  double attention = 0;
};
absl::StatusOr<LayerFlops> FlopsOf(const v1::ModelSpec& spec, uint32_t rows) {
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec));
  const Block& layer = table.blocks()[2];
  LayerFlops flops;
  for (int i = layer.first_parameter; i < layer.last_parameter; ++i) {
    const Parameter& parameter = table.parameters()[static_cast<size_t>(i)];
    if (parameter.decay) flops.linear += 2.0 * static_cast<double>(parameter.size()) * rows;
  }
  flops.attention = layer.forward_flops_per_sample * rows / spec.seq_length() - flops.linear;
  return flops;
}

// Two times of the same products with less and with more attention, taken apart.
void Separate(double short_seconds, double long_seconds, const LayerFlops& shorter, const LayerFlops& longer,
              double* linear_rate, double* attention_rate) {
  const double extra = std::max(long_seconds - short_seconds, kAttentionShareMin * short_seconds);
  *attention_rate = (longer.attention - shorter.attention) / extra;
  const double linear_seconds = std::max(short_seconds - shorter.attention / *attention_rate, short_seconds / 2);
  *linear_rate = longer.linear / linear_seconds;
}

absl::Status MeasureLayer(const Width& width, const Probe& probe, v1::ComputeRates* rates) {
  const v1::ModelSpec short_model = Model(width.hidden, kShortSeq, 64);
  const v1::ModelSpec long_model = Model(width.hidden, kLongSeq, 64);
  PENSTOCK_ASSIGN_OR_RETURN(const PassSeconds shorter, TimeBlock(short_model, 2, width.rows, width.runs, probe));
  PENSTOCK_ASSIGN_OR_RETURN(const PassSeconds longer, TimeBlock(long_model, 2, width.rows, width.runs, probe));
  PENSTOCK_ASSIGN_OR_RETURN(const LayerFlops short_flops, FlopsOf(short_model, width.rows));
  PENSTOCK_ASSIGN_OR_RETURN(const LayerFlops long_flops, FlopsOf(long_model, width.rows));
  // A backward pass has twice a forward pass's products of both kinds.
  const auto twice = [](const LayerFlops& flops) { return LayerFlops{2 * flops.linear, 2 * flops.attention}; };
  v1::ComputeRates::LayerRate& rate = *rates->add_layers();
  rate.set_hidden(width.hidden);
  double linear = 0;
  double attention = 0;
  Separate(shorter.forward, longer.forward, short_flops, long_flops, &linear, &attention);
  rate.set_forward_flops_per_second(linear);
  rate.set_attention_forward_flops_per_second(attention);
  Separate(shorter.backward, longer.backward, twice(short_flops), twice(long_flops), &linear, &attention);
  rate.set_backward_flops_per_second(linear);
  rate.set_attention_backward_flops_per_second(attention);
  return absl::OkStatus();
}

absl::Status MeasureHead(const Probe& probe, v1::ComputeRates* rates) {
  const v1::ModelSpec model = Model(kHead.hidden, kLongSeq, kHeadVocab);
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(model));
  const int head = static_cast<int>(table.blocks().size()) - 1;
  PENSTOCK_ASSIGN_OR_RETURN(const PassSeconds seconds, TimeBlock(model, head, kHead.rows, kHead.runs, probe));
  const Block& block = table.blocks()[static_cast<size_t>(head)];
  const double flops =
      (block.forward_flops_per_sample + block.backward_flops_per_sample) * kHead.rows / model.seq_length();
  rates->set_head_flops_per_second(flops / (seconds.forward + seconds.backward));
  return absl::OkStatus();
}

absl::Status MeasureMemory(int threads, Backend* backend, v1::WorkerRates* rates) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> from, backend->Allocate(kCopyBytes));
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMemory> to, backend->Allocate(kCopyBytes));
  double best = std::numeric_limits<double>::infinity();
  absl::Status status;
  for (int run = 0; run < kCopyRuns && status.ok(); ++run) {
    best = std::min(best, SecondsOf(threads, [&] {
                      status.Update(backend->Copy({}, from->data(), to->data(), kCopyBytes));
                      status.Update(backend->Synchronize({}));
                    }));
  }
  PENSTOCK_RETURN_IF_ERROR(status);
  rates->set_memory_bytes_per_second(2.0 * static_cast<double>(kCopyBytes) / best);
  return absl::OkStatus();
}

absl::Status MeasureCompute(const Probe& probe, v1::ComputeRates* rates) {
  for (const Width& width : kWidths) PENSTOCK_RETURN_IF_ERROR(MeasureLayer(width, probe, rates));
  return MeasureHead(probe, rates);
}

absl::Status Measure(int threads, Backend* backend, v1::WorkerRates* rates) {
  PENSTOCK_RETURN_IF_ERROR(MeasureCompute({DataType::kFloat32, threads, backend}, rates->mutable_fp32()));
  PENSTOCK_RETURN_IF_ERROR(MeasureCompute({DataType::kBfloat16, threads, backend}, rates->mutable_bf16()));
  return MeasureMemory(threads, backend, rates);
}

}  // namespace

absl::StatusOr<v1::WorkerRates> MeasureRates(int threads,
                                             const std::function<absl::StatusOr<std::unique_ptr<Backend>>()>& create) {
  v1::WorkerRates rates;
  absl::Status status;
  std::thread measuring([&] {
    absl::StatusOr<std::unique_ptr<Backend>> backend = create();
    status = backend.ok() ? Measure(threads, backend->get(), &rates) : backend.status();
  });
  measuring.join();
  PENSTOCK_RETURN_IF_ERROR(status);
  return rates;
}

}  // namespace penstock
