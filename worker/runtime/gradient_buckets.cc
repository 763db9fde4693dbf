#include "worker/runtime/gradient_buckets.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

void AddTo(std::span<float> sum, const float* part) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
}

// A stretch of a memory that the bucket holds, and where it begins in the bucket.
struct Held {
  ElementRange memory;
  int64_t begin = 0;
};

// What of `owned` the bucket holds.
std::vector<Part> PartsOf(const std::vector<Held>& held, const ElementRange& owned) {
  std::vector<Part> parts;
  for (const Held& stretch : held) {
    const ElementRange both = Intersect(stretch.memory, owned);
    if (!both.empty()) parts.push_back({stretch.begin + both.begin - stretch.memory.begin, both.size()});
  }
  return parts;
}

// Adds what of the bucket this rank owns to `sum`, which holds `owned`.
void Keep(const std::vector<Held>& held, const ElementRange& owned, std::span<const float> bucket,
          std::span<float> sum) {
  for (const Held& stretch : held) {
    const ElementRange both = Intersect(stretch.memory, owned);
    if (both.empty()) continue;
    AddTo(sum.subspan(static_cast<size_t>(both.begin - owned.begin), static_cast<size_t>(both.size())),
          bucket.data() + stretch.begin + both.begin - stretch.memory.begin);
  }
}

}  // namespace

void GradientBuckets::PlanMemory(MemoryPlan* memory) {
  const OwnedRanges& mine = plan_.mine();
  untied_region_ = memory->AddFloats(MemoryClass::kGradient, "owned gradients", mine.untied_memory.size());
  embedding_region_ = memory->AddFloats(MemoryClass::kGradient, "owned tied gradients, embedding",
                                        plan_.parameters.first ? mine.tied_memory.size() : 0);
  head_region_ = memory->AddFloats(MemoryClass::kGradient, "owned tied gradients, head",
                                   plan_.parameters.last ? mine.tied_memory.size() : 0);
}

void GradientBuckets::Bind(const Arena& arena, Communicator* comm) {
  comm_ = comm;
  untied_ = arena.Floats(untied_region_);
  embedding_ = arena.Floats(embedding_region_);
  head_ = arena.Floats(head_region_);
}

void GradientBuckets::Zero() {
  for (const std::span<float> sum : {untied_, embedding_, head_}) std::fill(sum.begin(), sum.end(), 0.0f);
}

absl::Status GradientBuckets::Reduce(const GradientBucket& bucket) {
  std::vector<Held> untied;
  int64_t begin = 0;
  for (const ElementRange& stretch : bucket.untied) {
    untied.push_back({stretch, begin});
    begin += stretch.size();
  }
  std::vector<Held> tied;
  if (bucket.tied.has_value()) tied.push_back({{0, plan_.parameters.tied.size()}, begin});

  std::vector<std::vector<Part>> parts;
  for (const OwnedRanges& owned : plan_.owned) {
    parts.push_back(PartsOf(untied, owned.untied_memory));
    for (const Part& part : PartsOf(tied, owned.tied_memory)) parts.back().push_back(part);
  }
  PENSTOCK_RETURN_IF_ERROR(comm_->ReduceScatter(
      plan_.data_group, absl::Span<float>(bucket.gradients.data(), bucket.gradients.size()), parts));
  Keep(untied, plan_.mine().untied_memory, bucket.gradients, untied_);
  if (bucket.tied.has_value()) {
    Keep(tied, plan_.mine().tied_memory, bucket.gradients, this->tied(*bucket.tied));
  }
  return absl::OkStatus();
}

}  // namespace penstock
