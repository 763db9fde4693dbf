// The bytes that each rank of a job holds, by class, from the spec and the parameter table alone. They are those of the
// worker's own plan (worker/model/memory_plan.h), which a test beside the worker compares; only the operations' scratch
// memory, which the libraries decide, is an estimate. Pure.
#ifndef PENSTOCK_CORE_PLAN_MEMORY_MODEL_H_
#define PENSTOCK_CORE_PLAN_MEMORY_MODEL_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"
#include "core/plan/memory_class.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

struct RankMemory {
  // By MemoryClass.
  std::array<int64_t, kMemoryClasses> bytes{};
  // Of a rank on a GPU, whose memory `bytes` are: pinned memory of its machine. 0 on a CPU.
  int64_t host_bytes = 0;

  int64_t& operator[](MemoryClass memory_class) { return bytes[static_cast<size_t>(memory_class)]; }
  int64_t operator[](MemoryClass memory_class) const { return bytes[static_cast<size_t>(memory_class)]; }
  // Of `bytes`.
  int64_t total() const;
};

// Of what a rank on a GPU sends to the parameter service and gets from it, the most at once: the pinned memory that it
// goes through (worker/runtime/staged_state_client.h). `updated`: elements that the rank updates itself.
int64_t StagedBytes(const v1::JobSpec& spec, const StageParameters& parameters, const OwnedRanges& owned,
                    int64_t updated);

// In rank order. `spec` is sound, its mesh is `mesh`, and `stages` are its stages' blocks.
absl::StatusOr<std::vector<RankMemory>> MemoryOfRanks(const v1::JobSpec& spec, const ParameterTable& table,
                                                      const std::vector<BlockRange>& stages, const Mesh& mesh);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_MEMORY_MODEL_H_
