#include "services/checkpoint/diff.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

std::string ShapeText(const Parameter& parameter) {
  return absl::StrCat("[", absl::StrJoin(parameter.shape, ", "), "]");
}

absl::Status CheckSameTable(const PretrainedWeights& a, const PretrainedWeights& b) {
  const auto ours = a.table().parameters();
  const auto theirs = b.table().parameters();
  const std::string lead = absl::StrCat(a.folder(), " and ", b.folder(), " aren't the same model: ");
  for (size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    if (ours[i].name != theirs[i].name) {
      return absl::InvalidArgumentError(
          absl::StrCat(lead, "where one has ", ours[i].name, " the other has ", theirs[i].name));
    }
    if (ours[i].shape != theirs[i].shape) {
      return absl::InvalidArgumentError(absl::StrCat(lead, ours[i].name, " is ", ShapeText(ours[i]), " in one and ",
                                                     ShapeText(theirs[i]), " in the other"));
    }
  }
  if (ours.size() != theirs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(lead, "one has ", ours.size(), " tensors, the other ", theirs.size()));
  }
  return absl::OkStatus();
}

TensorDifference Compare(const Parameter& parameter, const std::vector<float>& a, const std::vector<float>& b) {
  TensorDifference difference;
  difference.name = parameter.name;
  difference.elements = parameter.size();
  double difference_squares = 0;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) ++difference.different;
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    // A NaN is kept, whatever comes after it.
    if (!(std::abs(d) <= difference.max_abs) && !std::isnan(difference.max_abs)) difference.max_abs = std::abs(d);
    difference_squares += d * d;
    squares += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  if (difference_squares != 0) difference.relative_norm = std::sqrt(difference_squares / squares);
  return difference;
}

}  // namespace

absl::StatusOr<std::vector<TensorDifference>> DiffWeights(const PretrainedWeights& a, const PretrainedWeights& b) {
  PENSTOCK_RETURN_IF_ERROR(CheckSameTable(a, b));
  std::vector<TensorDifference> differences;
  std::vector<float> ours;
  std::vector<float> theirs;
  for (const Parameter& parameter : a.table().parameters()) {
    ours.resize(static_cast<size_t>(parameter.size()));
    theirs.resize(ours.size());
    PENSTOCK_RETURN_IF_ERROR(a.ReadRange(parameter.range(), ours));
    PENSTOCK_RETURN_IF_ERROR(b.ReadRange(parameter.range(), theirs));
    differences.push_back(Compare(parameter, ours, theirs));
  }
  return differences;
}

}  // namespace penstock
