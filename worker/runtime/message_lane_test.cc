#include "worker/runtime/message_lane.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "core/schedule/message_buffers.h"
#include "core/schedule/schedule.h"
#include "worker/comm/fake/communicator.h"

namespace penstock {
namespace {

TEST(MessageLaneTest, BuffersFollowFromTheList) {
  for (const ScheduleKind kind : {ScheduleKind::kGpipe, ScheduleKind::k1F1B, ScheduleKind::kForwardOnly}) {
    const Schedule schedule = *BuildSchedule(kind, 3, 6);
    const bool trains = kind != ScheduleKind::kForwardOnly;
    // The ends of the pipeline have no neighbour on one side.
    EXPECT_EQ(RecvBuffersFor(schedule[0], Op::kRecvActivation), 0);
    EXPECT_EQ(SendBuffersFor(schedule[0], Op::kSendGradient), 0);
    EXPECT_EQ(SendBuffersFor(schedule[2], Op::kSendActivation), 0);
    EXPECT_EQ(RecvBuffersFor(schedule[2], Op::kRecvGradient), 0);
    // However deep the pipeline: the message in use and one on its way, two where a receive comes before the send.
    for (int stage : {1, 2}) {
      const int receives = RecvBuffersFor(schedule[stage], Op::kRecvActivation);
      EXPECT_GE(receives, 1 + kReceivesAhead);
      EXPECT_LE(receives, 2 + kReceivesAhead);
    }
    EXPECT_EQ(SendBuffersFor(schedule[1], Op::kSendActivation), 1 + kSendsBehind);
    EXPECT_EQ(RecvBuffersFor(schedule[1], Op::kRecvGradient), trains ? 1 + kReceivesAhead : 0);
    EXPECT_EQ(SendBuffersFor(schedule[1], Op::kSendGradient), trains ? 1 + kSendsBehind : 0);
  }
}

TEST(MessageLaneTest, MessagesReachTheirMicroBatchInAnyOrderOfUse) {
  // The receiver holds two messages at once and uses the later one first.
  const std::vector<Instruction> receiving = {
      {Op::kRecvActivation, 0, 0}, {Op::kRecvActivation, 1, 0}, {Op::kForward, 1, -1},
      {Op::kForward, 0, -1},       {Op::kRecvActivation, 2, 0}, {Op::kForward, 2, -1},
  };
  const int buffers = RecvBuffersFor(receiving, Op::kRecvActivation);
  EXPECT_EQ(buffers, 2 + kReceivesAhead);
  auto network = std::make_shared<FakeNetwork>(2);
  std::unique_ptr<Communicator> comms[] = {network->Join(0, {}), network->Join(1, {})};
  std::thread sender([&] {
    std::vector<std::vector<std::byte>> memory(1 + kSendsBehind, std::vector<std::byte>(20));
    SendLane lane(Op::kSendActivation, 100);
    lane.Bind(comms[0].get(), 1, {memory.begin(), memory.end()});
    for (int round = 0; round < 2; ++round) {
      for (int mb = 0; mb < 3; ++mb) {
        const auto buffer = lane.Acquire(mb);
        ASSERT_TRUE(buffer.ok()) << buffer.status();
        std::fill(buffer->begin(), buffer->end(), static_cast<std::byte>(10 * round + mb));
        ASSERT_TRUE(lane.Send(mb).ok());
      }
      ASSERT_TRUE(lane.Flush().ok());
    }
    // Nothing was computed for it.
    EXPECT_EQ(lane.Send(7).code(), absl::StatusCode::kInternal);
  });
  std::vector<std::vector<std::byte>> memory(buffers, std::vector<std::byte>(20));
  RecvLane lane(Op::kRecvActivation, 100);
  lane.Bind(comms[1].get(), 0, {memory.begin(), memory.end()});
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(lane.Begin(receiving).ok());
    for (const Instruction& instruction : receiving) {
      if (instruction.op == Op::kRecvActivation) {
        ASSERT_TRUE(lane.Receive(instruction.micro_batch).ok());
        continue;
      }
      const std::span<std::byte> message = lane.Message(instruction.micro_batch);
      for (const std::byte value : message) {
        EXPECT_EQ(value, static_cast<std::byte>(10 * round + instruction.micro_batch));
      }
      ASSERT_TRUE(lane.Release(instruction.micro_batch).ok());
    }
  }
  sender.join();
}

}  // namespace
}  // namespace penstock
