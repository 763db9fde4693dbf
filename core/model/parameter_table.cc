#include "core/model/parameter_table.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/model_rules.h"
#include "core/model/table_builder.h"

namespace penstock {

absl::StatusOr<ParameterTable> ParameterTable::Create(const v1::ModelSpec& model) {
  Violations violations;
  CheckModel(model, &violations);
  if (!violations.empty()) {
    const v1::JobViolation& first = violations.list().front();
    return absl::InvalidArgumentError(absl::StrCat(first.field(), " ", first.message()));
  }
  return BuildGpt2Table(model);
}

ElementRange ParameterTable::Piece(int64_t piece) const {
  PENSTOCK_CHECK(piece >= 0 && piece < piece_count());
  return {piece * kPieceElements, std::min((piece + 1) * kPieceElements, size())};
}

const Parameter* ParameterTable::Find(std::string_view name) const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

int ParameterTable::IndexOf(int64_t element) const {
  PENSTOCK_CHECK(element >= 0 && element < size());
  const auto after = std::upper_bound(parameters_.begin(), parameters_.end(), element,
                                      [](int64_t value, const Parameter& parameter) { return value < parameter.end; });
  return static_cast<int>(after - parameters_.begin());
}

const Parameter* ParameterTable::tied() const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.tied) return &parameter;
  }
  return nullptr;
}

Block& TableBuilder::BeginBlock(std::string name, BlockKind kind) {
  Block& block = table_.blocks_.emplace_back();
  block.name = std::move(name);
  block.kind = kind;
  block.first_parameter = block.last_parameter = static_cast<int>(table_.parameters_.size());
  block.begin = block.end = table_.size();
  return block;
}

Parameter& TableBuilder::Add(std::string name, std::vector<int64_t> shape, SplitAxis split) {
  const int64_t begin = table_.size();
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  Parameter& parameter = table_.parameters_.emplace_back();
  parameter.name = std::move(name);
  parameter.shape = std::move(shape);
  parameter.split = split;
  parameter.block = static_cast<int>(table_.blocks_.size()) - 1;
  parameter.begin = begin;
  parameter.end = begin + elements;
  table_.blocks_.back().last_parameter = static_cast<int>(table_.parameters_.size());
  table_.blocks_.back().end = parameter.end;
  return parameter;
}

Parameter& TableBuilder::AddWeight(std::string name, std::vector<int64_t> shape, SplitAxis split, double init_std) {
  Parameter& parameter = Add(std::move(name), std::move(shape), split);
  parameter.init = InitKind::kNormal;
  parameter.init_std = static_cast<float>(init_std);
  parameter.decay = true;
  return parameter;
}

Parameter& TableBuilder::AddBias(std::string name, std::vector<int64_t> shape, SplitAxis split) {
  return Add(std::move(name), std::move(shape), split);
}

void TableBuilder::AddLayerNorm(const std::string& prefix, int64_t hidden) {
  Add(absl::StrCat(prefix, ".weight"), {hidden}, SplitAxis::kReplicated).init = InitKind::kOnes;
  AddBias(absl::StrCat(prefix, ".bias"), {hidden}, SplitAxis::kReplicated);
}

ParameterTable TableBuilder::Finish() && { return std::move(table_); }

}  // namespace penstock
