#include "worker/runtime/gradient_buckets.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"

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

GradientBuckets::GradientBuckets(const RankPlan& plan)
    : plan_(plan), sets_(static_cast<size_t>(GradientSums(plan.spec()))) {}

void GradientBuckets::PlanMemory(MemoryPlan* memory) {
  const OwnedRanges& mine = plan_.mine();
  for (size_t i = 0; i < sets_.size(); ++i) {
    sets_[i].untied_region =
        memory->AddFloats(MemoryClass::kGradient, absl::StrCat("owned gradients ", i), mine.untied_memory.size());
    sets_[i].embedding_region =
        memory->AddFloats(MemoryClass::kGradient, absl::StrCat("owned tied gradients, embedding ", i),
                          plan_.parameters.first ? mine.tied_memory.size() : 0);
  }
  head_region_ = memory->AddFloats(MemoryClass::kGradient, "owned tied gradients, head",
                                   plan_.parameters.last ? mine.tied_memory.size() : 0);
}

void GradientBuckets::Bind(const Arena& arena, Communicator* comm, Backend* backend) {
  comm_ = comm;
  backend_ = backend;
  for (Sums& sums : sets_) {
    sums.untied = arena.Floats(sums.untied_region);
    sums.embedding = arena.Floats(sums.embedding_region);
  }
  head_ = arena.Floats(head_region_);
}

void GradientBuckets::BeginStep(uint64_t step) {
  current_ = static_cast<size_t>(step % sets_.size());
  kept_.clear();
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
  PENSTOCK_RETURN_IF_ERROR(Keep(untied, plan_.mine().untied_memory, bucket.gradients, this->untied(), begins));
  if (!bucket.tied.has_value()) return absl::OkStatus();
  return Keep(tied, plan_.mine().tied_memory, bucket.gradients, this->tied(*bucket.tied), begins);
}

}  // namespace penstock
