// Times whole training steps of one rank in one process (a stage with all blocks, the gradient's norm, AdamW), as
// `zero: {placement: local, mirror: off}` runs them, and prints one JSON line. train_step_vs_torch.py runs it beside
// PyTorch.
//
//   bazel run -c opt //tests/bench:train_step -- --precision bf16
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/optimizer/adamw.h"
#include "tests/bench/bench_stats.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/cpu/passive_threads.h"

ABSL_FLAG(uint32_t, layers, 12, "transformer layers");
ABSL_FLAG(uint32_t, hidden, 768, "width of the residual stream");
ABSL_FLAG(uint32_t, heads, 12, "attention heads");
ABSL_FLAG(uint32_t, seq, 256, "tokens in a sample");
ABSL_FLAG(uint32_t, vocab, 50257, "vocabulary");
ABSL_FLAG(int64_t, batch, 4, "samples in a micro-batch");
ABSL_FLAG(int, micro_batches, 1, "micro-batches in a step");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(int, steps, 7, "timed steps, after two that aren't");
ABSL_FLAG(std::string, precision, "fp32", "fp32 or bf16");

namespace penstock {
namespace {

constexpr int kWarmupSteps = 2;

// Fixed numbers of about the size of initial weights.
float Noise(size_t i) {
  const uint64_t mixed = (i + 1) * 0x9E3779B97F4A7C15ULL;
  return (static_cast<float>(mixed >> 40) * 0x1p-24F - 0.5F) * 0.07F;
}

class Trainer {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const v1::ModelSpec& spec, DataType type, int threads);

  // One step on tokens and targets (micro-batches, B, T); returns the mean loss.
  absl::StatusOr<double> Step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets);
  const ParameterTable& table() const { return table_; }
  std::string Describe() const { return backend_->Describe() + "; " + memory_.Describe(); }
  // Seconds of the last step: passes, norm, update.
  const std::array<double, 3>& seconds() const { return seconds_; }

 private:
  // The gradients, weights in the type of the model, and fp32 state of one stretch of parameters.
  struct Stretch {
    std::span<float> gradient;
    std::span<std::byte> weights;
    std::vector<float> master, exp_avg, exp_avg_sq;  // master is empty in fp32: the weights are it
  };

  Trainer(const ParameterTable& table, DataType type, int threads) : table_(table), type_(type), threads_(threads) {}
  void AddStretch(std::span<float> gradient, std::span<std::byte> weights, size_t offset);
  absl::StatusOr<double> SquareSum() const;
  absl::Status Update(const AdamWParams& params);

  const ParameterTable table_;
  const DataType type_;
  const int threads_;
  std::unique_ptr<Backend> backend_;
  MemoryPlan memory_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<StageModel> model_;
  std::vector<Stretch> stretches_;
  int step_ = 0;
  std::array<double, 3> seconds_{};
};

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const v1::ModelSpec& spec, DataType type, int threads) {
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec));
  std::unique_ptr<Trainer> trainer(new Trainer(table, type, threads));
  PENSTOCK_ASSIGN_OR_RETURN(trainer->backend_, CreateCpuBackend({.threads = threads}));
  const BlockRange all = {0, static_cast<int>(table.blocks().size())};
  PENSTOCK_ASSIGN_OR_RETURN(
      trainer->model_,
      CreateStageModel(spec, table, {.blocks = all, .micro_batch_size = absl::GetFlag(FLAGS_batch), .type = type},
                       trainer->backend_.get(), &trainer->memory_));
  PENSTOCK_ASSIGN_OR_RETURN(Arena arena, Arena::Allocate(trainer->memory_, trainer->backend_.get()));
  trainer->arena_ = std::make_unique<Arena>(std::move(arena));
  StageModel& model = *trainer->model_;
  model.Bind(*trainer->arena_);
  trainer->AddStretch(model.TiedGradients(TiedUse::kHead), model.TiedWeights(), 0);
  trainer->AddStretch(model.UntiedGradients(), model.UntiedWeights(), trainer->stretches_[0].gradient.size());
  return trainer;
}

void Trainer::AddStretch(std::span<float> gradient, std::span<std::byte> weights, size_t offset) {
  Stretch stretch = {.gradient = gradient, .weights = weights, .master = {}, .exp_avg = {}, .exp_avg_sq = {}};
  const size_t size = gradient.size();
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = Noise(offset + i);
  stretch.exp_avg.resize(size);
  stretch.exp_avg_sq.resize(size);
  if (type_ == DataType::kBfloat16) {
    ToBfloat16(values, {reinterpret_cast<Bfloat16*>(weights.data()), size});
    stretch.master = std::move(values);
  } else {
    std::copy(values.begin(), values.end(), reinterpret_cast<float*>(weights.data()));
  }
  stretches_.push_back(std::move(stretch));
}

// Piece by piece, as the parameter service and the ranks take the norm.
absl::StatusOr<double> Trainer::SquareSum() const {
  constexpr size_t kPiece = static_cast<size_t>(kPieceElements);
  std::vector<std::span<const float>> pieces;
  for (const Stretch& stretch : stretches_) {
    const size_t size = stretch.gradient.size();
    for (size_t begin = 0; begin < size; begin += kPiece) {
      pieces.push_back(stretch.gradient.subspan(begin, std::min(kPiece, size - begin)));
    }
  }
  std::vector<double> sums(pieces.size());
  PENSTOCK_RETURN_IF_ERROR(backend_->SquareSums({}, pieces, sums.data()));
  PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

absl::Status Trainer::Update(const AdamWParams& params) {
  for (Stretch& stretch : stretches_) {
    const size_t size = stretch.gradient.size();
    const bool rounds = type_ == DataType::kBfloat16;
    const std::span<float> weights(rounds ? stretch.master.data() : reinterpret_cast<float*>(stretch.weights.data()),
                                   size);
    const std::span<Bfloat16> rounded(reinterpret_cast<Bfloat16*>(stretch.weights.data()), rounds ? size : 0);
    PENSTOCK_RETURN_IF_ERROR(
        backend_->AdamW({}, params, stretch.gradient, weights, stretch.exp_avg, stretch.exp_avg_sq, rounded));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Trainer::Step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  model_->ZeroGradients();
  const size_t size = static_cast<size_t>(model_->tokens_per_micro_batch());
  LossSum loss;
  for (size_t at = 0; at < tokens.size(); at += size) {
    PENSTOCK_ASSIGN_OR_RETURN(const LossSum part, model_->Forward(0, {.tokens = std::span(tokens).subspan(at, size),
                                                                      .targets = std::span(targets).subspan(at, size),
                                                                      .input = {},
                                                                      .output = {},
                                                                      .training = true}));
    PENSTOCK_RETURN_IF_ERROR(model_->Backward(0, {}, {}));
    loss.loss += part.loss;
    loss.target_count += part.target_count;
  }
  const auto passed = Clock::now();
  // Head part += embedding part: the same sum as the other way round.
  const std::span<const float> embedding = model_->TiedGradients(TiedUse::kEmbedding);
  float* const head = stretches_[0].gradient.data();
#pragma omp parallel for num_threads(threads_) schedule(static)
  for (size_t i = 0; i < embedding.size(); ++i) head[i] += embedding[i];
  PENSTOCK_ASSIGN_OR_RETURN(const double square_sum, SquareSum());
  const double norm = std::sqrt(square_sum) / static_cast<double>(loss.target_count);
  const auto measured = Clock::now();
  ++step_;
  AdamWParams params{.learning_rate = 1e-4F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-8F, .weight_decay = 0.1F};
  params.gradient_scale = static_cast<float>((norm > 1 ? 1 / norm : 1.0) / static_cast<double>(loss.target_count));
  params.bias_correction1 = static_cast<float>(1 / (1 - std::pow(0.9, step_)));
  params.bias_correction2 = static_cast<float>(1 / (1 - std::pow(0.999, step_)));
  PENSTOCK_RETURN_IF_ERROR(Update(params));
  const auto updated = Clock::now();
  const auto between = [](auto a, auto b) { return std::chrono::duration<double>(b - a).count(); };
  seconds_ = {between(start, passed), between(passed, measured), between(measured, updated)};
  return loss.loss / static_cast<double>(loss.target_count);
}

absl::Status Run() {
  const std::string precision = absl::GetFlag(FLAGS_precision);
  if (precision != "fp32" && precision != "bf16") return absl::InvalidArgumentError("--precision is fp32 or bf16");
  v1::ModelSpec spec;
  spec.set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.set_layers(absl::GetFlag(FLAGS_layers));
  spec.set_hidden(absl::GetFlag(FLAGS_hidden));
  spec.set_heads(absl::GetFlag(FLAGS_heads));
  spec.set_seq_length(absl::GetFlag(FLAGS_seq));
  spec.set_vocab_size(absl::GetFlag(FLAGS_vocab));
  spec.set_mlp_hidden(4 * spec.hidden());
  spec.set_init_std(0.02);
  spec.set_layer_norm_epsilon(1e-5);
  PENSTOCK_ASSIGN_OR_RETURN(const auto trainer,
                            Trainer::Create(spec, precision == "bf16" ? DataType::kBfloat16 : DataType::kFloat32,
                                            absl::GetFlag(FLAGS_threads)));
  const size_t count = static_cast<size_t>(absl::GetFlag(FLAGS_batch) * absl::GetFlag(FLAGS_micro_batches)) *
                       static_cast<size_t>(spec.seq_length());
  std::vector<int32_t> tokens(count), targets(count);
  for (size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<int32_t>((i * 7919 + i * i % 97) % spec.vocab_size());
    targets[i] = static_cast<int32_t>((i * 104729 + 13) % spec.vocab_size());
  }
  std::vector<double> steps, passes, norms, updates;
  double loss = 0;
  for (int step = 0; step < kWarmupSteps + absl::GetFlag(FLAGS_steps); ++step) {
    PENSTOCK_ASSIGN_OR_RETURN(loss, trainer->Step(tokens, targets));
    if (step < kWarmupSteps) continue;
    const auto& seconds = trainer->seconds();
    steps.push_back(seconds[0] + seconds[1] + seconds[2]);
    passes.push_back(seconds[0]);
    norms.push_back(seconds[1]);
    updates.push_back(seconds[2]);
  }
  std::fprintf(stderr, "%s\n", trainer->Describe().c_str());
  std::printf(
      "{\"precision\": \"%s\", \"threads\": %d, \"parameters\": %lld, \"loss\": %.4f, \"step_ms\": %.1f, "
      "\"step_ms_min\": %.1f, \"step_ms_max\": %.1f, \"passes_ms\": %.1f, \"norm_ms\": %.1f, \"update_ms\": %.1f, "
      "\"tokens_per_second\": %.1f}\n",
      precision.c_str(), absl::GetFlag(FLAGS_threads), static_cast<long long>(trainer->table().size()), loss,
      Median(steps) * 1e3, *std::min_element(steps.begin(), steps.end()) * 1e3,
      *std::max_element(steps.begin(), steps.end()) * 1e3, Median(passes) * 1e3, Median(norms) * 1e3,
      Median(updates) * 1e3, static_cast<double>(count) / Median(steps));
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
