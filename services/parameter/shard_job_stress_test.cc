// One job under many hands at once, without a network: what is pulled is of one version, what is committed is the
// reference's, whatever comes twice, late or under a dead epoch meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "core/commit/decision.h"
#include "services/parameter/limits.h"
#include "services/parameter/shard_job.h"
#include "services/parameter/test_job.h"
#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

class BlockingWaiter final : public Waiter {
 public:
  void Wake() override {
    std::lock_guard<std::mutex> lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return woken_; });
    woken_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
};

// Calls until it doesn't have to wait any more.
template <typename Call>
absl::Status Until(Call call) {
  const auto waiter = std::make_shared<BlockingWaiter>();
  while (true) {
    const absl::StatusOr<Progress> progress = call(waiter);
    if (!progress.ok() || *progress == Progress::kDone) return progress.status();
    waiter->Wait();
  }
}

class ShardJobStressTest : public testing::Test {
 protected:
  static constexpr uint64_t kSteps = 6;

  ShardJobStressTest() : budget_(0), pool_(2), spec_(TestSpec(kSteps)), reference_(spec_) {
    v1::OpenJobRequest request;
    request.set_job_id(kTestJob);
    *request.mutable_spec() = spec_;
    request.set_shard_count(1);
    request.set_epoch(1);
    std::atomic<bool> cancelled{false};
    absl::StatusOr<std::shared_ptr<ShardJob>> job =
        ShardJob::Open(request, {.budget = &budget_, .compute = &pool_, .blobs = &disk_, .incarnation = 1}, cancelled);
    EXPECT_TRUE(job.ok()) << job.status();
    job_ = *job;
    versions_.push_back(reference_.weights);
    for (uint64_t step = 1; step <= kSteps; ++step) {
      reference_.Step(step);
      versions_.push_back(reference_.weights);
    }
  }

  void Push(uint64_t step, int seed) {
    const std::vector<float> gradient = TestGradient(reference_.table, step);
    std::vector<ElementRange> chunks = SplitBySize(reference_.table.range(), 20011);
    std::shuffle(chunks.begin(), chunks.end(), std::mt19937(seed));
    for (const ElementRange& chunk : chunks) {
      const absl::StatusOr<PushFrame> frame = ParsePushFrame(
          MakePushFrame(kTestJob, 1, step, chunk.begin,
                        std::span<const float>(gradient).subspan(chunk.begin, static_cast<size_t>(chunk.size()))));
      ASSERT_TRUE(frame.ok());
      const absl::Status status = job_->PushChunk(1, step, *frame).status();
      // The other pushers may have brought the step to its end, and beyond, already.
      ASSERT_TRUE(status.ok() || absl::IsFailedPrecondition(status)) << status;
    }
  }

  void Commit(uint64_t step) {
    v1::PrepareRequest prepare;
    prepare.set_epoch(1);
    prepare.set_step(step);
    *prepare.mutable_inputs() = TestInputs(step);
    v1::PrepareResponse prepared;
    ASSERT_EQ(Until([&](const WaiterPtr& waiter) { return job_->Prepare(prepare, waiter, &prepared); }),
              absl::OkStatus());
    const absl::StatusOr<v1::StepDecision> decision = Decide(spec_.optimizer(), kSteps, {prepared.prepared()});
    ASSERT_TRUE(decision.ok()) << decision.status();
    v1::CommitRequest commit;
    commit.set_epoch(1);
    *commit.mutable_decision() = *decision;
    std::vector<std::thread> leaders;
    for (int i = 0; i < 2; ++i) {
      leaders.emplace_back([&] {
        v1::CommitResponse response;
        EXPECT_EQ(Until([&](const WaiterPtr& waiter) { return job_->Commit(commit, waiter, &response); }),
                  absl::OkStatus());
        EXPECT_EQ(response.committed_step(), step);
      });
    }
    for (std::thread& leader : leaders) leader.join();
  }

  // Reads one version, chunk by chunk, unless it is replaced meanwhile. Chunks that did come are of that version.
  void Pull(uint64_t version) {
    for (const ElementRange& part : SplitBySize(reference_.table.range(), 30000)) {
      grpc::ByteBuffer buffer;
      const absl::Status status =
          Until([&](const WaiterPtr& waiter) { return job_->PullChunk(1, version, part, {}, waiter, &buffer); });
      if (absl::IsFailedPrecondition(status)) {
        ++replaced_;
        return;
      }
      ASSERT_EQ(status, absl::OkStatus());
      const absl::StatusOr<PullFrame> frame = ParsePullFrame(buffer);
      ASSERT_TRUE(frame.ok());
      std::vector<float> elements(part.size());
      frame->payload.CopyTo(0, {reinterpret_cast<uint8_t*>(elements.data()), elements.size() * sizeof(float)});
      ASSERT_TRUE(std::equal(elements.begin(), elements.end(), versions_[version].begin() + part.begin))
          << "version " << version << " at " << part.ToString();
    }
    ++whole_;
  }

  MemoryBudget budget_;
  ThreadPool pool_;
  FakeBlobs disk_;
  const v1::JobSpec spec_;
  ReferenceJob reference_;
  std::vector<std::vector<float>> versions_;
  std::shared_ptr<ShardJob> job_;
  std::atomic<int> replaced_{0};
  std::atomic<int> whole_{0};
};

TEST_F(ShardJobStressTest, NoMixtureOfVersions) {
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!done) Pull(job_->committed_step());
    });
  }
  std::thread digester([&] {
    while (!done) {
      const absl::Status status = job_->GetDigest(job_->committed_step()).status();
      EXPECT_TRUE(status.ok() || absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) << status;
    }
  });
  for (uint64_t step = 1; step <= kSteps; ++step) {
    std::vector<std::thread> pushers;
    for (int i = 0; i < 3; ++i) pushers.emplace_back([this, step, i] { Push(step, i); });
    Commit(step);
    for (std::thread& pusher : pushers) pusher.join();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  digester.join();
  Pull(kSteps);
  EXPECT_GT(whole_, 0);
  EXPECT_EQ(job_->committed_step(), kSteps);
}

TEST_F(ShardJobStressTest, ASealAmidPushes) {
  std::vector<std::thread> pushers;
  for (int i = 0; i < 3; ++i) pushers.emplace_back([this, i] { Push(1, i); });
  v1::SealRequest seal;
  seal.set_epoch(2);
  v1::SealResponse report;
  std::vector<std::thread> sealers;
  for (int i = 0; i < 2; ++i) {
    sealers.emplace_back([&] {
      v1::SealResponse mine;
      EXPECT_EQ(Until([&](const WaiterPtr& waiter) { return job_->Seal(seal, waiter, &mine); }), absl::OkStatus());
      EXPECT_EQ(mine.committed_step(), 0u);
      EXPECT_FALSE(mine.has_prepared());
    });
  }
  for (std::thread& sealer : sealers) sealer.join();
  for (std::thread& pusher : pushers) pusher.join();
  EXPECT_EQ(job_->sealed_epoch(), 2u);
}

TEST_F(ShardJobStressTest, CloseAmidEverything) {
  std::vector<std::thread> others;
  const std::vector<float> gradient = TestGradient(reference_.table, 1);
  for (int i = 0; i < 3; ++i) {
    others.emplace_back([&, i] {
      for (const ElementRange& chunk : SplitBySize(reference_.table.range(), 10007 + i)) {
        const absl::StatusOr<PushFrame> frame = ParsePushFrame(
            MakePushFrame(kTestJob, 1, 1, chunk.begin,
                          std::span<const float>(gradient).subspan(chunk.begin, static_cast<size_t>(chunk.size()))));
        grpc::ByteBuffer buffer;
        const bool pushed = job_->PushChunk(1, 1, *frame).ok();
        const auto waiter = std::make_shared<BlockingWaiter>();
        const bool pulled = job_->PullChunk(1, 0, chunk, {}, waiter, &buffer).ok();
        if (!pushed && !pulled) return;  // closed
      }
    });
  }
  ASSERT_EQ(job_->BeginClose(1), absl::OkStatus());
  ASSERT_EQ(job_->Close(), absl::OkStatus());
  EXPECT_EQ(budget_.bytes_held(), 0u);
  for (std::thread& other : others) other.join();
  EXPECT_EQ(job_->PushBegin(1, 1).code(), absl::StatusCode::kNotFound);
}

TEST_F(ShardJobStressTest, WaitersAreBounded) {
  v1::PrepareRequest prepare;
  prepare.set_epoch(1);
  prepare.set_step(1);
  *prepare.mutable_inputs() = TestInputs(1);
  v1::PrepareResponse response;
  std::vector<std::shared_ptr<BlockingWaiter>> waiters;
  for (int i = 0; i < kWaitersMax; ++i) {
    waiters.push_back(std::make_shared<BlockingWaiter>());
    ASSERT_TRUE(job_->Prepare(prepare, waiters.back(), &response).ok());
  }
  const auto another = std::make_shared<BlockingWaiter>();
  EXPECT_EQ(job_->Prepare(prepare, another, &response).status().code(), absl::StatusCode::kResourceExhausted);
  job_->Forget(waiters[5].get());
  EXPECT_TRUE(job_->Prepare(prepare, another, &response).ok());
}

}  // namespace
}  // namespace penstock
