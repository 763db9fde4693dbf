#include "core/plan/fitting_change.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/plan/partition.h"

namespace penstock {
namespace {

struct Change {
  std::string text;
  v1::JobSpec spec;
};

// From the least to the most that it changes about a run.
std::vector<Change> ChangesOf(const v1::JobSpec& spec) {
  std::vector<Change> changes;
  if (spec.parallel().schedule() == v1::ParallelSpec::SCHEDULE_GPIPE && spec.parallel().pipeline() > 1) {
    changes.push_back({"parallel.schedule: 1f1b", spec});
    changes.back().spec.mutable_parallel()->set_schedule(v1::ParallelSpec::SCHEDULE_1F1B);
  }
  if (UpdatesLocally(spec) && OnGpus(spec) && !IsOffloaded(spec)) {
    changes.push_back({"parallel.zero.offload: host", spec});
    changes.back().spec.mutable_parallel()->mutable_zero()->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
  }
  if (UpdatesLocally(spec)) {
    changes.push_back({"parallel.zero.placement: service", spec});
    v1::ZeroSpec* const zero = changes.back().spec.mutable_parallel()->mutable_zero();
    zero->set_placement(v1::ZeroSpec::PLACEMENT_SERVICE);
    zero->clear_mirror();
    zero->clear_mirror_lag();
    zero->clear_offload();
  }
  if (UpdatesLocally(spec) && OnGpus(spec) && !OffloadsGradients(spec)) {
    changes.push_back({"parallel.zero.offload: host with parallel.zero.stage: 2", spec});
    v1::ZeroSpec* const zero = changes.back().spec.mutable_parallel()->mutable_zero();
    zero->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
    zero->set_stage(2);
  }
  if (spec.parallel().zero().stage() < 2 && spec.parallel().data() > 1) {
    changes.push_back({"parallel.zero.stage: 2", spec});
    changes.back().spec.mutable_parallel()->mutable_zero()->set_stage(2);
  }
  for (uint32_t size = spec.training().micro_batch_size() / 2; size > 0; size /= 2) {
    changes.push_back({absl::StrCat("training.micro_batch_size: ", size), spec});
    changes.back().spec.mutable_training()->set_micro_batch_size(size);
  }
  for (uint32_t stages = 2 * spec.parallel().pipeline(); stages <= spec.model().layers() + 2; stages *= 2) {
    changes.push_back({absl::StrCat("parallel.pipeline: ", stages, " with training.micro_batch_size: 1"), spec});
    changes.back().spec.mutable_parallel()->set_pipeline(stages);
    changes.back().spec.mutable_training()->set_micro_batch_size(1);
  }
  return changes;
}

// Of the largest rank; nothing for a job that can't be.
std::optional<int64_t> LargestRank(const v1::JobSpec& spec) {
  if (!CheckJob(spec).empty()) return std::nullopt;
  const auto ranks = MemoryOfJob(spec);
  if (!ranks.ok()) return std::nullopt;
  int64_t largest = 0;
  for (const RankMemory& rank : *ranks) largest = std::max(largest, rank.total());
  return largest;
}

}  // namespace

absl::StatusOr<std::vector<RankMemory>> MemoryOfJob(const v1::JobSpec& spec) {
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec.model()));
  PENSTOCK_ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(spec));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<BlockRange> stages, PartitionStages(table, mesh.pipeline()));
  return MemoryOfRanks(spec, table, stages, mesh);
}

std::optional<std::string> SmallestFittingChange(const v1::JobSpec& spec, int64_t available_bytes,
                                                 int64_t beyond_model) {
  for (const Change& change : ChangesOf(spec)) {
    const std::optional<int64_t> bytes = LargestRank(change.spec);
    if (!bytes.has_value() || *bytes + beyond_model > available_bytes) continue;
    return absl::StrFormat("%s would fit (%.1f GiB)", change.text,
                           static_cast<double>(*bytes + beyond_model) / (1 << 30));
  }
  return std::nullopt;
}

}  // namespace penstock
