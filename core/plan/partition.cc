#include "core/plan/partition.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

// best[k][i]: the smallest possible value for cutting the last n - i elements into k parts, where `combine` joins the
// cost of the first of these parts with the value of the rest. Working from the end, the first cut is the last
// decision.
template <typename Combine>
std::vector<std::vector<double>> BestBySuffix(const std::vector<double>& prefix, int parts, const Combine& combine) {
  const int n = static_cast<int>(prefix.size()) - 1;
  std::vector<std::vector<double>> best(static_cast<size_t>(parts) + 1,
                                        std::vector<double>(static_cast<size_t>(n) + 1, kImpossible));
  best[0][static_cast<size_t>(n)] = 0;
  for (size_t k = 1; k < best.size(); ++k) {
    // Each part takes an element at least, so there is room for the first cut only up to here.
    const size_t cut_end = prefix.size() - (k - 1);
    for (size_t i = 0; i + 1 < cut_end; ++i) {
      for (size_t j = i + 1; j < cut_end; ++j) {
        const double cost = prefix[j] - prefix[i];
        // A longer first part costs no less; this keeps the whole near n^2 instead of parts * n^2.
        if (combine(cost, 0.0) >= best[k][i]) break;
        if (best[k - 1][j] == kImpossible) continue;
        best[k][i] = std::min(best[k][i], combine(cost, best[k - 1][j]));
      }
    }
  }
  return best;
}

}  // namespace

absl::StatusOr<std::vector<int>> PartitionCosts(std::span<const double> costs, int parts) {
  if (parts < 1 || static_cast<size_t>(parts) > costs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("can't cut ", costs.size(), " blocks into ", parts, " parts of at least one block"));
  }
  std::vector<double> prefix = {0};
  for (const double cost : costs) {
    if (!(cost >= 0) || !std::isfinite(cost)) {
      return absl::InvalidArgumentError(absl::StrCat("block costs must be finite and not negative; got ", cost));
    }
    prefix.push_back(prefix.back() + cost);
  }
  if (!std::isfinite(prefix.back())) return absl::InvalidArgumentError("the sum of the block costs must be finite");

  // First the smallest possible maximum; then, with no part above it, the smallest sum of squares.
  const double bottleneck = BestBySuffix(
      prefix, parts, [](double cost, double rest) { return std::max(cost, rest); })[static_cast<size_t>(parts)][0];
  const double scale = bottleneck > 0 ? 1 / bottleneck : 0;  // keeps squares in range
  const auto squares = [&](double cost, double rest) {
    return cost <= bottleneck ? cost * scale * (cost * scale) + rest : kImpossible;
  };
  const std::vector<std::vector<double>> best = BestBySuffix(prefix, parts, squares);

  // Forward through the choices, each time the shortest part that reaches the optimum.
  std::vector<int> boundaries = {0};
  for (size_t k = static_cast<size_t>(parts); k > 0; --k) {
    const size_t i = static_cast<size_t>(boundaries.back());
    size_t j = i + 1;
    while (j < prefix.size() &&
           !(best[k - 1][j] != kImpossible && squares(prefix[j] - prefix[i], best[k - 1][j]) == best[k][i])) {
      ++j;
    }
    PENSTOCK_CHECK(j < prefix.size());
    boundaries.push_back(static_cast<int>(j));
  }
  return boundaries;
}

absl::StatusOr<std::vector<BlockRange>> PartitionStages(const ParameterTable& table, int stages) {
  const std::span<const Block> blocks = table.blocks();
  // Embedding and head add to the costs of the first and the last layer, so that they come along with them.
  std::vector<double> costs;
  double embedding = 0;
  for (const Block& block : blocks) {
    const double cost = block.forward_flops_per_sample + block.backward_flops_per_sample;
    switch (block.kind) {
      case BlockKind::kEmbedding:
        embedding = cost;
        break;
      case BlockKind::kLayer:
        costs.push_back(cost + embedding);
        embedding = 0;
        break;
      case BlockKind::kHead:
        costs.back() += cost;
        break;
    }
  }
  if (stages < 1 || static_cast<size_t>(stages) > costs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("pipeline ", stages, " must be from 1 to ", costs.size(),
                                                   ", the number of layers: each stage needs one"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<int> boundaries, PartitionCosts(costs, stages));
  std::vector<BlockRange> ranges;
  for (size_t stage = 0; stage + 1 < boundaries.size(); ++stage) {
    // Layer i is block i + 1.
    ranges.push_back({boundaries[stage] + 1, boundaries[stage + 1] + 1});
  }
  ranges.front().begin = 0;
  ranges.back().end = static_cast<int>(blocks.size());
  return ranges;
}

}  // namespace penstock
