#include "core/mesh/mesh.h"

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<Mesh> Mesh::Create(int pipeline, int data, int tensor) {
  if (pipeline < 1 || data < 1 || tensor < 1) {
    return absl::InvalidArgumentError(absl::StrCat("mesh pipeline ", pipeline, " x data ", data, " x tensor ", tensor,
                                                   ": every degree must be at least 1"));
  }
  constexpr int64_t kRanksMax = std::numeric_limits<int>::max();
  if (int64_t{pipeline} * data > kRanksMax / tensor) {
    return absl::InvalidArgumentError(absl::StrCat("mesh pipeline ", pipeline, " x data ", data, " x tensor ", tensor,
                                                   ": the product must be at most ", kRanksMax));
  }
  return Mesh(pipeline, data, tensor);
}

MeshCoordinates Mesh::CoordinatesOf(int rank) const {
  PENSTOCK_CHECK(rank >= 0 && rank < size());
  return {rank / (data_ * tensor_), rank / tensor_ % data_, rank % tensor_};
}

int Mesh::RankOf(const MeshCoordinates& at) const {
  PENSTOCK_CHECK(at.stage >= 0 && at.stage < pipeline_);
  PENSTOCK_CHECK(at.data_rank >= 0 && at.data_rank < data_);
  PENSTOCK_CHECK(at.tensor_rank >= 0 && at.tensor_rank < tensor_);
  return (at.stage * data_ + at.data_rank) * tensor_ + at.tensor_rank;
}

std::vector<int> Mesh::DataGroup(int rank) const {
  MeshCoordinates at = CoordinatesOf(rank);
  std::vector<int> group;
  for (at.data_rank = 0; at.data_rank < data_; ++at.data_rank) group.push_back(RankOf(at));
  return group;
}

std::vector<int> Mesh::TensorGroup(int rank) const {
  MeshCoordinates at = CoordinatesOf(rank);
  std::vector<int> group;
  for (at.tensor_rank = 0; at.tensor_rank < tensor_; ++at.tensor_rank) group.push_back(RankOf(at));
  return group;
}

std::vector<int> Mesh::PipelineGroup(int rank) const {
  std::vector<int> group;
  for (int stage = 0; stage < pipeline_; ++stage) group.push_back(OnStage(rank, stage));
  return group;
}

std::optional<int> Mesh::PreviousStage(int rank) const {
  const int stage = CoordinatesOf(rank).stage;
  if (stage == 0) return std::nullopt;
  return OnStage(rank, stage - 1);
}

std::optional<int> Mesh::NextStage(int rank) const {
  const int stage = CoordinatesOf(rank).stage;
  if (stage == pipeline_ - 1) return std::nullopt;
  return OnStage(rank, stage + 1);
}

int Mesh::OnStage(int rank, int stage) const {
  MeshCoordinates at = CoordinatesOf(rank);
  at.stage = stage;
  return RankOf(at);
}

std::string Mesh::ToString() const {
  return absl::StrCat("pipeline ", pipeline_, " x data ", data_, " x tensor ", tensor_);
}

}  // namespace penstock
