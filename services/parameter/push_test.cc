// What comes in through Push: any order, twice, wrong, half.
#include <gtest/gtest.h>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "services/parameter/frame.h"
#include "services/parameter/test_job.h"
#include "services/rpc/channel.h"

namespace penstock {
namespace {

// One push stream, chunk by chunk, whatever is in them.
class RawPush {
 public:
  explicit RawPush(const std::string& address) : stub_(CreateChannel(address)) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    stream_ = stub_.PrepareCall(&context_, "/penstock.v1.ParameterShard/Push", &queue_);
    stream_->StartCall(nullptr);
    EXPECT_TRUE(Next());
  }
  ~RawPush() {
    stream_.reset();
    queue_.Shutdown();
    while (Next()) {
    }
  }
  bool Write(const grpc::ByteBuffer& buffer) {
    stream_->Write(buffer, nullptr);
    return Next();
  }
  // The shard's answer.
  grpc::Status Finish() {
    stream_->WritesDone(nullptr);
    Next();
    grpc::ByteBuffer answer;
    stream_->Read(&answer, nullptr);
    Next();
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    Next();
    return status;
  }
  // As if the client's process ended.
  void Vanish() {
    context_.TryCancel();
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    Next();
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

class PushTest : public testing::Test {
 protected:
  PushTest() : reference_(TestSpec()), cluster_(TestSpec(), {.shards = 1}) {
    EXPECT_EQ(cluster_.Open(1), absl::OkStatus());
    gradient_ = TestGradient(cluster_.table, 1);
  }

  grpc::ByteBuffer Chunk(ElementRange range, uint64_t epoch = 1, uint64_t step = 1) {
    return MakePushFrame(kTestJob, epoch, step, range.begin,
                         std::span<const float>(gradient_).subspan(range.begin, range.size()));
  }
  grpc::Status PushOne(const grpc::ByteBuffer& chunk) {
    RawPush push(cluster_.servers[0]->address());
    push.Write(chunk);
    return push.Finish();
  }
  // Ends the step with what was pushed, and compares with the reference.
  void ExpectReference() {
    const absl::StatusOr<v1::StepDecision> decision = cluster_.PrepareAndDecide(1, 1);
    ASSERT_TRUE(decision.ok()) << decision.status();
    ASSERT_EQ(cluster_.Commit(0, 1, *decision), absl::OkStatus());
    reference_.Step(1);
    EXPECT_EQ(*cluster_.PullAll(1, 1), reference_.weights);
    EXPECT_EQ(*cluster_.Digest(1), reference_.Digest(1));
  }

  ReferenceJob reference_;
  TestCluster cluster_;
  std::vector<float> gradient_;
};

TEST_F(PushTest, OddChunksInAnyOrderAndTwice) {
  // Prime sizes, so that chunks straddle pieces; several streams at once, each with all chunks in another order.
  std::vector<ElementRange> chunks = SplitBySize(cluster_.table.range(), 10007);
  std::vector<std::thread> pushers;
  for (int pusher = 0; pusher < 3; ++pusher) {
    pushers.emplace_back([&, pusher] {
      std::vector<ElementRange> mine = chunks;
      std::shuffle(mine.begin(), mine.end(), std::mt19937(pusher));
      RawPush push(cluster_.servers[0]->address());
      for (const ElementRange& chunk : mine) ASSERT_TRUE(push.Write(Chunk(chunk)));
      EXPECT_TRUE(push.Finish().ok());
    });
  }
  for (std::thread& pusher : pushers) pusher.join();
  ExpectReference();
}

TEST_F(PushTest, OverlappingChunks) {
  RawPush push(cluster_.servers[0]->address());
  for (int64_t begin = 0; begin < cluster_.table.size(); begin += 30000) {
    ASSERT_TRUE(push.Write(Chunk({begin, std::min(begin + 50000, cluster_.table.size())})));
  }
  EXPECT_TRUE(push.Finish().ok());
  ExpectReference();
}

TEST_F(PushTest, WhatIsWrongIsRefusedAndChangesNothing) {
  const int64_t size = cluster_.table.size();
  // Beyond the shard's elements.
  const std::vector<float> some(100, 1.0f);
  EXPECT_EQ(PushOne(MakePushFrame(kTestJob, 1, 1, size - 50, some)).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(PushOne(MakePushFrame(kTestJob, 1, 1, UINT64_MAX - 10, some)).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  // Another job, an old epoch, a step that isn't due.
  EXPECT_EQ(PushOne(MakePushFrame("nobody", 1, 1, 0, some)).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(PushOne(MakePushFrame(kTestJob, 0, 1, 0, some)).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(PushOne(MakePushFrame(kTestJob, 1, 2, 0, some)).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  // No message at all.
  const grpc::Slice noise(std::string("\xFF\xFF\xFF\xFF\xFF\xFF"));
  EXPECT_EQ(PushOne(grpc::ByteBuffer(&noise, 1)).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // An empty one.
  EXPECT_EQ(PushOne(MakePushFrame(kTestJob, 1, 1, 0, {})).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // A stream without chunks has nothing to complain about.
  EXPECT_TRUE(RawPush(cluster_.servers[0]->address()).Finish().ok());

  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  ExpectReference();
}

TEST_F(PushTest, AWrongChecksumIsRefusedAndTheChunkCanComeAgain) {
  v1::PushChunk chunk;
  chunk.set_job_id(kTestJob);
  chunk.set_epoch(1);
  chunk.set_step(1);
  chunk.set_payload(std::string(4096, 'x'));
  chunk.set_crc32c(12345);
  const grpc::Slice bytes(chunk.SerializeAsString());
  const grpc::Status status = PushOne(grpc::ByteBuffer(&bytes, 1));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_NE(status.error_message().find("checksum"), std::string::npos) << status.error_message();
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  ExpectReference();
}

TEST_F(PushTest, ARangeThatIsMissingKeepsThePrepareWaiting) {
  RawPush push(cluster_.servers[0]->address());
  const std::vector<ElementRange> chunks = SplitBySize(cluster_.table.range(), 50000);
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (i != 3) {
      ASSERT_TRUE(push.Write(Chunk(chunks[i])));
    }
  }
  EXPECT_TRUE(push.Finish().ok());
  EXPECT_EQ(cluster_.Prepare(0, 1, 1, absl::Milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(PushOne(Chunk(chunks[3])).ok());
  ExpectReference();
}

TEST_F(PushTest, AClientThatVanishesLosesNothing) {
  const std::vector<ElementRange> chunks = SplitBySize(cluster_.table.range(), 60000);
  {
    RawPush push(cluster_.servers[0]->address());
    for (size_t i = 0; i < chunks.size() / 2; ++i) ASSERT_TRUE(push.Write(Chunk(chunks[i])));
    push.Vanish();
  }
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  ExpectReference();
}

TEST_F(PushTest, ChunksOfACommittedStepAreTakenAndDropped) {
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  ExpectReference();
  EXPECT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  EXPECT_EQ(*cluster_.PullAll(1, 1), reference_.weights);
  // The next step isn't touched by it.
  EXPECT_EQ(cluster_.Prepare(0, 1, 2, absl::Milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(PushTest, StepsBeyondTheJobsLastAreRefused) {
  for (uint64_t step = 1; step <= 6; ++step) ASSERT_EQ(cluster_.Step(1, step), absl::OkStatus());
  EXPECT_EQ(cluster_.Push(1, 7).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cluster_.Prepare(0, 1, 7).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace penstock
