// The memory of a rank, planned before the first step: a list of named regions, each with a class, laid out in one
// allocation that never grows.
//
//   MemoryPlan plan;
//   RegionId x = plan.Add(MemoryClass::kActivation, "slot 0 input", 4 * rows * width);
//   PENSTOCK_ASSIGN_OR_RETURN(Arena arena, Arena::Allocate(plan, &backend));
//   std::span<float> memory = arena.Floats(x);
//
// Both are not synchronised; an Arena's memory belongs to whoever runs the stage. The Arena owns the memory and must
// outlive everything that holds spans of it.
#ifndef PENSTOCK_WORKER_MODEL_MEMORY_PLAN_H_
#define PENSTOCK_WORKER_MODEL_MEMORY_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/plan/memory_class.h"
#include "worker/ops/backend.h"

namespace penstock {

struct RegionId {
  int index = -1;
};

class MemoryPlan {
 public:
  struct Region {
    MemoryClass memory_class;
    std::string name;
    int64_t offset_bytes;
    int64_t bytes;
  };

  // bytes >= 0; a region of 0 bytes is allowed, its span is empty.
  RegionId Add(MemoryClass memory_class, std::string name, int64_t bytes);
  // `elements` of float.
  RegionId AddFloats(MemoryClass memory_class, std::string name, int64_t elements);

  const std::vector<Region>& regions() const { return regions_; }
  // Sum of the class's regions, each rounded up to the alignment.
  int64_t BytesOf(MemoryClass memory_class) const { return bytes_by_class_[static_cast<size_t>(memory_class)]; }
  // What Arena::Allocate takes.
  int64_t total_bytes() const { return total_bytes_; }
  // "12.5 MiB: parameter 3.1, gradient 3.1, activation 5.2, communication 0.1, workspace 1.0".
  std::string Describe() const;
  // What takes most, regions of a name (but for a number at its end) together: "slot 8.2 GiB in 4 regions, ...".
  std::string DescribeLargest(size_t count) const;

 private:
  std::vector<Region> regions_;
  std::array<int64_t, kMemoryClasses> bytes_by_class_{};
  int64_t total_bytes_ = 0;
};

class Arena {
 public:
  // One zeroed allocation for all regions of `plan`, which may be forgotten afterwards. RESOURCE_EXHAUSTED with the
  // plan's description when the device hasn't that much.
  static absl::StatusOr<Arena> Allocate(const MemoryPlan& plan, Backend* backend);
  // The same in host memory that the device copies from and to.
  static absl::StatusOr<Arena> AllocateHost(const MemoryPlan& plan, Backend* backend);

  std::span<std::byte> Bytes(RegionId region) const;
  std::span<float> Floats(RegionId region) const;

 private:
  Arena() = default;
  static absl::StatusOr<Arena> Make(const MemoryPlan& plan, absl::StatusOr<std::unique_ptr<DeviceMemory>> memory);

  std::unique_ptr<DeviceMemory> memory_;
  std::vector<std::span<std::byte>> regions_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_MEMORY_PLAN_H_
