#include "core/plan/memory_model.h"

#include <algorithm>
#include <numeric>

#include "core/base/status_macros.h"
#include "core/layout/norm_plan.h"
#include "core/model/head_rows.h"
#include "core/plan/job_facts.h"
#include "core/plan/rank_parameters.h"
#include "core/schedule/message_buffers.h"
#include "core/schedule/schedule.h"

namespace penstock {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

struct StageFacts {
  // Micro-batches in flight, and messages on their way.
  int slots = 1;
  int messages = 0;
};

class MemoryModel {
 public:
  MemoryModel(const v1::JobSpec& spec, const ParameterTable& table, const Mesh& mesh)
      : spec_(spec),
        table_(table),
        mesh_(mesh),
        samples_(spec.training().micro_batch_size()),
        rows_(samples_ * spec.model().seq_length()),
        element_bytes_(BytesOf(ComputeType(spec))),
        boundary_elements_(samples_ * table.blocks()[0].boundary_elements_per_sample),
        boundary_bytes_(RegionBytes(element_bytes_ * boundary_elements_)) {}

  // `updated`: elements that the rank updates itself; `assembles`: it puts pieces of the norm together.
  RankMemory OfRank(const StageFacts& facts, const RankParameters& rank, int64_t updated, bool assembles) const {
    const StageParameters& parameters = rank.held;
    const OwnedRanges& owned = rank.owned;
    RankMemory memory;
    const int64_t untied = Floats(parameters.untied.size());
    const int64_t tied = Floats(parameters.tied.size());
    memory[MemoryClass::kParameter] =
        RegionBytes(element_bytes_ * parameters.untied.size()) + RegionBytes(element_bytes_ * parameters.tied.size());
    const int tied_uses = (parameters.first ? 1 : 0) + (parameters.last ? 1 : 0);
    memory[MemoryClass::kGradient] = untied + tied_uses * tied;
    if (spec_.parallel().zero().stage() == 2) {
      memory[MemoryClass::kGradient] = Floats(LargestBucket(table_, parameters));
      // What is pushed, and the head's part of the tied gradient.
      const int64_t pushed = Floats(owned.untied.size()) + (parameters.first ? Floats(owned.tied.size()) : 0);
      const int64_t sums = GradientSums(spec_) * pushed + (parameters.last ? Floats(owned.tied.size()) : 0);
      (OffloadsGradients(spec_) ? memory.host_bytes : memory[MemoryClass::kGradient]) += sums;
    }
    // Both moments, and the master weights.
    const int64_t optimizer = (HoldsMasterWeights(spec_) ? 3 : 2) * Floats(updated);
    if (IsOffloaded(spec_)) {
      memory.host_bytes += optimizer + OffloadRunsBytes(updated);
    } else {
      memory[MemoryClass::kOptimizer] = optimizer;
    }
    memory[MemoryClass::kActivation] = facts.slots * SlotBytes(parameters.blocks);
    memory[MemoryClass::kCommunication] = facts.messages * boundary_bytes_;
    // The last stage's part of the tied gradient, and the piece of the norm.
    int64_t& beside = OffloadsGradients(spec_) ? memory.host_bytes : memory[MemoryClass::kCommunication];
    if (mesh_.pipeline() > 1 && parameters.first) beside += Floats(owned.tied.size());
    if (assembles) beside += Floats(kPieceElements);
    const int64_t mirrored = GradientSums(spec_) > 1 ? 0 : spec_.parallel().zero().mirror_lag() * Floats(updated);
    if (OnGpus(spec_)) {
      memory.host_bytes += mirrored + RegionBytes(StagedBytes(spec_, parameters, owned, updated));
    } else {
      memory[MemoryClass::kCommunication] += mirrored;
    }
    memory[MemoryClass::kWorkspace] = ScratchBytes(parameters);
    if (OnGpus(spec_)) memory[MemoryClass::kWorkspace] += GpuScratchBytes(parameters);
    return memory;
  }

 private:
  static int64_t Floats(int64_t elements) { return RegionBytes(kFloatBytes * elements); }

  // Of bytes in fp32, of which `wide` have that type in any case.
  int64_t Typed(int64_t bytes, int64_t wide) const { return wide + (bytes - wide) / kFloatBytes * element_bytes_; }

  int64_t Divided(int64_t whole, int64_t split) const { return whole - split + split / mesh_.tensor(); }

  int64_t SlotBytes(const BlockRange& blocks) const {
    int64_t bytes = 0;
    int64_t tokens = 0;
    for (int i = blocks.begin; i < blocks.end; ++i) {
      const Block& block = table_.blocks()[static_cast<size_t>(i)];
      const int64_t block_bytes =
          samples_ *
          Divided(Typed(block.activation_bytes_per_sample, block.wide_activation_bytes_per_sample),
                  Typed(block.split_activation_bytes_per_sample, block.split_wide_activation_bytes_per_sample));
      // The embedding keeps its tokens, beside the floats.
      (block.kind == BlockKind::kEmbedding ? tokens : bytes) += RegionBytes(block_bytes);
    }
    return std::max(bytes, boundary_bytes_) + tokens;
  }

  // Of a micro-batch, on this tensor rank.
  int64_t ScratchOf(const Block& block) const {
    if (block.kind == BlockKind::kHead) return LogitsBytes();
    return samples_ * Typed(block.scratch_bytes_per_sample, 0) / mesh_.tensor();
  }

  // On a CPU they are fp32 whatever the rest is.
  int64_t LogitsBytes() const {
    const bool gpu = OnGpus(spec_);
    const int64_t rows = std::min(rows_, HeadRowsMax(gpu));
    const int64_t columns = (static_cast<int64_t>(spec_.model().vocab_size()) + mesh_.tensor() - 1) / mesh_.tensor();
    return gpu ? rows * GpuLogitsPitch(columns) * element_bytes_ : rows * columns * kFloatBytes;
  }

  int64_t ScratchBytes(const StageParameters& parameters) const {
    int64_t wide = 0;
    for (int i = parameters.blocks.begin; i < parameters.blocks.end; ++i) {
      wide = std::max(wide, ScratchOf(table_.blocks()[static_cast<size_t>(i)]));
    }
    // One boundary tensor between operations, and on the first stage one for the gradient of its input.
    // Sums over the tensor group are fp32.
    const int64_t sums = mesh_.tensor() > 1 && element_bytes_ < kFloatBytes ? Floats(boundary_elements_) : 0;
    return boundary_bytes_ * (parameters.first ? 2 : 1) + RegionBytes(wide) + sums;
  }

  // What the products take, and targets, which the host hands over.
  int64_t GpuScratchBytes(const StageParameters& parameters) const {
    const int64_t targets = parameters.last ? RegionBytes(rows_ * static_cast<int64_t>(sizeof(int32_t))) : 0;
    return kGpuProductBytes + targets;
  }

  // Gradients that are on the device, and weights that are rounded.
  int64_t OffloadRunsBytes(int64_t updated) const {
    const int64_t run = std::min(updated, kOffloadRunElements);
    const int64_t gradients = OffloadsGradients(spec_) ? 0 : Floats(run);
    const int64_t rounded = element_bytes_ < kFloatBytes ? RegionBytes(element_bytes_ * run) : 0;
    return kOffloadRuns * (gradients + rounded);
  }

  const v1::JobSpec& spec_;
  const ParameterTable& table_;
  const Mesh& mesh_;
  const int64_t samples_;
  const int64_t rows_;
  const int64_t element_bytes_;
  const int64_t boundary_elements_;
  const int64_t boundary_bytes_;
};

int Messages(const std::vector<Instruction>& training, const std::vector<Instruction>& validation) {
  int buffers = 0;
  for (const Op op : {Op::kRecvActivation, Op::kRecvGradient}) {
    buffers += std::max(RecvBuffersFor(training, op), RecvBuffersFor(validation, op));
  }
  for (const Op op : {Op::kSendActivation, Op::kSendGradient}) {
    buffers += std::max(SendBuffersFor(training, op), SendBuffersFor(validation, op));
  }
  return buffers;
}

}  // namespace

int64_t StagedBytes(const v1::JobSpec& spec, const StageParameters& parameters, const OwnedRanges& owned,
                    int64_t updated) {
  const int64_t element_bytes = BytesOf(ComputeType(spec));
  int64_t bytes = element_bytes * owned.size();
  if (UpdatesLocally(spec)) {
    // The optimizer's state, but where it is on the host; what is published has the weights beside it.
    if (IsOffloaded(spec)) return std::min(bytes, kStagedBytesMax);
    const bool three = HoldsMasterWeights(spec) || IsPublished(spec);
    bytes = std::max(bytes, (three ? 3 : 2) * kFloatBytes * updated);
  } else {
    bytes = std::max(bytes, kFloatBytes * (owned.untied.size() + (parameters.first ? owned.tied.size() : 0)));
  }
  return std::min(bytes, kStagedBytesMax);
}

int64_t RankMemory::total() const { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

absl::StatusOr<std::vector<RankMemory>> MemoryOfRanks(const v1::JobSpec& spec, const ParameterTable& table,
                                                      const std::vector<BlockRange>& stages, const Mesh& mesh) {
  const int micro_batches = MicroBatches(spec);
  PENSTOCK_ASSIGN_OR_RETURN(const Schedule training,
                            BuildSchedule(ScheduleKindOf(spec), mesh.pipeline(), micro_batches));
  // A validation has whole global batches, so as many micro-batches at least.
  PENSTOCK_ASSIGN_OR_RETURN(const Schedule validation,
                            BuildSchedule(ScheduleKind::kForwardOnly, mesh.pipeline(), micro_batches));
  const MemoryModel model(spec, table, mesh);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<RankParameters> parameters,
                            ParametersOfRanks(table, stages, mesh, static_cast<int>(spec.parallel().zero().stage())));
  std::vector<std::vector<ElementRange>> updated(parameters.size());
  std::vector<NormPiece> pieces;
  if (UpdatesLocally(spec)) {
    updated = UpdatedRanges(parameters);
    PENSTOCK_ASSIGN_OR_RETURN(pieces, PlanNorm(table.size(), updated));
  }
  std::vector<StageFacts> facts;
  for (int stage = 0; stage < mesh.pipeline(); ++stage) {
    const size_t index = static_cast<size_t>(stage);
    facts.push_back({PeakActivations(training, stage), Messages(training[index], validation[index])});
  }
  std::vector<RankMemory> ranks;
  for (int rank = 0; rank < mesh.size(); ++rank) {
    const size_t index = static_cast<size_t>(rank);
    const std::vector<ElementRange>& mine = updated[index];
    ranks.push_back(model.OfRank(facts[static_cast<size_t>(mesh.CoordinatesOf(rank).stage)], parameters[index],
                                 TotalSize(mine), AssemblesPieces(pieces, rank, mine)));
  }
  return ranks;
}

}  // namespace penstock
