#include "services/checkpoint/writer.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr std::string_view kPartialSuffix = ".partial";
// A complete checkpoint that is just being replaced.
constexpr std::string_view kReplacedSuffix = ".replaced";
constexpr std::string_view kIndexName = "model.safetensors.index.json";

absl::Status MakeFiles(Blobs& blobs, const std::string& partial, const CheckpointLayout& layout) {
  PENSTOCK_RETURN_IF_ERROR(blobs.CreateFolders(partial));
  for (const CheckpointFile& file : layout.files()) {
    const std::string path = JoinPath(partial, file.name);
    PENSTOCK_RETURN_IF_ERROR(blobs.CreateSized(path, file.bytes));
    PENSTOCK_RETURN_IF_ERROR(blobs.WriteAt(path, 0, std::as_bytes(std::span(file.header))));
    PENSTOCK_RETURN_IF_ERROR(blobs.Sync(path));
  }
  PENSTOCK_RETURN_IF_ERROR(blobs.WriteAtomic(JoinPath(partial, kIndexName), layout.index_json()));
  return blobs.Sync(partial);
}

absl::Status CheckSizes(Blobs& blobs, const std::string& folder, const CheckpointLayout& layout) {
  for (const CheckpointFile& file : layout.files()) {
    const std::string path = JoinPath(folder, file.name);
    PENSTOCK_ASSIGN_OR_RETURN(const uint64_t bytes, blobs.Size(path));
    if (bytes != file.bytes) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": has ", bytes, " bytes; this model's has ", file.bytes,
                                                        "; the folder wasn't prepared for it"));
    }
  }
  return absl::OkStatus();
}

// Gives the folder its final name, and takes away the one that has it.
absl::Status PutInPlace(Blobs& blobs, const std::string& partial, const std::string& final_path) {
  const std::string replaced = absl::StrCat(final_path, std::string(kReplacedSuffix));
  const bool exists = blobs.List(final_path).ok();
  if (exists) {
    PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(replaced));
    PENSTOCK_RETURN_IF_ERROR(blobs.Rename(final_path, replaced));
  }
  const absl::Status status = blobs.Rename(partial, final_path);
  if (!exists) return status;
  if (!status.ok()) {
    // Best effort: the old one back, so that nothing is lost by the attempt. The error that matters is `status`.
    blobs.Rename(replaced, final_path).IgnoreError();
    return status;
  }
  return blobs.RemoveTree(replaced);
}

}  // namespace

std::string CheckpointFolderName(uint64_t step) { return absl::StrFormat("step-%08d", step); }

absl::StatusOr<std::string> PrepareCheckpoint(Blobs& blobs, const std::string& directory, uint64_t step,
                                              const ParameterTable& table) {
  PENSTOCK_ASSIGN_OR_RETURN(const CheckpointLayout layout, CheckpointLayout::Create(table));
  const std::string final_path = JoinPath(directory, CheckpointFolderName(step));
  const std::string partial = absl::StrCat(final_path, std::string(kPartialSuffix));
  PENSTOCK_RETURN_IF_ERROR(blobs.CreateFolders(directory));
  PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(partial));
  PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(absl::StrCat(final_path, std::string(kReplacedSuffix))));
  absl::Status status = MakeFiles(blobs, partial, layout);
  if (!status.ok()) {
    blobs.RemoveTree(partial).IgnoreError();
    return absl::Status(status.code(), absl::StrCat("the checkpoint of step ", step, " needs ", layout.bytes(),
                                                    " bytes: ", status.message()));
  }
  return partial;
}

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Open(Blobs& blobs, const std::string& partial,
                                                                         const ParameterTable& table) {
  if (!partial.ends_with(kPartialSuffix)) {
    return absl::FailedPreconditionError(absl::StrCat(partial, ": isn't a checkpoint that is being written"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(CheckpointLayout layout, CheckpointLayout::Create(table));
  PENSTOCK_RETURN_IF_ERROR(CheckSizes(blobs, partial, layout));
  return std::unique_ptr<CheckpointWriter>(new CheckpointWriter(blobs, partial, std::move(layout)));
}

absl::Status CheckpointWriter::WriteRange(StateClass state_class, int64_t begin, std::span<const float> elements) {
  // Written so that no caller's numbers overflow.
  if (begin < 0 || begin > layout_.elements() || elements.size() > static_cast<uint64_t>(layout_.elements() - begin)) {
    return absl::OutOfRangeError(absl::StrCat(folder_, ": ", elements.size(), " elements from ", begin,
                                              " on are not within the ", layout_.elements(), " of the model"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<FileSlice> slices,
                            layout_.Slices(state_class, {begin, begin + static_cast<int64_t>(elements.size())}));
  for (const FileSlice& slice : slices) {
    {
      std::lock_guard lock(mutex_);
      dirty_.insert(slice.file);
    }
    const std::span<const float> part =
        elements.subspan(static_cast<size_t>(slice.range.begin - begin), static_cast<size_t>(slice.range.size()));
    PENSTOCK_RETURN_IF_ERROR(
        blobs_.WriteAt(JoinPath(folder_, layout_.files()[slice.file].name), slice.offset, std::as_bytes(part)));
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::Sync() {
  std::set<size_t> files;
  {
    std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    files.swap(dirty_);
  }
  absl::Status status;
  for (const size_t file : files) status.Update(blobs_.Sync(JoinPath(folder_, layout_.files()[file].name)));
  std::lock_guard lock(mutex_);
  failure_.Update(status);
  return failure_;
}

absl::StatusOr<std::string> FinishCheckpoint(Blobs& blobs, const std::string& partial, Manifest manifest) {
  if (!partial.ends_with(absl::StrCat(CheckpointFolderName(manifest.step), std::string(kPartialSuffix)))) {
    return absl::FailedPreconditionError(
        absl::StrCat(partial, ": isn't the unfinished checkpoint of step ", manifest.step));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(manifest.spec.model()));
  PENSTOCK_ASSIGN_OR_RETURN(const CheckpointLayout layout, CheckpointLayout::Create(table));
  if (manifest.elements != layout.elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat(partial, ": the manifest has ", manifest.elements, " elements, its model ", layout.elements()));
  }
  PENSTOCK_RETURN_IF_ERROR(CheckSizes(blobs, partial, layout));
  manifest.files.clear();
  for (const CheckpointFile& file : layout.files()) manifest.files.push_back({file.name, file.bytes});
  PENSTOCK_RETURN_IF_ERROR(blobs.WriteAtomic(JoinPath(partial, kManifestName), FormatManifest(manifest)));
  PENSTOCK_RETURN_IF_ERROR(blobs.Sync(partial));
  std::string final_path = partial.substr(0, partial.size() - kPartialSuffix.size());
  PENSTOCK_RETURN_IF_ERROR(PutInPlace(blobs, partial, final_path));
  return final_path;
}

absl::Status AbandonCheckpoint(Blobs& blobs, const std::string& partial) {
  if (!partial.ends_with(kPartialSuffix)) {
    return absl::FailedPreconditionError(absl::StrCat(partial, ": isn't a checkpoint that is being written"));
  }
  return blobs.RemoveTree(partial);
}

}  // namespace penstock
