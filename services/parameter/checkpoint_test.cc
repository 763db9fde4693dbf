// Snapshots and checkpoints: written while training goes on, read by another number of shards, refused by a full disk.
#include <gtest/gtest.h>

#include <future>

#include "core/plan/job_facts.h"
#include "services/checkpoint/huggingface_export.h"
#include "services/checkpoint/manifest.h"
#include "services/checkpoint/pretrained.h"
#include "services/checkpoint/reader.h"
#include "services/checkpoint/writer.h"
#include "services/parameter/test_job.h"
#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

constexpr char kFolder[] = "/checkpoints/first";

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { EXPECT_EQ(disk_.CreateFolders(kFolder), absl::OkStatus()); }

  // What the coordinator does at a checkpoint step; the folder of the complete checkpoint.
  absl::StatusOr<std::string> Write(TestCluster& cluster, uint64_t step) {
    const absl::StatusOr<std::string> partial = PrepareCheckpoint(disk_, kFolder, step, cluster.table);
    if (!partial.ok()) return partial.status();
    std::vector<v1::PieceDigest> pieces;
    for (size_t i = 0; i < cluster.clients.size(); ++i) {
      const absl::StatusOr<v1::WriteCheckpointResponse> written = WriteShard(cluster, i, step, *partial);
      if (!written.ok()) return written.status();
      pieces.insert(pieces.end(), written->pieces().begin(), written->pieces().end());
    }
    const absl::StatusOr<Manifest> manifest =
        MakeManifest(cluster.spec, step, SamplesConsumed(cluster.spec, step), cluster.table.size(), pieces);
    if (!manifest.ok()) return manifest.status();
    for (const std::unique_ptr<ShardClient>& client : cluster.clients) {
      v1::ReleaseSnapshotRequest request;
      request.set_job_id(kTestJob);
      request.set_step(step);
      EXPECT_TRUE(client->ReleaseSnapshot(request, {}).ok());
    }
    return FinishCheckpoint(disk_, *partial, *manifest);
  }

  absl::StatusOr<v1::WriteCheckpointResponse> WriteShard(TestCluster& cluster, int shard, uint64_t step,
                                                         const std::string& directory) {
    v1::WriteCheckpointRequest request;
    request.set_job_id(kTestJob);
    request.set_step(step);
    request.set_directory(directory);
    return cluster.clients[shard]->WriteCheckpoint(request, {absl::Seconds(30)});
  }

  FakeBlobs disk_;
};

TEST_F(CheckpointTest, ASnapshotStaysWhileTrainingGoesOn) {
  const v1::JobSpec spec = TestSpec();
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = 2, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  std::string digest;
  for (uint64_t step = 1; step <= 3; ++step) {
    ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
    reference.Step(step);
    if (step == 2) digest = reference.Digest(2);
  }
  const absl::StatusOr<std::string> folder = Write(cluster, 2);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(*cluster.Digest(2), digest);  // kept from when it was the committed one
  const absl::StatusOr<Manifest> manifest = VerifyCheckpoint(disk_, *folder, nullptr);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->digest, digest);
  EXPECT_EQ(manifest->step, 2u);
  EXPECT_EQ(manifest->samples_consumed, 16u);
}

TEST_F(CheckpointTest, ReopensOnAnotherNumberOfShards) {
  const v1::JobSpec spec = TestSpec();
  ReferenceJob reference(spec);
  std::string folder;
  {
    TestCluster cluster(spec, {.shards = 3, .blobs = &disk_});
    ASSERT_EQ(cluster.Open(1), absl::OkStatus());
    for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
    const absl::StatusOr<std::string> written = Write(cluster, 2);
    ASSERT_TRUE(written.ok()) << written.status();
    folder = *written;
  }
  for (uint64_t step = 1; step <= 4; ++step) reference.Step(step);
  for (const int shards : {1, 2}) {
    TestCluster cluster(spec, {.shards = shards, .blobs = &disk_});
    ASSERT_EQ(cluster.Open(9, folder), absl::OkStatus());
    EXPECT_EQ(cluster.PullAll(9, 1).status().code(), absl::StatusCode::kFailedPrecondition);
    for (uint64_t step = 3; step <= 4; ++step) ASSERT_EQ(cluster.Step(9, step), absl::OkStatus());
    EXPECT_EQ(*cluster.PullAll(9, 4), reference.weights);
    EXPECT_EQ(*cluster.Digest(4), reference.Digest(4));
  }
}

TEST_F(CheckpointTest, TheLastVersionNeedsNoSnapshot) {
  const v1::JobSpec spec = TestSpec(3);
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = 2, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 3; ++step) {
    ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
    reference.Step(step);
  }
  const absl::StatusOr<std::string> folder = Write(cluster, 3);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(VerifyCheckpoint(disk_, *folder, nullptr)->digest, reference.Digest(3));
}

TEST_F(CheckpointTest, AFullDiskLeavesTheEarlierOneAndTheJob) {
  const v1::JobSpec spec = TestSpec();
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = 2, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> good = Write(cluster, 2);
  ASSERT_TRUE(good.ok()) << good.status();
  for (uint64_t step = 3; step <= 4; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> partial = PrepareCheckpoint(disk_, kFolder, 4, cluster.table);
  ASSERT_TRUE(partial.ok()) << partial.status();
  disk_.FillDiskAfter(100000);
  const absl::Status full = WriteShard(cluster, 0, 4, *partial).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_TRUE(VerifyCheckpoint(disk_, *good, nullptr).ok());
  // Once there is room the same snapshot is written.
  disk_.FreeDisk();
  for (uint64_t step = 1; step <= 4; ++step) reference.Step(step);
  const absl::StatusOr<std::string> folder = Write(cluster, 4);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(VerifyCheckpoint(disk_, *folder, nullptr)->digest, reference.Digest(4));
  ASSERT_EQ(cluster.Step(1, 5), absl::OkStatus());
}

TEST_F(CheckpointTest, WhatIsNotHeldIsNotFound) {
  TestCluster cluster(TestSpec(), {.shards = 1, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 3; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> partial = PrepareCheckpoint(disk_, kFolder, 1, cluster.table);
  ASSERT_TRUE(partial.ok());
  EXPECT_EQ(WriteShard(cluster, 0, 1, *partial).status().code(), absl::StatusCode::kNotFound);
  v1::ReleaseSnapshotRequest release;
  release.set_job_id(kTestJob);
  release.set_step(2);
  ASSERT_TRUE(cluster.clients[0]->ReleaseSnapshot(release, {}).ok());
  EXPECT_EQ(WriteShard(cluster, 0, 2, *partial).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(cluster.Digest(1).status().code(), absl::StatusCode::kNotFound);
  // A folder that nobody prepared.
  EXPECT_FALSE(WriteShard(cluster, 0, 3, "/checkpoints/first/step-00000003.partial").ok());
}

TEST_F(CheckpointTest, ADamagedCheckpointIsNotOpened) {
  const v1::JobSpec spec = TestSpec();
  TestCluster cluster(spec, {.shards = 2, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> folder = Write(cluster, 2);
  ASSERT_TRUE(folder.ok()) << folder.status();
  std::vector<std::byte>* file = disk_.MutableFile(*folder + "/exp_avg-00001-of-00001.safetensors");
  ASSERT_NE(file, nullptr);
  file->back() ^= std::byte{1};
  const absl::Status damaged = cluster.Open(2, *folder);
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss) << damaged;
  EXPECT_NE(damaged.message().find("exp_avg"), absl::string_view::npos) << damaged;
  // The shard lives, and takes the job from elsewhere.
  ASSERT_EQ(cluster.Open(3), absl::OkStatus());
}

TEST_F(CheckpointTest, ACheckpointOfAnotherModelIsRefused) {
  TestCluster cluster(TestSpec(), {.shards = 1, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> folder = Write(cluster, 2);
  ASSERT_TRUE(folder.ok()) << folder.status();
  TestCluster other(TinySpec(), {.shards = 1, .blobs = &disk_});
  const absl::Status refused = other.Open(1, *folder);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("model."), absl::string_view::npos) << refused;
}

TEST_F(CheckpointTest, AJobStartsFromAnExportedFolderWithTheSameWeights) {
  const v1::JobSpec spec = TestSpec();
  TestCluster cluster(spec, {.shards = 2, .blobs = &disk_});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  const absl::StatusOr<std::string> checkpoint = Write(cluster, 2);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto trained = PretrainedWeights::Open(disk_, *checkpoint);
  ASSERT_TRUE(trained.ok()) << trained.status();
  const auto exported = ExportHuggingFace(disk_, **trained, "/exported");
  ASSERT_TRUE(exported.ok()) << exported.status();
  const absl::StatusOr<std::vector<float>> weights = cluster.PullAll(1, 2);
  ASSERT_TRUE(weights.ok()) << weights.status();
  std::string digest;
  for (const std::string& from : {std::string("/exported"), *checkpoint}) {
    v1::JobSpec next = spec;
    next.mutable_model()->set_from(from);
    TestCluster other(next, {.shards = 3, .blobs = &disk_});
    ASSERT_EQ(other.Open(1), absl::OkStatus());
    EXPECT_EQ(other.PullAll(1, 0), weights) << from;
    ASSERT_EQ(other.Step(1, 1), absl::OkStatus());
    const absl::StatusOr<std::string> after = other.Digest(1);
    ASSERT_TRUE(after.ok()) << after.status();
    // Weights alone are taken, from either: the moments are zero.
    EXPECT_EQ(digest.empty() ? *after : digest, *after);
    digest = *after;
  }
  v1::JobSpec other_model = spec;
  other_model.mutable_model()->set_from("/exported");
  other_model.mutable_model()->set_layers(spec.model().layers() + 1);
  const absl::Status refused = TestCluster(other_model, {.shards = 1, .blobs = &disk_}).Open(1);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("model.layers"), std::string::npos) << refused;
}

}  // namespace
}  // namespace penstock
