#include "services/checkpoint/huggingface_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "services/checkpoint/huggingface_config.h"

namespace penstock {
namespace {

// Elements that are converted, or compared, at a time.
constexpr size_t kChunkElements = size_t{1} << 18;
constexpr int kIndexDepthMax = 8;

absl::Status Annotate(const absl::Status& status, const std::string& path) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status Wrong(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

std::string WithoutPrefix(const std::string& name) {
  return name.starts_with(kHuggingFacePrefix) ? name.substr(kHuggingFacePrefix.size()) : name;
}

std::string ShapeText(std::span<const int64_t> shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

float FromBits(Dtype dtype, uint16_t bits) {
  // BF16 is the upper half of an F32.
  return dtype == Dtype::kBF16 ? std::bit_cast<float>(uint32_t{bits} << 16)
                               : static_cast<float>(std::bit_cast<_Float16>(bits));
}

// {"weight_map": {tensor: file}}; file names lead to no other folder.
absl::StatusOr<std::map<std::string, std::string>> ParseIndex(const std::string& text) {
  try {
    bool too_deep = false;
    const auto limit_depth = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      too_deep |= depth > kIndexDepthMax;
      return !too_deep;
    };
    const auto json = nlohmann::json::parse(text, limit_depth);
    if (too_deep) return absl::InvalidArgumentError("is nested too deeply");
    std::map<std::string, std::string> map;
    for (const auto& [tensor, value] : json.at("weight_map").items()) {
      const std::string file = value.get<std::string>();
      if (file.empty() || file.front() == '.' || file.find('/') != std::string::npos ||
          file.find('\0') != std::string::npos) {
        return absl::InvalidArgumentError("weight_map names a file outside of the folder");
      }
      map[tensor] = file;
    }
    return map;
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("can't be read: ", e.what()));
  }
}

}  // namespace

absl::StatusOr<v1::ModelSpec> ReadHuggingFaceModel(Blobs& blobs, const std::string& folder) {
  const std::string path = JoinPath(folder, kHuggingFaceConfigName);
  const absl::StatusOr<std::string> text = ReadWholeBlob(blobs, path, kHuggingFaceConfigBytesMax);
  if (absl::IsNotFound(text.status())) {
    PENSTOCK_RETURN_IF_ERROR(blobs.List(folder).status());
    return absl::NotFoundError(
        absl::StrCat(folder, ": has no ", std::string(kHuggingFaceConfigName), "; it isn't a Hugging Face model"));
  }
  PENSTOCK_RETURN_IF_ERROR(text.status());
  absl::StatusOr<v1::ModelSpec> model = ParseHuggingFaceConfig(*text);
  if (!model.ok()) return Annotate(model.status(), path);
  return model;
}

absl::StatusOr<std::unique_ptr<HuggingFaceReader>> HuggingFaceReader::Open(Blobs& blobs, const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(v1::ModelSpec model, ReadHuggingFaceModel(blobs, folder));
  PENSTOCK_ASSIGN_OR_RETURN(ParameterTable table, ParameterTable::Create(model));
  std::unique_ptr<HuggingFaceReader> reader(new HuggingFaceReader(folder, std::move(model), std::move(table)));
  PENSTOCK_RETURN_IF_ERROR(reader->OpenFiles(blobs));
  PENSTOCK_RETURN_IF_ERROR(reader->MatchTensors());
  return reader;
}

absl::Status HuggingFaceReader::OpenFiles(Blobs& blobs) {
  const std::string index_path = JoinPath(folder_, kHuggingFaceIndexName);
  const absl::StatusOr<std::string> index = ReadWholeBlob(blobs, index_path, kHuggingFaceIndexBytesMax);
  if (index.ok()) {
    const auto weight_map = ParseIndex(*index);
    if (!weight_map.ok()) return Annotate(weight_map.status(), index_path);
    return OpenIndexed(blobs, *weight_map);
  }
  if (!absl::IsNotFound(index.status())) return index.status();
  const std::string path = JoinPath(folder_, kHuggingFaceWeightsName);
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(blobs, path);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(absl::StrCat(folder_, ": has neither ", std::string(kHuggingFaceWeightsName), " nor ",
                                            std::string(kHuggingFaceIndexName),
                                            "; weights in other formats (pytorch_model.bin) can't be read"));
  }
  PENSTOCK_RETURN_IF_ERROR(file.status());
  files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status HuggingFaceReader::OpenIndexed(Blobs& blobs, const std::map<std::string, std::string>& weight_map) {
  const std::string index_path = JoinPath(folder_, kHuggingFaceIndexName);
  std::map<std::string, size_t> opened;
  for (const auto& [tensor, name] : weight_map) {
    if (!opened.contains(name)) {
      if (opened.size() == kHuggingFaceFilesMax) {
        return Wrong(index_path, absl::StrCat("weight_map names more than ", kHuggingFaceFilesMax, " files"));
      }
      const std::string path = JoinPath(folder_, name);
      absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(blobs, path);
      if (absl::IsNotFound(file.status())) {
        return Wrong(index_path, absl::StrCat("weight_map names ", name, ", which isn't there"));
      }
      PENSTOCK_RETURN_IF_ERROR(file.status());
      opened[name] = files_.size();
      files_.push_back(*std::move(file));
    }
    const SafetensorsFile& file = files_[opened[name]];
    if (file.header().Find(tensor) == nullptr) {
      return Wrong(index_path, absl::StrCat("weight_map puts ", tensor, " into ", name, ", which doesn't hold it"));
    }
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceReader::CheckTensor(const SafetensorsFile& file, const SafetensorsEntry& entry,
                                            const HuggingFaceTensor& tensor) const {
  const std::vector<int64_t> shape(entry.shape.begin(), entry.shape.end());
  if (shape != tensor.shape) {
    return Wrong(file.path(), absl::StrCat(entry.name, " has the shape ", ShapeText(shape), "; ",
                                           std::string(kHuggingFaceConfigName), " makes it ", ShapeText(tensor.shape)));
  }
  if (entry.dtype != Dtype::kF32 && entry.dtype != Dtype::kF16 && entry.dtype != Dtype::kBF16) {
    return Wrong(file.path(), absl::StrCat(entry.name, " has the dtype ", std::string(DtypeName(entry.dtype)),
                                           "; F32, F16 and BF16 can be read"));
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceReader::MatchTensors() {
  std::map<std::string, size_t> parameters;
  sources_.resize(table_.parameters().size());
  for (size_t i = 0; i < sources_.size(); ++i) {
    sources_[i].tensor = HuggingFaceTensorOf(table_.parameters()[i]);
    parameters[sources_[i].tensor.name] = i;
  }
  std::set<size_t> found;
  std::vector<std::pair<size_t, std::string>> heads;
  for (size_t f = 0; f < files_.size(); ++f) {
    for (const SafetensorsEntry& entry : files_[f].header().entries()) {
      const std::string name = WithoutPrefix(entry.name);
      if (IsHuggingFaceBuffer(name)) continue;
      if (entry.name == kHuggingFaceHead) {
        heads.emplace_back(f, entry.name);
        continue;
      }
      const auto parameter = parameters.find(name);
      if (parameter == parameters.end()) {
        return Wrong(files_[f].path(),
                     absl::StrCat(entry.name, " belongs to no GPT-2 of ", model_.layers(), " layers, as ",
                                  std::string(kHuggingFaceConfigName), " describes it"));
      }
      if (!found.insert(parameter->second).second) {
        return Wrong(files_[f].path(), absl::StrCat(entry.name, " comes twice, in ",
                                                    files_[sources_[parameter->second].file].path(), " too"));
      }
      Source& source = sources_[parameter->second];
      PENSTOCK_RETURN_IF_ERROR(CheckTensor(files_[f], entry, source.tensor));
      source.file = f;
      source.name = entry.name;
    }
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (!found.contains(i)) {
      return Wrong(folder_, absl::StrCat(sources_[i].tensor.name, " is missing in its safetensors; ",
                                         std::string(kHuggingFaceConfigName), " asks for it"));
    }
  }
  for (const auto& [file, name] : heads) PENSTOCK_RETURN_IF_ERROR(CheckHead(file, name));
  return absl::OkStatus();
}

// The head is tied: what is written must be the token embedding.
absl::Status HuggingFaceReader::CheckHead(size_t file, const std::string& name) const {
  PENSTOCK_CHECK(table_.tied() != nullptr);
  const Source& tied = sources_[static_cast<size_t>(table_.IndexOf(table_.tied()->begin))];
  PENSTOCK_RETURN_IF_ERROR(CheckTensor(files_[file], *files_[file].header().Find(name), tied.tensor));
  const size_t elements = static_cast<size_t>(table_.tied()->size());
  std::vector<float> head(std::min(elements, kChunkElements));
  std::vector<float> embedding(head.size());
  for (size_t first = 0; first < elements; first += kChunkElements) {
    const size_t size = std::min(kChunkElements, elements - first);
    PENSTOCK_RETURN_IF_ERROR(ReadFloats(file, name, first, std::span(head).first(size)));
    PENSTOCK_RETURN_IF_ERROR(ReadFloats(tied.file, tied.name, first, std::span(embedding).first(size)));
    // As bits: a NaN is like itself.
    if (std::memcmp(head.data(), embedding.data(), size * sizeof(float)) != 0) {
      return Wrong(files_[file].path(), absl::StrCat(name, " differs from ", tied.name,
                                                     "; an output head that isn't tied to it can't be read"));
    }
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceReader::ReadFloats(size_t file, const std::string& name, uint64_t first,
                                           std::span<float> out) const {
  const SafetensorsFile& source = files_[file];
  const Dtype dtype = source.header().Find(name)->dtype;
  if (dtype == Dtype::kF32) return source.ReadFloats(name, first, out);
  std::vector<uint16_t> bits(std::min(out.size(), kChunkElements));
  for (size_t done = 0; done < out.size(); done += bits.size()) {
    const size_t size = std::min(bits.size(), out.size() - done);
    const std::span<uint16_t> part = std::span(bits).first(size);
    PENSTOCK_RETURN_IF_ERROR(source.Read(name, (first + done) * sizeof(uint16_t), std::as_writable_bytes(part)));
    for (size_t i = 0; i < size; ++i) out[done + i] = FromBits(dtype, part[i]);
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceReader::ReadRange(ElementRange range, std::span<float> out) const {
  if (!table_.range().Contains(range) || out.size() != static_cast<size_t>(range.size())) {
    return absl::OutOfRangeError(absl::StrCat(folder_, ": elements ", range.ToString(), " don't fit ", out.size(),
                                              " of a model of ", table_.size()));
  }
  if (range.empty()) return absl::OkStatus();
  std::vector<float> theirs;
  std::vector<float> canonical;
  for (size_t i = static_cast<size_t>(table_.IndexOf(range.begin)); i < sources_.size(); ++i) {
    const Parameter& parameter = table_.parameters()[i];
    const ElementRange part = Intersect(range, parameter.range());
    if (part.empty()) break;
    const Source& source = sources_[i];
    const std::span<float> to =
        out.subspan(static_cast<size_t>(part.begin - range.begin), static_cast<size_t>(part.size()));
    const auto first = static_cast<size_t>(part.begin - parameter.begin);
    if (source.tensor.same_order()) {
      PENSTOCK_RETURN_IF_ERROR(ReadFloats(source.file, source.name, first, to));
      continue;
    }
    theirs.resize(static_cast<size_t>(parameter.size()));
    PENSTOCK_RETURN_IF_ERROR(ReadFloats(source.file, source.name, 0, theirs));
    if (part == parameter.range()) {
      ToCanonical(source.tensor, theirs, to);
      continue;
    }
    canonical.resize(theirs.size());
    ToCanonical(source.tensor, theirs, canonical);
    std::copy_n(canonical.begin() + static_cast<std::ptrdiff_t>(first), to.size(), to.begin());
  }
  return absl::OkStatus();
}

}  // namespace penstock
