#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/model/model_rules.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_checker.h"
#include "core/plan/job_limits.h"

namespace penstock {
namespace {

// The multiples of `unit` around `value`: "24 or 32".
std::string MultiplesAround(uint64_t value, uint64_t unit) {
  const uint64_t below = value / unit * unit;
  return below == 0 ? absl::StrCat(unit) : absl::StrCat(below, " or ", below + unit);
}

// Of `value`; 1 at worst.
uint32_t LargestDivisorBelow(uint64_t value, uint32_t limit) {
  uint32_t divisor = limit - 1;
  while (value % divisor != 0) --divisor;
  return divisor;
}

void CheckBatch(const v1::JobSpec& spec, Violations* violations) {
  const v1::TrainingSpec& training = spec.training();
  const uint64_t unit = uint64_t{spec.parallel().data()} * training.micro_batch_size();
  const uint64_t batch = training.global_batch_size();
  if (batch % unit != 0) {
    violations->Add(
        "training.global_batch_size",
        absl::StrCat("is ", batch, ", which is not a multiple of data ", spec.parallel().data(), " x micro_batch_size ",
                     training.micro_batch_size(), " = ", unit, "; use ", MultiplesAround(batch, unit)));
    return;
  }
  const uint64_t cells = batch / unit * spec.parallel().pipeline();
  if (cells > kScheduleCellsMax) {
    violations->Add("training.micro_batch_size",
                    absl::StrCat("is ", training.micro_batch_size(), ", which makes ", batch / unit,
                                 " micro-batches for ", spec.parallel().pipeline(),
                                 " stages; stages x micro-batches must be "
                                 "at most ",
                                 kScheduleCellsMax, ": use a larger micro-batch"));
  }
}

void CheckWorkers(const v1::ParallelSpec& parallel, Violations* violations) {
  const uint64_t workers = uint64_t{parallel.data()} * parallel.pipeline() * parallel.tensor();
  if (workers <= kWorkersMax) return;
  const std::string tensor = parallel.tensor() > 1 ? absl::StrCat(" x tensor ", parallel.tensor()) : "";
  violations->Add("parallel",
                  absl::StrCat("asks for data ", parallel.data(), " x pipeline ", parallel.pipeline(), tensor, " = ",
                               workers, " workers; at most ", kWorkersMax, " are supported"));
}

// Whole heads and equal parts of the MLP for each tensor rank; of the vocabulary at least one token.
void CheckTensor(const v1::ModelSpec& model, uint32_t tensor, Violations* violations) {
  if (tensor <= 1) return;
  const auto check = [&](const char* field, uint64_t value) {
    if (value % tensor == 0) return true;
    const uint32_t fewer = LargestDivisorBelow(value, tensor);
    violations->Add("parallel.tensor",
                    absl::StrCat("is ", tensor, ", which doesn't divide model.", field, " ", value, "; use tensor ",
                                 fewer, ", or ", field, " ", MultiplesAround(value, tensor)));
    return false;
  };
  if (!check("heads", model.heads()) || !check("mlp_hidden", model.mlp_hidden())) return;
  if (model.vocab_size() < tensor) {
    violations->Add("parallel.tensor",
                    absl::StrCat("is ", tensor, ", but model.vocab_size is ", model.vocab_size(),
                                 ": each tensor rank needs a token; use at most ", model.vocab_size()));
  }
}

void CheckActivations(const v1::JobSpec& spec, Violations* violations) {
  const auto table = ParameterTable::Create(spec.model());
  if (!table.ok()) return;
  for (const Block& block : table->blocks()) {
    const double bytes = static_cast<double>(block.activation_bytes_per_sample + block.scratch_bytes_per_sample) *
                         spec.training().micro_batch_size();
    if (bytes <= kActivationBytesMax) continue;
    violations->Add(
        "training.micro_batch_size",
        absl::StrCat("is ", spec.training().micro_batch_size(), ", for which block ", block.name, " would keep ",
                     bytes / 0x1p40, " TiB of activations; at most ", kActivationBytesMax / 0x1p40,
                     " TiB are supported: use a smaller one, or a shorter model.seq_length"));
    return;
  }
}

void CheckZero(const v1::ZeroSpec& zero, Violations* violations) {
  if (zero.stage() > 2) {
    violations->Add("parallel.zero.stage", absl::StrCat("is ", zero.stage(), "; this version supports 0, 1 and 2"));
  }
  const bool local = zero.placement() == v1::ZeroSpec::PLACEMENT_LOCAL;
  if (!local && zero.placement() != v1::ZeroSpec::PLACEMENT_SERVICE &&
      zero.placement() != v1::ZeroSpec::PLACEMENT_AUTO) {
    violations->Add("parallel.zero.placement",
                    absl::StrCat("has the unknown value ", static_cast<int>(zero.placement()),
                                 "; this version knows: auto, service, local"));
  }
  if (!local) {
    const std::string only = "only means something with zero.placement: local; leave it out, or say so";
    if (zero.mirror() != v1::ZeroSpec::MIRROR_UNSPECIFIED) violations->Add("parallel.zero.mirror", only);
    if (zero.has_mirror_lag()) violations->Add("parallel.zero.mirror_lag", only);
    if (zero.offload() != v1::ZeroSpec::OFFLOAD_UNSPECIFIED) violations->Add("parallel.zero.offload", only);
    return;
  }
  if (zero.offload() != v1::ZeroSpec::OFFLOAD_NONE && zero.offload() != v1::ZeroSpec::OFFLOAD_HOST) {
    violations->Add("parallel.zero.offload", absl::StrCat("has the unknown value ", static_cast<int>(zero.offload()),
                                                          "; this version knows: none, host"));
  }
  if (zero.mirror() == v1::ZeroSpec::MIRROR_ON) {
    violations->CheckInteger("parallel.zero.mirror_lag", zero.mirror_lag(), 1, kMirrorLagMax);
  } else if (zero.mirror() != v1::ZeroSpec::MIRROR_OFF) {
    violations->Add("parallel.zero.mirror", absl::StrCat("has the unknown value ", static_cast<int>(zero.mirror()),
                                                         "; this version knows: on, off"));
  } else if (zero.has_mirror_lag()) {
    violations->Add("parallel.zero.mirror_lag", "means nothing with mirror: off; leave it out, or use mirror: on");
  }
}

}  // namespace

void CheckParallel(const v1::ParallelSpec& parallel, Violations* violations) {
  const bool data_ok = violations->CheckInteger("parallel.data", parallel.data(), 1, kDataDegreeMax);
  const bool pipeline_ok = violations->CheckInteger("parallel.pipeline", parallel.pipeline(), 1, kPipelineDegreeMax);
  const bool tensor_ok = violations->CheckInteger("parallel.tensor", parallel.tensor(), 1, kTensorDegreeMax);
  if (data_ok && pipeline_ok && tensor_ok) CheckWorkers(parallel, violations);
  if (parallel.schedule() != v1::ParallelSpec::SCHEDULE_GPIPE &&
      parallel.schedule() != v1::ParallelSpec::SCHEDULE_1F1B) {
    violations->Add("parallel.schedule", absl::StrCat("has the unknown value ", static_cast<int>(parallel.schedule()),
                                                      "; this version knows: gpipe, 1f1b"));
  }
  if (parallel.device() < v1::ParallelSpec::DEVICE_AUTO || parallel.device() > v1::ParallelSpec::DEVICE_CUDA) {
    violations->Add("parallel.device", absl::StrCat("has the unknown value ", static_cast<int>(parallel.device()),
                                                    "; this version knows: auto, cpu, cuda"));
  }
  CheckZero(parallel.zero(), violations);
  violations->CheckInteger("parallel.shards", parallel.shards(), 0, kShardsMax);
}

void CheckCombinations(const v1::JobSpec& spec, Violations* violations) {
  const bool parallel_ok = !violations->Has("parallel");
  const bool batch_ok = !violations->Has("training.global_batch_size") && !violations->Has("training.micro_batch_size");
  if (!AwaitsFolder(spec.model()) && !violations->Has("model.layers") && !violations->Has("parallel.pipeline") &&
      spec.parallel().pipeline() > spec.model().layers()) {
    violations->Add(
        "parallel.pipeline",
        absl::StrCat("is ", spec.parallel().pipeline(), ", but the model has ", spec.model().layers(),
                     " layers and each stage needs one; use at most ", spec.model().layers(), ", or more layers"));
  }
  if (!violations->Has("model") && !violations->Has("parallel.tensor")) {
    CheckTensor(spec.model(), spec.parallel().tensor(), violations);
  }
  if (parallel_ok && batch_ok) CheckBatch(spec, violations);
  if (!violations->Has("model") && batch_ok) CheckActivations(spec, violations);
  if (!violations->Has("training.steps") && spec.optimizer().schedule().warmup_steps() > spec.training().steps()) {
    violations->Add("optimizer.schedule.warmup_steps",
                    absl::StrCat("is ", spec.optimizer().schedule().warmup_steps(), ", more than the job's ",
                                 spec.training().steps(), " steps; use fewer"));
  }
}

}  // namespace penstock
