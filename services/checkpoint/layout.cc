#include "services/checkpoint/layout.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

// The first and the last parameter, exclusive, of one file.
struct FileCut {
  size_t first = 0;
  size_t last = 0;
};

// Whole parameters in table order; a new file where the next one would exceed the limit.
std::vector<FileCut> CutFiles(std::span<const Parameter> parameters, uint64_t file_bytes_max) {
  std::vector<FileCut> cuts;
  uint64_t bytes = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const uint64_t size = static_cast<uint64_t>(parameters[i].size()) * sizeof(float);
    if (cuts.empty() || bytes + size > file_bytes_max) {
      cuts.push_back({i, i});
      bytes = 0;
    }
    cuts.back().last = i + 1;
    bytes += size;
  }
  return cuts;
}

absl::StatusOr<CheckpointFile> MakeFile(StateClass state_class, std::span<const Parameter> parameters, size_t number,
                                        size_t count) {
  CheckpointFile file;
  file.state_class = state_class;
  const std::string class_name(StateClassName(state_class));
  file.name = absl::StrFormat("%s-%05d-of-%05d.safetensors", class_name, number, count);
  std::vector<SafetensorsTensor> tensors;
  for (const Parameter& parameter : parameters) {
    tensors.push_back({parameter.name, Dtype::kF32, {parameter.shape.begin(), parameter.shape.end()}});
  }
  PENSTOCK_ASSIGN_OR_RETURN(file.header,
                            FormatSafetensorsHeader(tensors, {{"format", "penstock"}, {"state", class_name}}));
  file.range = {parameters.front().begin, parameters.back().end};
  file.bytes = file.header.size() + static_cast<uint64_t>(file.range.size()) * sizeof(float);
  return file;
}

absl::StatusOr<std::string> MakeIndex(std::span<const Parameter> parameters, std::span<const FileCut> cuts,
                                      std::span<const CheckpointFile> files, int64_t elements) {
  try {
    nlohmann::ordered_json::object_t map;
    for (size_t i = 0; i < cuts.size(); ++i) {
      for (size_t p = cuts[i].first; p < cuts[i].last; ++p) map.push_back({parameters[p].name, files[i].name});
    }
    nlohmann::ordered_json index;
    index["metadata"]["total_size"] = static_cast<uint64_t>(elements) * sizeof(float);
    index["weight_map"] = std::move(map);
    return index.dump(2) + "\n";
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("can't write the index of the weights: ", e.what()));
  }
}

}  // namespace

absl::StatusOr<CheckpointLayout> CheckpointLayout::Create(const ParameterTable& table, uint64_t file_bytes_max) {
  const std::span<const Parameter> parameters = table.parameters();
  if (parameters.empty()) return absl::InvalidArgumentError("a model without parameters has nothing to checkpoint");
  const std::vector<FileCut> cuts = CutFiles(parameters, file_bytes_max);
  CheckpointLayout layout;
  layout.elements_ = table.size();
  for (const StateClass state_class : kAllStateClasses) {
    for (size_t i = 0; i < cuts.size(); ++i) {
      PENSTOCK_ASSIGN_OR_RETURN(
          CheckpointFile file,
          MakeFile(state_class, parameters.subspan(cuts[i].first, cuts[i].last - cuts[i].first), i + 1, cuts.size()));
      layout.bytes_ += file.bytes;
      layout.files_.push_back(std::move(file));
    }
  }
  PENSTOCK_ASSIGN_OR_RETURN(layout.index_json_, MakeIndex(parameters, cuts, layout.files_, table.size()));
  return layout;
}

absl::StatusOr<std::vector<FileSlice>> CheckpointLayout::Slices(StateClass state_class, ElementRange range) const {
  if (range.begin < 0 || range.end < range.begin || range.end > elements_) {
    return absl::OutOfRangeError(
        absl::StrCat("elements ", range.ToString(), " are not within the ", elements_, " of the model"));
  }
  std::vector<FileSlice> slices;
  for (size_t i = 0; i < files_.size(); ++i) {
    const CheckpointFile& file = files_[i];
    if (file.state_class != state_class) continue;
    const ElementRange part = Intersect(file.range, range);
    if (part.empty()) continue;
    const uint64_t offset = file.header.size() + static_cast<uint64_t>(part.begin - file.range.begin) * sizeof(float);
    slices.push_back({i, offset, part});
  }
  return slices;
}

}  // namespace penstock
