#include "services/checkpoint/catalog.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/reader.h"
#include "services/checkpoint/writer.h"

namespace penstock {
namespace {

// A checkpoint that is being deleted: out of the way at once, gone a little later.
constexpr std::string_view kDeletedSuffix = ".deleted";

// Of "step-00000100" and nothing else.
std::optional<uint64_t> StepOf(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  uint64_t step = 0;
  const char* const begin = name.data() + kPrefix.size();
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || CheckpointFolderName(step) != name) return std::nullopt;
  return step;
}

CheckpointInfo Describe(Blobs& blobs, const std::string& path, uint64_t step) {
  CheckpointInfo info;
  info.path = path;
  info.step = step;
  const absl::StatusOr<Manifest> manifest = ReadManifest(blobs, path);
  info.status = manifest.status();
  if (!manifest.ok()) return info;
  if (manifest->step != step) {
    info.status = absl::DataLossError(absl::StrCat(path, ": its manifest is of step ", manifest->step));
    return info;
  }
  for (const ManifestFile& file : manifest->files) info.bytes += file.bytes;
  info.job_name = manifest->spec.name();
  info.samples_consumed = manifest->samples_consumed;
  info.digest = manifest->digest;
  return info;
}

}  // namespace

std::string JobCheckpointFolder(const std::string& directory, const std::string& job_name) {
  return JoinPath(directory, job_name);
}

absl::StatusOr<std::vector<CheckpointInfo>> ListCheckpoints(Blobs& blobs, const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<BlobEntry> entries, blobs.List(folder));
  std::vector<CheckpointInfo> list;
  for (const BlobEntry& entry : entries) {
    const std::optional<uint64_t> step = StepOf(entry.name);
    if (entry.is_folder && step.has_value()) list.push_back(Describe(blobs, JoinPath(folder, entry.name), *step));
  }
  std::sort(list.begin(), list.end(), [](const CheckpointInfo& a, const CheckpointInfo& b) { return a.step > b.step; });
  return list;
}

absl::StatusOr<CheckpointInfo> FindNewestCheckpoint(Blobs& blobs, const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> list, ListCheckpoints(blobs, folder));
  std::string unusable;
  for (const CheckpointInfo& info : list) {
    if (info.status.ok()) return info;
    absl::StrAppend(&unusable, "; ", info.status.message());
  }
  return absl::NotFoundError(absl::StrCat(folder, ": has no usable checkpoint", unusable));
}

absl::Status ApplyRetention(Blobs& blobs, const std::string& folder, uint32_t keep, uint64_t newest_step) {
  if (keep == 0) return absl::OkStatus();
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> list, ListCheckpoints(blobs, folder));
  uint32_t good = 0;
  for (const CheckpointInfo& info : list) {
    if (!info.status.ok() || info.step > newest_step || ++good <= keep) continue;
    // Renamed first: should the deletion be cut short, half a checkpoint isn't taken for a damaged one.
    const std::string deleted = absl::StrCat(info.path, std::string(kDeletedSuffix));
    PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(deleted));
    PENSTOCK_RETURN_IF_ERROR(blobs.Rename(info.path, deleted));
  }
  // Those of this time and of times that were cut short.
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<BlobEntry> entries, blobs.List(folder));
  for (const BlobEntry& entry : entries) {
    if (!entry.is_folder || !entry.name.ends_with(kDeletedSuffix)) continue;
    if (!StepOf(entry.name.substr(0, entry.name.size() - kDeletedSuffix.size())).has_value()) continue;
    PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(JoinPath(folder, entry.name)));
  }
  return absl::OkStatus();
}

}  // namespace penstock
