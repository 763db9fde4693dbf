#include "services/checkpoint/reader.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// How often VerifyCheckpoint reports.
constexpr uint64_t kProgressBytes = uint64_t{16} << 20;

absl::Status Damaged(const std::string& path, const std::string& what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what));
}

// A file that the manifest names and that is gone or cut is damage, not a wrong path.
absl::Status CheckFiles(Blobs& blobs, const std::string& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    const std::string path = JoinPath(folder, file.name);
    const absl::StatusOr<uint64_t> bytes = blobs.Size(path);
    if (absl::IsNotFound(bytes.status())) return Damaged(path, "is missing");
    PENSTOCK_RETURN_IF_ERROR(bytes.status());
    if (*bytes != file.bytes)
      return Damaged(path, absl::StrCat("has ", *bytes, " bytes; it was written with ", file.bytes));
  }
  return absl::OkStatus();
}

// The files must be the ones that the model's layout has, with its headers, since ranges are read at its offsets.
absl::Status CheckLayout(Blobs& blobs, const std::string& folder, const Manifest& manifest,
                         const CheckpointLayout& layout) {
  const std::string manifest_path = JoinPath(folder, kManifestName);
  if (manifest.files.size() != layout.files().size()) {
    return Damaged(manifest_path,
                   absl::StrCat("names ", manifest.files.size(), " files; its model needs ", layout.files().size()));
  }
  for (size_t i = 0; i < layout.files().size(); ++i) {
    const CheckpointFile& file = layout.files()[i];
    if (manifest.files[i].name != file.name || manifest.files[i].bytes != file.bytes) {
      return Damaged(manifest_path,
                     absl::StrCat("names a file ", manifest.files[i].name, " of ", manifest.files[i].bytes,
                                  " bytes; its model needs ", file.name, " of ", file.bytes));
    }
    const std::string path = JoinPath(folder, file.name);
    std::string header(file.header.size(), '\0');
    PENSTOCK_RETURN_IF_ERROR(blobs.ReadAt(path, 0, std::as_writable_bytes(std::span(header))));
    if (header != file.header) return Damaged(path, "its safetensors header is damaged");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Manifest> ReadManifest(Blobs& blobs, const std::string& path) {
  const std::string manifest_path = JoinPath(path, kManifestName);
  const absl::StatusOr<std::string> text = ReadWholeBlob(blobs, manifest_path, kManifestBytesMax);
  if (absl::IsNotFound(text.status())) {
    PENSTOCK_RETURN_IF_ERROR(blobs.List(path).status());
    return absl::NotFoundError(
        absl::StrCat(path, ": has no ", std::string(kManifestName), "; it isn't a checkpoint that was completed"));
  }
  PENSTOCK_RETURN_IF_ERROR(text.status());
  absl::StatusOr<Manifest> manifest = ParseManifest(*text);
  if (!manifest.ok()) {
    return absl::Status(manifest.status().code(), absl::StrCat(manifest_path, ": ", manifest.status().message()));
  }
  PENSTOCK_RETURN_IF_ERROR(CheckFiles(blobs, path, *manifest));
  return manifest;
}

CheckpointReader::CheckpointReader(Blobs& blobs, std::string path, Manifest manifest, ParameterTable table,
                                   CheckpointLayout layout)
    : blobs_(blobs),
      path_(std::move(path)),
      manifest_(std::move(manifest)),
      table_(std::move(table)),
      layout_(std::move(layout)) {}

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::Open(Blobs& blobs, const std::string& path) {
  PENSTOCK_ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(blobs, path));
  const std::string manifest_path = JoinPath(path, kManifestName);
  absl::StatusOr<ParameterTable> table = ParameterTable::Create(manifest.spec.model());
  if (!table.ok()) {
    return Damaged(manifest_path, absl::StrCat("its model can't be: ", table.status().message()));
  }
  if (table->size() != manifest.elements) {
    return Damaged(manifest_path, absl::StrCat("has ", manifest.elements, " elements; its model has ", table->size()));
  }
  PENSTOCK_ASSIGN_OR_RETURN(CheckpointLayout layout, CheckpointLayout::Create(*table));
  PENSTOCK_RETURN_IF_ERROR(CheckLayout(blobs, path, manifest, layout));
  return std::unique_ptr<CheckpointReader>(
      new CheckpointReader(blobs, path, std::move(manifest), *std::move(table), std::move(layout)));
}

absl::Status CheckpointReader::ReadRange(StateClass state_class, ElementRange range, std::span<float> out) const {
  if (range.begin < 0 || range.end < range.begin || range.end > layout_.elements()) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": elements ", range.ToString(), " are not within the ",
                                              layout_.elements(), " of the model"));
  }
  if (out.size() != static_cast<size_t>(range.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": elements ", range.ToString(), " don't fit a buffer of ", out.size(), " elements"));
  }
  std::vector<float> buffer;
  for (const ElementRange& part : SplitAtMultiples(range, kPieceElements)) {
    const int64_t piece = part.begin / kPieceElements;
    const ElementRange whole = table_.Piece(piece);
    const std::span<float> target =
        out.subspan(static_cast<size_t>(part.begin - range.begin), static_cast<size_t>(part.size()));
    if (part == whole) {
      PENSTOCK_RETURN_IF_ERROR(ReadPiece(state_class, piece, target));
      continue;
    }
    // Only a whole piece can be checked.
    buffer.resize(static_cast<size_t>(whole.size()));
    PENSTOCK_RETURN_IF_ERROR(ReadPiece(state_class, piece, buffer));
    std::copy_n(buffer.begin() + (part.begin - whole.begin), part.size(), target.begin());
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::ReadPiece(StateClass state_class, int64_t piece, std::span<float> out) const {
  const ElementRange range = table_.Piece(piece);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<FileSlice> slices, layout_.Slices(state_class, range));
  std::string names;
  for (const FileSlice& slice : slices) {
    const std::string& name = layout_.files()[slice.file].name;
    const std::span<float> part =
        out.subspan(static_cast<size_t>(slice.range.begin - range.begin), static_cast<size_t>(slice.range.size()));
    const absl::Status status = blobs_.ReadAt(JoinPath(path_, name), slice.offset, std::as_writable_bytes(part));
    // Open saw the file whole, so it has been cut since.
    if (absl::IsOutOfRange(status)) return absl::DataLossError(status.message());
    PENSTOCK_RETURN_IF_ERROR(status);
    absl::StrAppend(&names, names.empty() ? "" : " or ", name);
  }
  if (DigestFloats(out) != manifest_.pieces[static_cast<size_t>(piece)][state_class]) {
    return Damaged(JoinPath(path_, names),
                   absl::StrCat("piece ", piece, " (elements ", range.ToString(), " of ",
                                std::string(StateClassName(state_class)), ") is damaged: its digest is wrong"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Manifest> VerifyCheckpoint(Blobs& blobs, const std::string& path, const VerifyProgress& progress) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader, CheckpointReader::Open(blobs, path));
  const uint64_t total = static_cast<uint64_t>(reader->table().size()) * sizeof(float) * kStateClasses;
  std::vector<float> buffer(static_cast<size_t>(std::min(kPieceElements, reader->table().size())));
  uint64_t done = 0;
  uint64_t reported = 0;
  for (const StateClass state_class : kAllStateClasses) {
    for (int64_t piece = 0; piece < reader->table().piece_count(); ++piece) {
      const ElementRange range = reader->table().Piece(piece);
      const std::span<float> out(buffer.data(), static_cast<size_t>(range.size()));
      PENSTOCK_RETURN_IF_ERROR(reader->ReadRange(state_class, range, out));
      done += out.size_bytes();
      if (done - reported < kProgressBytes && done != total) continue;
      reported = done;
      if (progress && !progress(done, total))
        return absl::CancelledError(absl::StrCat(path, ": not verified to the end"));
    }
  }
  return reader->manifest();
}

}  // namespace penstock
