// One test of what a Communicator promises, over every backend.
#include "worker/comm/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "worker/comm/comm_test_util.h"
#include "worker/comm/fake/communicator.h"
#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/gloo/gloo_communicator.h"

namespace penstock {
namespace {

std::vector<std::unique_ptr<Connector>> FakeConnectors(int size, absl::Duration wait_timeout) {
  auto network = std::make_shared<FakeNetwork>(size);
  std::vector<std::unique_ptr<Connector>> connectors;
  for (int i = 0; i < size; ++i) connectors.push_back(MakeFakeConnector(network, i, {.wait_timeout = wait_timeout}));
  return connectors;
}

std::shared_ptr<GlooDevice> LoopbackDevice() {
  static auto* const device = new std::shared_ptr<GlooDevice>(*GlooDevice::Create("127.0.0.1"));
  return *device;
}

std::vector<std::unique_ptr<Connector>> GlooConnectors(int size, absl::Duration wait_timeout) {
  auto store = std::make_shared<FakeRendezvousStore>();
  std::vector<std::unique_ptr<Connector>> connectors;
  for (int i = 0; i < size; ++i) {
    connectors.push_back(MakeGlooConnector({.device = LoopbackDevice(),
                                            .rendezvous = std::make_shared<FakeRendezvous>(store),
                                            .rank = i,
                                            .size = size,
                                            .names = {},
                                            .connect_timeout = absl::Seconds(20),
                                            .wait_timeout = wait_timeout}));
  }
  return connectors;
}

struct Backend {
  std::string name;
  ConnectorFactory connectors;
};

class CommunicatorTest : public testing::TestWithParam<Backend> {
 protected:
  std::vector<std::unique_ptr<Communicator>> Connect(int size, absl::Duration wait_timeout = absl::Seconds(20)) {
    std::vector<std::unique_ptr<Connector>> connectors = GetParam().connectors(size, wait_timeout);
    std::vector<std::unique_ptr<Communicator>> comms(size);
    RunRanks(size, [&](int rank) {
      absl::StatusOr<std::unique_ptr<Communicator>> comm = connectors[rank]->Connect();
      EXPECT_TRUE(comm.ok()) << comm.status();
      if (comm.ok()) comms[rank] = *std::move(comm);
    });
    return comms;
  }
};

std::vector<int> Everybody(int size) {
  std::vector<int> group(size);
  std::iota(group.begin(), group.end(), 0);
  return group;
}

std::vector<float> Noise(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  // Magnitudes far apart, so that another order of addition gives other bits.
  std::vector<float> values(size);
  for (float& value : values) {
    value = std::ldexp(static_cast<float>(random()) / 4294967296.0f - 0.5f, static_cast<int>(random() % 24) - 12);
  }
  return values;
}

// Uneven parts: member i owns two runs, of which some are empty.
std::vector<std::vector<Part>> UnevenParts(int64_t size, int members) {
  std::vector<std::vector<Part>> parts(members);
  int64_t at = 0;
  for (int run = 0; run < 2; ++run) {
    for (int i = 0; i < members; ++i) {
      const bool last = run == 1 && i == members - 1;
      const int64_t count = last ? size - at : (i == 1 && run == 0 ? 0 : size / (2 * members) - 3 * i);
      parts[i].push_back({at, count});
      at += count;
    }
  }
  return parts;
}

TEST_P(CommunicatorTest, MessagesArriveByTagInOrder) {
  auto comms = Connect(2);
  RunRanks(2, [&](int rank) {
    Communicator& comm = *comms[rank];
    if (rank == 0) {
      const std::vector<int32_t> values = {1, 2, 3};
      const uint64_t before = comm.counters().bytes_sent;
      std::vector<std::shared_ptr<Transfer>> sends;
      // Tag 7 is sent before tag 5 and received after it.
      for (const auto& [tag, value] : {std::pair<Tag, int>{7, 0}, {5, 1}, {5, 2}}) {
        auto send = comm.StartSend(1, tag, AsBytes(absl::MakeConstSpan(&values[value], 1)));
        ASSERT_TRUE(send.ok()) << send.status();
        sends.push_back(*send);
      }
      for (auto& send : sends) EXPECT_TRUE(send->Wait().ok());
      EXPECT_EQ(comm.counters().bytes_sent - before, 12u);
    } else {
      int32_t first = 0, second = 0, third = 0;
      EXPECT_TRUE(comm.Recv(0, 5, AsWritableBytes(absl::MakeSpan(&first, 1))).ok());
      EXPECT_TRUE(comm.Recv(0, 5, AsWritableBytes(absl::MakeSpan(&second, 1))).ok());
      EXPECT_TRUE(comm.Recv(0, 7, AsWritableBytes(absl::MakeSpan(&third, 1))).ok());
      EXPECT_EQ(first, 2);
      EXPECT_EQ(second, 3);
      EXPECT_EQ(third, 1);
    }
  });
}

TEST_P(CommunicatorTest, ReduceScatterAddsInRankOrderToTheBit) {
  for (const int size : {1, 2, 3, 5}) {
    // More than one chunk for each member.
    const int64_t elements = size == 5 ? 70'001 : 1'400'003;
    const auto parts = UnevenParts(elements, size);
    std::vector<std::vector<float>> data(size), original(size);
    std::vector<float> expected;
    for (int i = 0; i < size; ++i) {
      data[i] = original[i] = Noise(elements, 100 + i);
      if (i == 0) expected = data[0];
      for (int64_t k = 0; i > 0 && k < elements; ++k) expected[k] += data[i][k];
    }
    auto comms = Connect(size);
    RunRanks(size, [&](int rank) {
      const absl::Status status = comms[rank]->ReduceScatter(Everybody(size), absl::MakeSpan(data[rank]), parts);
      EXPECT_TRUE(status.ok()) << status;
    });
    for (int owner = 0; owner < size; ++owner) {
      for (int member = 0; member < size; ++member) {
        for (const Part& part : parts[member]) {
          const float* want = (owner == member ? expected : original[owner]).data() + part.begin;
          ASSERT_EQ(std::memcmp(data[owner].data() + part.begin, want, part.count * sizeof(float)), 0)
              << "size " << size << ", owner " << owner << ", part of " << member;
        }
      }
    }
    RunRanks(size, [&](int rank) {
      EXPECT_TRUE(comms[rank]->AllGather(Everybody(size), absl::MakeSpan(data[rank]), parts).ok());
    });
    for (int i = 0; i < size; ++i) {
      ASSERT_EQ(std::memcmp(data[i].data(), expected.data(), elements * sizeof(float)), 0) << "member " << i;
    }
  }
}

TEST_P(CommunicatorTest, AnAllReduceAddsInRankOrderToTheBit) {
  for (const int size : {1, 2, 3, 5}) {
    // More than one chunk for each member, one that two members swap, and less than an element for some.
    for (const int64_t elements : {int64_t{1'400'003}, int64_t{100'003}, int64_t{3}}) {
      std::vector<std::vector<float>> data(size);
      std::vector<float> expected;
      for (int i = 0; i < size; ++i) {
        data[i] = Noise(elements, 100 + i);
        if (i == 0) expected = data[0];
        for (int64_t k = 0; i > 0 && k < elements; ++k) expected[k] += data[i][k];
      }
      auto comms = Connect(size);
      RunRanks(size, [&](int rank) {
        for (int times = 0; times < 2; ++times) {
          std::vector<float> sum = data[rank];
          const absl::Status status = comms[rank]->AllReduce(Everybody(size), absl::MakeSpan(sum));
          EXPECT_TRUE(status.ok()) << status;
          EXPECT_EQ(std::memcmp(sum.data(), expected.data(), elements * sizeof(float)), 0)
              << "size " << size << ", member " << rank << ", " << elements << " elements";
        }
      });
    }
  }
}

TEST_P(CommunicatorTest, CollectivesOfAGroupLeaveTheOthersAlone) {
  constexpr int kSize = 4;
  const std::vector<int> group = {1, 3};
  auto comms = Connect(kSize);
  std::vector<std::vector<float>> data(kSize);
  for (int i = 0; i < kSize; ++i) data[i] = {static_cast<float>(i), 10.0f * i, 0.5f};
  RunRanks(kSize, [&](int rank) {
    if (rank % 2 == 0) return;
    EXPECT_TRUE(comms[rank]->AllReduce(group, absl::MakeSpan(data[rank])).ok());
    EXPECT_TRUE(comms[rank]->Barrier(group).ok());
    std::vector<float> sent(300'000, rank == 3 ? 7.0f : 0.0f);
    EXPECT_TRUE(comms[rank]->Broadcast(group, 1, AsWritableBytes(absl::MakeSpan(sent))).ok());
    EXPECT_EQ(sent.front(), 7.0f);
    EXPECT_EQ(sent.back(), 7.0f);
    EXPECT_GE(comms[rank]->counters().collectives, 3u);
  });
  EXPECT_EQ(data[1], (std::vector<float>{4.0f, 40.0f, 1.0f}));
  EXPECT_EQ(data[3], data[1]);
  EXPECT_EQ(data[0], (std::vector<float>{0.0f, 0.0f, 0.5f}));
  // A rank that isn't a member.
  EXPECT_EQ(comms[0]->Barrier(group).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(CommunicatorTest, ABarrierHoldsUntilTheLastOneComes) {
  constexpr int kSize = 3;
  auto comms = Connect(kSize);
  std::atomic<int> arrived{0};
  RunRanks(kSize, [&](int rank) {
    arrived.fetch_add(1);
    ASSERT_TRUE(comms[rank]->Barrier(Everybody(kSize)).ok());
    EXPECT_EQ(arrived.load(), kSize);
  });
}

// Both sizes below and above what travels in one of Gloo's messages, and one on either side.
TEST_P(CommunicatorTest, AMessageOfAnotherSizeIsAnError) {
  for (const auto& [sent, expected] :
       {std::pair<size_t, size_t>{4000, 2000}, {2000, 4000}, {200'000, 2000}, {2000, 200'000}, {200'000, 100'000}}) {
    SCOPED_TRACE(absl::StrCat(sent, " bytes, ", expected, " expected"));
    const std::vector<std::byte> message(sent, std::byte{1});
    std::vector<std::byte> guarded(std::max(sent, expected), std::byte{5});
    auto comms = Connect(2);
    RunRanks(2, [&, sent = sent, expected = expected](int rank) {
      if (rank == 0) {
        // The receiver finds out; the sender may wait until it is aborted.
        auto send = comms[0]->StartSend(1, 3, message);
        ASSERT_TRUE(send.ok());
      } else {
        const absl::Status status = comms[1]->Recv(0, 3, absl::MakeSpan(guarded).first(expected));
        EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
        EXPECT_EQ(PeerOf(status), 0);
        const std::string what = absl::StrCat(sent, " bytes where ", expected, " were expected");
        EXPECT_NE(status.message().find(what), absl::string_view::npos) << status;
        // From now on it is dead, with the same cause.
        EXPECT_EQ(comms[1]->Barrier(Everybody(2)).code(), absl::StatusCode::kInternal);
      }
    });
    for (const std::byte value : guarded) ASSERT_EQ(value, std::byte{5});
  }
}

TEST_P(CommunicatorTest, MessagesOfEverySizeArriveWhole) {
  const std::vector<size_t> sizes = {1, 1008, 65'535, 65'536, 65'537, 1'000'003};
  auto comms = Connect(2);
  const auto byte = [](size_t message, size_t i) { return static_cast<std::byte>((i * 7 + message) % 251); };
  RunRanks(2, [&](int rank) {
    std::vector<std::shared_ptr<Transfer>> transfers;
    std::vector<std::vector<std::byte>> data;
    for (const size_t size : sizes) data.emplace_back(size);
    // All of one tag, so that long and short ones keep their order.
    for (size_t message = 0; message < sizes.size(); ++message) {
      for (size_t i = 0; rank == 0 && i < sizes[message]; ++i) data[message][i] = byte(message, i);
      auto transfer = rank == 0 ? comms[0]->StartSend(1, 4, data[message])
                                : comms[1]->StartRecv(0, 4, absl::MakeSpan(data[message]));
      ASSERT_TRUE(transfer.ok()) << transfer.status();
      transfers.push_back(*std::move(transfer));
    }
    for (const auto& transfer : transfers) ASSERT_TRUE(transfer->Wait().ok());
    for (size_t message = 0; message < sizes.size(); ++message) {
      for (size_t i = 0; i < sizes[message]; ++i) ASSERT_EQ(data[message][i], byte(message, i)) << message << ", " << i;
    }
  });
}

TEST_P(CommunicatorTest, AbortEndsWaitsOfReceivesAndSendsAtOnce) {
  for (const bool send : {false, true}) {
    std::vector<float> buffer(1 << 20, 1.0f);
    auto comms = Connect(2);
    absl::Notification posted;
    absl::Status status;
    std::thread waiter([&] {
      auto transfer = send ? comms[0]->StartSend(1, 1, AsBytes(absl::MakeConstSpan(buffer)))
                           : comms[0]->StartRecv(1, 1, AsWritableBytes(absl::MakeSpan(buffer)));
      posted.Notify();
      status = transfer.ok() ? (*transfer)->Wait() : transfer.status();
    });
    posted.WaitForNotification();
    const absl::Time begin = absl::Now();
    comms[0]->Abort(absl::CancelledError("stop: the job was cancelled"));
    waiter.join();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
    EXPECT_EQ(status, absl::CancelledError("stop: the job was cancelled"));
    // The first reason stays, and nothing starts any more.
    comms[0]->Abort(absl::InternalError("later"));
    EXPECT_EQ(comms[0]->Barrier(Everybody(2)), absl::CancelledError("stop: the job was cancelled"));
    comms[0].reset();
  }
}

TEST_P(CommunicatorTest, AbortEndsACollective) {
  std::vector<std::vector<float>> data(3, std::vector<float>(400'000, 1.0f));
  auto comms = Connect(3);
  RunRanks(3, [&](int rank) {
    if (rank == 2) {  // never comes
      comms[0]->Abort(absl::AbortedError("gone"));
      comms[1]->Abort(absl::AbortedError("gone"));
      return;
    }
    EXPECT_EQ(comms[rank]->AllReduce(Everybody(3), absl::MakeSpan(data[rank])), absl::AbortedError("gone"));
  });
}

TEST_P(CommunicatorTest, WhatWasSentBeforeTheEndArrives) {
  constexpr int kMessages = 40;
  auto comms = Connect(2);
  RunRanks(2, [&](int rank) {
    float value = 0;
    if (rank == 0) {
      for (int i = 0; i < kMessages; ++i) {
        value = static_cast<float>(i);
        ASSERT_EQ(comms[0]->Send(1, 1, AsBytes(absl::MakeConstSpan(&value, 1))), absl::OkStatus());
        // Sent, so it may change.
        value = -1;
      }
      comms[0].reset();
    } else {
      for (int i = 0; i < kMessages; ++i) {
        ASSERT_EQ(comms[1]->Recv(0, 1, AsWritableBytes(absl::MakeSpan(&value, 1))), absl::OkStatus());
        EXPECT_EQ(value, static_cast<float>(i));
      }
    }
  });
}

TEST_P(CommunicatorTest, ALostPeerIsNamed) {
  std::vector<float> from_lost(100);
  const std::vector<float> message(100'000, 3.0f);
  auto comms = Connect(3);
  RunRanks(3, [&](int rank) {
    if (rank == 2) {
      comms[2].reset();
    } else if (rank == 1) {
      const absl::Status status = comms[1]->Recv(2, 1, AsWritableBytes(absl::MakeSpan(from_lost)));
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      EXPECT_EQ(PeerOf(status), 2);
      // For users: without places in a library's sources.
      EXPECT_EQ(status.message().find(".cc"), absl::string_view::npos) << status;
    } else {
      // A send that the lost peer never takes fails in the same way.
      const absl::Status status = comms[0]->Send(2, 1, AsBytes(absl::MakeConstSpan(message)));
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      EXPECT_EQ(PeerOf(status), 2);
    }
  });
}

TEST_P(CommunicatorTest, ASilentPeerIsNamedAfterTheDeadline) {
  std::vector<float> buffer(10);
  auto comms = Connect(2, absl::Milliseconds(80));
  const absl::Status status = comms[0]->Recv(1, 1, AsWritableBytes(absl::MakeSpan(buffer)));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_EQ(PeerOf(status), 1);
}

TEST_P(CommunicatorTest, WrongArgumentsAreRefused) {
  auto comms = Connect(2);
  std::vector<float> data(8);
  const auto bytes = AsWritableBytes(absl::MakeSpan(data));
  EXPECT_EQ(comms[0]->StartRecv(0, 1, bytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->StartRecv(2, 1, bytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->StartRecv(-1, 1, bytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->StartRecv(1, kTagLimit, bytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->StartRecv(1, 1, {}).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<std::vector<Part>> outside = {{{0, 9}}, {}};
  EXPECT_EQ(comms[0]->ReduceScatter(Everybody(2), absl::MakeSpan(data), outside).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->AllGather(Everybody(2), absl::MakeSpan(data), {}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comms[0]->Broadcast(Everybody(2), 2, bytes).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(CommunicatorTest, ANewEpochComesUpAfterAFailedOne) {
  for (int epoch = 0; epoch < 3; ++epoch) {
    auto comms = Connect(3);
    RunRanks(3, [&](int rank) { EXPECT_TRUE(comms[rank]->Barrier(Everybody(3)).ok()); });
    comms[epoch % 3]->Abort(absl::AbortedError("the epoch is over"));
    comms.clear();
  }
}

TEST_P(CommunicatorTest, AbortEndsConnecting) {
  std::vector<std::unique_ptr<Connector>> connectors = GetParam().connectors(3, absl::Seconds(20));
  absl::Notification begun;
  absl::Status status;
  std::thread waiter([&] {
    begun.Notify();
    status = connectors[0]->Connect().status();
  });
  begun.WaitForNotification();
  const absl::Time begin = absl::Now();
  connectors[0]->Abort(absl::CancelledError("stop"));
  waiter.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  EXPECT_EQ(status, absl::CancelledError("stop"));
}

INSTANTIATE_TEST_SUITE_P(Backends, CommunicatorTest,
                         testing::Values(Backend{"Fake", FakeConnectors}, Backend{"Gloo", GlooConnectors}),
                         [](const auto& info) { return info.param.name; });

TEST(GlooConnectorTest, NamesTheRanksThatDidNotCome) {
  auto store = std::make_shared<FakeRendezvousStore>();
  absl::Status statuses[2];
  RunRanks(2, [&](int rank) {
    auto connector = MakeGlooConnector({.device = LoopbackDevice(),
                                        .rendezvous = std::make_shared<FakeRendezvous>(store),
                                        .rank = rank,
                                        .size = 4,
                                        .names = {"worker-0", "worker-1", "worker-2", "worker-3"},
                                        .connect_timeout = absl::Milliseconds(150)});
    statuses[rank] = connector->Connect().status();
  });
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(PeerOf(status), 2);
    EXPECT_NE(status.message().find("rank 2 (worker-2), rank 3 (worker-3) didn't come"), absl::string_view::npos)
        << status;
  }
}

TEST(GlooConnectorTest, AbortWhileAPeerThatPublishedNeverConnects) {
  // Of two addresses the smaller one's side listens, or the other way round: with a port below and one above every real
  // one, rank 0 waits for a connection that never comes in one case and is refused in the other.
  int aborted = 0;
  for (const uint16_t port : {uint16_t{1}, uint16_t{65535}}) {
    auto store = std::make_shared<FakeRendezvousStore>();
    auto connector = MakeGlooConnector({.device = LoopbackDevice(),
                                        .rendezvous = std::make_shared<FakeRendezvous>(store),
                                        .rank = 0,
                                        .size = 2,
                                        .names = {},
                                        .connect_timeout = absl::Seconds(30)});
    absl::Status status;
    const absl::Time begin = absl::Now();
    absl::Notification returned;
    std::thread waiter([&] {
      status = connector->Connect().status();
      returned.Notify();
    });
    // What rank 1 would publish: its pair's address for rank 0, and nothing for itself.
    FakeRendezvous ghost(store);
    std::string address = ghost.Get({"gloo/rank/0"}, absl::Seconds(20))->front().substr(2);
    address[2 + 2] = static_cast<char>(port >> 8);  // sockaddr_in, after the length's two bytes
    address[2 + 3] = static_cast<char>(port & 0xff);
    ASSERT_TRUE(ghost.Set("gloo/rank/1", address + std::string(2, '\0'), absl::Seconds(20)).ok());
    // Time to get into the wait; the test holds wherever the abort finds it.
    returned.WaitForNotificationWithTimeout(absl::Milliseconds(100));
    connector->Abort(absl::CancelledError("stop"));
    waiter.join();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
    if (status == absl::CancelledError("stop")) {
      ++aborted;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      EXPECT_EQ(PeerOf(status), 1);
    }
  }
  EXPECT_GE(aborted, 1);
}

TEST(GlooDeviceTest, AnAddressOfAnotherMachineIsRefused) {
  const auto device = GlooDevice::Create("192.0.2.1");
  EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument) << device.status();
}

}  // namespace
}  // namespace penstock
