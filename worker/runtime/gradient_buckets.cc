#include "worker/runtime/gradient_buckets.h"

#include "core/base/status_macros.h"

namespace penstock {

// What of `owned` the bucket holds.
std::vector<Part> GradientBuckets::PartsOf(const std::vector<Held>& held, const ElementRange& owned) {
  std::vector<Part> parts;
  for (const Held& stretch : held) {
    const ElementRange both = Intersect(stretch.memory, owned);
    if (!both.empty()) parts.push_back({stretch.begin + both.begin - stretch.memory.begin, both.size()});
  }
  return parts;
}

absl::Status GradientBuckets::Keep(const std::vector<Held>& held, const ElementRange& owned,
                                   std::span<const float> bucket, std::span<float> sum, bool begins) {
  for (const Held& stretch : held) {
    const ElementRange both = Intersect(stretch.memory, owned);
    if (both.empty()) continue;
    const size_t size = static_cast<size_t>(both.size());
    const auto from = bucket.subspan(static_cast<size_t>(stretch.begin + both.begin - stretch.memory.begin), size);
    const auto to = sum.subspan(static_cast<size_t>(both.begin - owned.begin), size);
    PENSTOCK_RETURN_IF_ERROR(begins ? backend_->Copy({}, from.data(), to.data(), static_cast<int64_t>(to.size_bytes()))
                                    : backend_->Add({}, from, to));
  }
  return absl::OkStatus();
}

void GradientBuckets::PlanMemory(MemoryPlan* memory) {
  const OwnedRanges& mine = plan_.mine();
  untied_region_ = memory->AddFloats(MemoryClass::kGradient, "owned gradients", mine.untied_memory.size());
  embedding_region_ = memory->AddFloats(MemoryClass::kGradient, "owned tied gradients, embedding",
                                        plan_.parameters.first ? mine.tied_memory.size() : 0);
  head_region_ = memory->AddFloats(MemoryClass::kGradient, "owned tied gradients, head",
                                   plan_.parameters.last ? mine.tied_memory.size() : 0);
}

void GradientBuckets::Bind(const Arena& arena, Communicator* comm, Backend* backend) {
  comm_ = comm;
  backend_ = backend;
  untied_ = arena.Floats(untied_region_);
  embedding_ = arena.Floats(embedding_region_);
  head_ = arena.Floats(head_region_);
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
  const bool begins = kept_.insert(&bucket).second;
  PENSTOCK_RETURN_IF_ERROR(Keep(untied, plan_.mine().untied_memory, bucket.gradients, untied_, begins));
  if (!bucket.tied.has_value()) return absl::OkStatus();
  return Keep(tied, plan_.mine().tied_memory, bucket.gradients, this->tied(*bucket.tied), begins);
}

}  // namespace penstock
