#include "worker/model/memory_plan.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;

}  // namespace

RegionId MemoryPlan::Add(MemoryClass memory_class, std::string name, int64_t bytes) {
  PENSTOCK_CHECK(bytes >= 0);
  const int64_t padded = RegionBytes(bytes);
  regions_.push_back({memory_class, std::move(name), total_bytes_, bytes});
  bytes_by_class_[static_cast<size_t>(memory_class)] += padded;
  total_bytes_ += padded;
  return {static_cast<int>(regions_.size()) - 1};
}

RegionId MemoryPlan::AddFloats(MemoryClass memory_class, std::string name, int64_t elements) {
  return Add(memory_class, std::move(name), elements * static_cast<int64_t>(sizeof(float)));
}

std::string MemoryPlan::Describe() const {
  std::string text = absl::StrFormat("%.1f MiB:", static_cast<double>(total_bytes_) / kMebibyte);
  for (int i = 0; i < kMemoryClasses; ++i) {
    const auto memory_class = static_cast<MemoryClass>(i);
    absl::StrAppendFormat(&text, "%s %s %.1f", i == 0 ? "" : ",", MemoryClassName(memory_class),
                          static_cast<double>(BytesOf(memory_class)) / kMebibyte);
  }
  return text;
}

std::string MemoryPlan::DescribeLargest(size_t count) const {
  struct Tag {
    std::string name;
    int64_t bytes = 0;
    int regions = 0;
  };
  std::vector<Tag> tags;
  for (const Region& region : regions_) {
    const size_t end = region.name.find_last_not_of(" 0123456789");
    const std::string name =
        absl::StrCat(MemoryClassName(region.memory_class), " \"", region.name.substr(0, end + 1), "\"");
    auto tag = std::find_if(tags.begin(), tags.end(), [&](const Tag& each) { return each.name == name; });
    if (tag == tags.end()) tag = tags.insert(tags.end(), Tag{name, 0, 0});
    tag->bytes += region.bytes;
    ++tag->regions;
  }
  std::stable_sort(tags.begin(), tags.end(), [](const Tag& a, const Tag& b) { return a.bytes > b.bytes; });
  if (tags.size() > count) tags.resize(count);
  std::string text;
  for (const Tag& tag : tags) {
    absl::StrAppendFormat(&text, "%s%s %.1f MiB", text.empty() ? "" : ", ", tag.name,
                          static_cast<double>(tag.bytes) / kMebibyte);
    if (tag.regions > 1) absl::StrAppend(&text, " in ", tag.regions, " regions");
  }
  return text;
}

absl::StatusOr<Arena> Arena::Allocate(const MemoryPlan& plan, Backend* backend) {
  return Make(plan, backend->Allocate(plan.total_bytes()));
}

absl::StatusOr<Arena> Arena::AllocateHost(const MemoryPlan& plan, Backend* backend) {
  return Make(plan, backend->AllocateHost(plan.total_bytes()));
}

absl::StatusOr<Arena> Arena::Make(const MemoryPlan& plan, absl::StatusOr<std::unique_ptr<DeviceMemory>> memory) {
  Arena arena;
  if (!memory.ok()) {
    return absl::Status(memory.status().code(), absl::StrCat(memory.status().message(), "; the plan wants ",
                                                             absl::string_view(plan.Describe())));
  }
  arena.memory_ = *std::move(memory);
  for (const MemoryPlan::Region& region : plan.regions()) {
    arena.regions_.emplace_back(arena.memory_->data() + region.offset_bytes, static_cast<size_t>(region.bytes));
  }
  return arena;
}

std::span<std::byte> Arena::Bytes(RegionId region) const {
  PENSTOCK_CHECK(region.index >= 0 && static_cast<size_t>(region.index) < regions_.size());
  return regions_[static_cast<size_t>(region.index)];
}

std::span<float> Arena::Floats(RegionId region) const {
  const std::span<std::byte> bytes = Bytes(region);
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace penstock
