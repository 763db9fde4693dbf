// The mesh of a job: ranks as (stage, data rank, tensor rank), and the groups that they form.
//
// Rank = (stage * data + data_rank) * tensor + tensor_rank: the tensor axis is innermost, so that a tensor group lies
// inside a host. A value; safe to read from any thread.
#ifndef PENSTOCK_CORE_MESH_MESH_H_
#define PENSTOCK_CORE_MESH_MESH_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

struct MeshCoordinates {
  int stage = 0;
  int data_rank = 0;
  int tensor_rank = 0;

  friend bool operator==(const MeshCoordinates&, const MeshCoordinates&) = default;
};

class Mesh {
 public:
  // INVALID_ARGUMENT unless every degree is at least 1 and their product fits an int.
  static absl::StatusOr<Mesh> Create(int pipeline, int data, int tensor);

  int pipeline() const { return pipeline_; }
  int data() const { return data_; }
  int tensor() const { return tensor_; }
  // Number of ranks.
  int size() const { return pipeline_ * data_ * tensor_; }

  // 0 <= rank < size().
  MeshCoordinates CoordinatesOf(int rank) const;
  // Coordinates within the degrees.
  int RankOf(const MeshCoordinates& at) const;

  // The ranks that hold copies of the same weights, in data rank order; `rank` is one of them.
  std::vector<int> DataGroup(int rank) const;
  // The ranks that share each layer's work, in tensor rank order.
  std::vector<int> TensorGroup(int rank) const;
  // The ranks of one pipeline, in stage order.
  std::vector<int> PipelineGroup(int rank) const;
  // The rank of the stage before or after in the same pipeline; none at the ends.
  std::optional<int> PreviousStage(int rank) const;
  std::optional<int> NextStage(int rank) const;
  // The same data and tensor coordinates on another stage.
  int OnStage(int rank, int stage) const;

  bool IsFirstStage(int rank) const { return CoordinatesOf(rank).stage == 0; }
  bool IsLastStage(int rank) const { return CoordinatesOf(rank).stage == pipeline_ - 1; }
  // (data 0, tensor 0) of the last stage: it has the loss and drives the commit.
  int leader() const { return RankOf({pipeline_ - 1, 0, 0}); }

  // "pipeline 2 x data 2 x tensor 1".
  std::string ToString() const;

  friend bool operator==(const Mesh&, const Mesh&) = default;

 private:
  Mesh(int pipeline, int data, int tensor) : pipeline_(pipeline), data_(data), tensor_(tensor) {}

  int pipeline_;
  int data_;
  int tensor_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_MESH_MESH_H_
