// A checkpoint of step 0 from a Hugging Face folder.

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_rules.h"
#include "services/checkpoint/huggingface_export.h"
#include "services/checkpoint/huggingface_reader.h"
#include "services/checkpoint/writer.h"

namespace penstock {
namespace {

// Digests weights that come in canonical order, beside moments of zeros.
class PieceDigester {
 public:
  explicit PieceDigester(const ParameterTable& table) : table_(table), zeros_(kPieceElements, 0.0F) {
    piece_.reserve(static_cast<size_t>(kPieceElements));
  }

  void Add(std::span<const float> weights) {
    while (!weights.empty()) {
      const auto number = static_cast<int64_t>(digests_.size());
      const auto wanted = static_cast<size_t>(table_.Piece(number).size());
      const size_t size = std::min(weights.size(), wanted - piece_.size());
      piece_.insert(piece_.end(), weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(size));
      weights = weights.subspan(size);
      if (piece_.size() < wanted) return;
      const std::span<const float> zeros = std::span<const float>(zeros_).first(wanted);
      digests_.push_back(ToProto(static_cast<uint64_t>(number), DigestPiece(piece_, zeros, zeros)));
      piece_.clear();
    }
  }
  const std::vector<v1::PieceDigest>& digests() const { return digests_; }

 private:
  const ParameterTable& table_;
  const std::vector<float> zeros_;
  std::vector<float> piece_;
  std::vector<v1::PieceDigest> digests_;
};

// A job's name from the folder's.
std::string NameOf(std::string folder) {
  while (folder.ends_with('/')) folder.pop_back();
  const std::string name = folder.substr(folder.rfind('/') + 1);
  return IsValidJobName(name) ? name : "imported";
}

v1::JobSpec SpecOf(const HuggingFaceReader& reader) {
  v1::JobSpec spec;
  spec.set_name(NameOf(reader.folder()));
  *spec.mutable_model() = reader.model();
  FillDefaults(&spec);
  // Nobody knows what it was trained on, nor what its tokens stand for.
  spec.clear_data();
  return spec;
}

absl::StatusOr<std::string> WriteCheckpoint(Blobs& blobs, const HuggingFaceReader& reader, const std::string& partial,
                                            Manifest* manifest) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                            CheckpointWriter::Open(blobs, partial, reader.table()));
  PieceDigester digester(reader.table());
  std::vector<float> weights;
  // The moments' files were made of zeros.
  for (const Parameter& parameter : reader.table().parameters()) {
    weights.resize(static_cast<size_t>(parameter.size()));
    PENSTOCK_RETURN_IF_ERROR(reader.ReadRange(parameter.range(), weights));
    PENSTOCK_RETURN_IF_ERROR(writer->WriteRange(StateClass::kWeights, parameter.begin, weights));
    digester.Add(weights);
  }
  PENSTOCK_RETURN_IF_ERROR(writer->Sync());
  PENSTOCK_ASSIGN_OR_RETURN(*manifest, MakeManifest(SpecOf(reader), 0, 0, reader.table().size(), digester.digests()));
  return FinishCheckpoint(blobs, partial, *manifest);
}

}  // namespace

absl::StatusOr<ImportedCheckpoint> ImportHuggingFace(Blobs& blobs, const std::string& folder,
                                                     const std::string& directory) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<HuggingFaceReader> reader, HuggingFaceReader::Open(blobs, folder));
  const std::string path = JoinPath(directory, CheckpointFolderName(0));
  if (blobs.Size(JoinPath(path, kManifestName)).ok()) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": is there already; name another folder, or remove it"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::string partial, PrepareCheckpoint(blobs, directory, 0, reader->table()));
  ImportedCheckpoint imported;
  absl::StatusOr<std::string> written = WriteCheckpoint(blobs, *reader, partial, &imported.manifest);
  if (!written.ok()) {
    AbandonCheckpoint(blobs, partial).IgnoreError();
    return written.status();
  }
  imported.path = *std::move(written);
  return imported;
}

}  // namespace penstock
