#include "services/checkpoint/huggingface_export.h"

#include <map>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "services/checkpoint/huggingface_config.h"
#include "services/checkpoint/huggingface_names.h"
#include "services/checkpoint/huggingface_reader.h"
#include "services/checkpoint/huggingface_tokenizer.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

constexpr std::string_view kPartialSuffix = ".partial";

struct ExportFile {
  std::string name;
  // Parameters [first, last) of the table.
  size_t first = 0;
  size_t last = 0;
};

uint64_t Bytes(const Parameter& parameter) { return static_cast<uint64_t>(parameter.size()) * sizeof(float); }

std::string TheirName(const HuggingFaceTensor& tensor) {
  return absl::StrCat(std::string(kHuggingFacePrefix), tensor.name);
}

// Whole tensors in table order, at most `bytes_max` in a file unless a single one is larger.
std::vector<ExportFile> CutFiles(const ParameterTable& table, uint64_t bytes_max) {
  std::vector<ExportFile> files = {{}};
  uint64_t bytes = 0;
  for (const Parameter& parameter : table.parameters()) {
    ExportFile* file = &files.back();
    if (file->last > file->first && bytes + Bytes(parameter) > bytes_max) {
      files.push_back({"", file->last, file->last});
      file = &files.back();
      bytes = 0;
    }
    ++file->last;
    bytes += Bytes(parameter);
  }
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1 ? std::string(kHuggingFaceWeightsName)
                                      : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, files.size());
  }
  return files;
}

absl::Status WriteFile(Blobs& blobs, const PretrainedWeights& weights, const std::string& folder,
                       const ExportFile& file) {
  const auto parameters = weights.table().parameters().subspan(file.first, file.last - file.first);
  std::vector<SafetensorsTensor> tensors;
  uint64_t bytes = 0;
  for (const Parameter& parameter : parameters) {
    const HuggingFaceTensor tensor = HuggingFaceTensorOf(parameter);
    tensors.push_back({TheirName(tensor), Dtype::kF32, {tensor.shape.begin(), tensor.shape.end()}});
    bytes += Bytes(parameter);
  }
  // Their library looks for the "format".
  PENSTOCK_ASSIGN_OR_RETURN(const std::string header, FormatSafetensorsHeader(tensors, {{"format", "pt"}}));
  const std::string path = JoinPath(folder, file.name);
  PENSTOCK_RETURN_IF_ERROR(blobs.CreateSized(path, header.size() + bytes));
  PENSTOCK_RETURN_IF_ERROR(blobs.WriteAt(path, 0, std::as_bytes(std::span(header))));
  uint64_t offset = header.size();
  std::vector<float> canonical;
  std::vector<float> theirs;
  for (const Parameter& parameter : parameters) {
    const HuggingFaceTensor tensor = HuggingFaceTensorOf(parameter);
    canonical.resize(static_cast<size_t>(parameter.size()));
    PENSTOCK_RETURN_IF_ERROR(weights.ReadRange(parameter.range(), canonical));
    std::span<const float> data = canonical;
    if (!tensor.same_order()) {
      theirs.resize(canonical.size());
      FromCanonical(tensor, canonical, theirs);
      data = theirs;
    }
    PENSTOCK_RETURN_IF_ERROR(blobs.WriteAt(path, offset, std::as_bytes(data)));
    offset += Bytes(parameter);
  }
  return blobs.Sync(path);
}

std::string IndexJson(const ParameterTable& table, const std::vector<ExportFile>& files) {
  nlohmann::ordered_json json;
  json["metadata"]["total_size"] = static_cast<uint64_t>(table.size()) * sizeof(float);
  for (const ExportFile& file : files) {
    for (size_t i = file.first; i < file.last; ++i) {
      json["weight_map"][TheirName(HuggingFaceTensorOf(table.parameters()[i]))] = file.name;
    }
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<std::vector<std::string>> WriteFolder(Blobs& blobs, const PretrainedWeights& weights,
                                                     const std::string& folder, uint64_t file_bytes_max) {
  PENSTOCK_RETURN_IF_ERROR(blobs.CreateFolders(folder));
  const v1::ModelSpec& model = weights.spec().model();
  std::map<std::string, std::string> texts;
  texts[std::string(kHuggingFaceConfigName)] = FormatHuggingFaceConfig(model);
  if (SpeaksBytes(weights.spec())) {
    texts["tokenizer.json"] = FormatByteTokenizer(model.vocab_size());
    texts["tokenizer_config.json"] = FormatByteTokenizerConfig(model.seq_length());
  }
  const std::vector<ExportFile> files = CutFiles(weights.table(), file_bytes_max);
  if (files.size() > 1) texts[std::string(kHuggingFaceIndexName)] = IndexJson(weights.table(), files);
  std::vector<std::string> names;
  for (const auto& [name, text] : texts) {
    PENSTOCK_RETURN_IF_ERROR(blobs.WriteAtomic(JoinPath(folder, name), text));
    names.push_back(name);
  }
  for (const ExportFile& file : files) {
    PENSTOCK_RETURN_IF_ERROR(WriteFile(blobs, weights, folder, file));
    names.push_back(file.name);
  }
  PENSTOCK_RETURN_IF_ERROR(blobs.Sync(folder));
  return names;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExportHuggingFace(Blobs& blobs, const PretrainedWeights& weights,
                                                           const std::string& folder, uint64_t file_bytes_max) {
  const absl::StatusOr<std::vector<BlobEntry>> there = blobs.List(folder);
  if (there.ok() && !there->empty()) {
    return absl::AlreadyExistsError(absl::StrCat(folder, ": isn't empty; name a folder that isn't there yet"));
  }
  if (!there.ok() && !absl::IsNotFound(there.status())) return there.status();
  if (weights.spec().model().family() != v1::ModelSpec::FAMILY_GPT2) {
    return absl::InvalidArgumentError(absl::StrCat(weights.folder(), ": only a GPT-2 can be exported"));
  }
  const std::string partial = absl::StrCat(folder, std::string(kPartialSuffix));
  PENSTOCK_RETURN_IF_ERROR(blobs.RemoveTree(partial));
  absl::StatusOr<std::vector<std::string>> names = WriteFolder(blobs, weights, partial, file_bytes_max);
  if (absl::Status status = names.status(); status.ok()) {
    status = blobs.Rename(partial, folder);
    if (!status.ok()) names = status;
  }
  if (!names.ok()) blobs.RemoveTree(partial).IgnoreError();
  return names;
}

}  // namespace penstock
