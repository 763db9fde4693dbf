#include "core/mesh/mesh.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(MeshTest, RanksAreNumberedWithTensorInnermost) {
  const Mesh mesh = *Mesh::Create(2, 3, 4);
  EXPECT_EQ(mesh.size(), 24);
  EXPECT_EQ(mesh.CoordinatesOf(0), (MeshCoordinates{0, 0, 0}));
  EXPECT_EQ(mesh.CoordinatesOf(1), (MeshCoordinates{0, 0, 1}));
  EXPECT_EQ(mesh.CoordinatesOf(4), (MeshCoordinates{0, 1, 0}));
  EXPECT_EQ(mesh.CoordinatesOf(12), (MeshCoordinates{1, 0, 0}));
  EXPECT_EQ(mesh.CoordinatesOf(23), (MeshCoordinates{1, 2, 3}));
  EXPECT_EQ(mesh.leader(), 12);
  EXPECT_EQ(mesh.ToString(), "pipeline 2 x data 3 x tensor 4");
}

TEST(MeshTest, GroupsPartitionTheRanks) {
  for (int pipeline = 1; pipeline <= 4; ++pipeline) {
    for (int data = 1; data <= 3; ++data) {
      for (int tensor = 1; tensor <= 3; ++tensor) {
        const Mesh mesh = *Mesh::Create(pipeline, data, tensor);
        std::set<std::vector<int>> data_groups, tensor_groups, pipelines;
        for (int rank = 0; rank < mesh.size(); ++rank) {
          const MeshCoordinates at = mesh.CoordinatesOf(rank);
          EXPECT_EQ(mesh.RankOf(at), rank);
          EXPECT_EQ(mesh.DataGroup(rank)[static_cast<size_t>(at.data_rank)], rank);
          EXPECT_EQ(mesh.TensorGroup(rank)[static_cast<size_t>(at.tensor_rank)], rank);
          EXPECT_EQ(mesh.PipelineGroup(rank)[static_cast<size_t>(at.stage)], rank);
          data_groups.insert(mesh.DataGroup(rank));
          tensor_groups.insert(mesh.TensorGroup(rank));
          pipelines.insert(mesh.PipelineGroup(rank));
        }
        EXPECT_EQ(data_groups.size(), static_cast<size_t>(pipeline * tensor));
        EXPECT_EQ(tensor_groups.size(), static_cast<size_t>(pipeline * data));
        EXPECT_EQ(pipelines.size(), static_cast<size_t>(data * tensor));
        for (const auto& groups : {data_groups, tensor_groups, pipelines}) {
          std::set<int> all;
          for (const std::vector<int>& group : groups) all.insert(group.begin(), group.end());
          EXPECT_EQ(all.size(), static_cast<size_t>(mesh.size()));
        }
      }
    }
  }
}

TEST(MeshTest, Neighbours) {
  const Mesh mesh = *Mesh::Create(3, 2, 1);
  EXPECT_EQ(mesh.PreviousStage(1), std::nullopt);
  EXPECT_EQ(mesh.NextStage(1), 3);
  EXPECT_EQ(mesh.PreviousStage(3), 1);
  EXPECT_EQ(mesh.NextStage(5), std::nullopt);
  EXPECT_EQ(mesh.OnStage(5, 0), 1);
  EXPECT_TRUE(mesh.IsFirstStage(1));
  EXPECT_FALSE(mesh.IsLastStage(3));
  EXPECT_TRUE(mesh.IsLastStage(4));
}

TEST(MeshTest, RefusesDegreesThatMakeNoMesh) {
  EXPECT_FALSE(Mesh::Create(0, 1, 1).ok());
  EXPECT_FALSE(Mesh::Create(1, -1, 1).ok());
  EXPECT_FALSE(Mesh::Create(1, 1, 0).ok());
  EXPECT_FALSE(Mesh::Create(1 << 16, 1 << 16, 1).ok());
  EXPECT_FALSE(Mesh::Create(2147483647, 2147483647, 2147483647).ok());
}

}  // namespace
}  // namespace penstock
