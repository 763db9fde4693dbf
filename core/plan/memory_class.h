// What the memory of a rank is for: the classes that the worker's plan is laid out by, and the planner counts by.
#ifndef PENSTOCK_CORE_PLAN_MEMORY_CLASS_H_
#define PENSTOCK_CORE_PLAN_MEMORY_CLASS_H_

#include <cstdint>

namespace penstock {

// kOptimizer: master weights and moments, where the rank itself updates.
enum class MemoryClass { kParameter, kGradient, kOptimizer, kActivation, kCommunication, kWorkspace };
inline constexpr int kMemoryClasses = 6;

// "parameter", "gradient", ...: also the value of a metric's label.
const char* MemoryClassName(MemoryClass memory_class);

// Regions start on cache lines, so that no two share one and vectors are aligned.
inline constexpr int64_t kRegionAlignment = 64;

// What a region of `bytes` takes.
constexpr int64_t RegionBytes(int64_t bytes) {
  return (bytes + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
}

// Pinned memory through which a GPU's gradients and weights go to the parameter service and back, so much at a time.
inline constexpr int64_t kStagedBytesMax = int64_t{256} << 20;

// What an offloaded optimizer updates at a time, while gradients come from the device and weights go back: 16 MiB of
// fp32, which a link takes longer for than for the calls around it.
inline constexpr int64_t kOffloadRunElements = int64_t{4} << 20;
// Runs that it has room for: one is updated, one is on its way.
inline constexpr int kOffloadRuns = 2;

// What a matrix product may scribble on with a GPU: as much as cuBLASLt asks for on Hopper, and what it takes to begin
// where cuBLASLt wants it to.
inline constexpr int64_t kGpuProductAlignment = 256;
inline constexpr int64_t kGpuProductBytes = (int64_t{32} << 20) + kGpuProductAlignment;

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_MEMORY_CLASS_H_
