// What a host that is ahead of its device learns, and when: two ranks of one process on emulated devices.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/clock.h"
#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/nccl/nccl_communicator.h"
#include "worker/cuda/testing/emulator/streams.h"
#include "worker/ops/cuda/testing/emulated_device.h"

namespace penstock {
namespace {

constexpr Tag kForth = 0x0100'0000;
constexpr int64_t kFloats = 1000;
constexpr int64_t kBytes = kFloats * static_cast<int64_t>(sizeof(float));

// A rank on a thread of its own.
struct Rank {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> comm;
  std::unique_ptr<DeviceMemory> memory;
  std::unique_ptr<DeviceMemory> copy;  // of what is read

  absl::Span<std::byte> bytes() const { return {memory->data(), static_cast<size_t>(kBytes)}; }
  void Fill(float value) const {
    const std::vector<float> values(kFloats, value);
    ASSERT_TRUE(backend->Copy({}, values.data(), memory->data(), kBytes).ok());
  }
  // By pinned memory: a copy to other memory of the host's waits for the stream by itself.
  std::vector<float> Read() const {
    EXPECT_TRUE(backend->Copy({}, memory->data(), copy->data(), kBytes).ok());
    const absl::Status status = backend->Synchronize({});
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) return {};
    const auto* const values = reinterpret_cast<const float*>(copy->data());
    return std::vector<float>(values, values + kFloats);
  }
};

class NcclOrderTest : public testing::Test {
 protected:
  // Runs one function for each rank, and ends when all have. Connecting exchanges messages, too: a short timeout must
  // do for them on a busy machine.
  void Run(const std::vector<std::function<void(Rank&)>>& ranks, absl::Duration wait_timeout = absl::Seconds(20)) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < ranks.size(); ++i) {
      threads.emplace_back([&, i] {
        Rank rank;
        rank.backend = CreateEmulatedDevice(static_cast<int>(i));
        rank.memory = rank.backend->Allocate(kBytes).value();
        rank.copy = rank.backend->AllocateHost(kBytes).value();
        rank.comm = Connect(static_cast<int>(i), static_cast<int>(ranks.size()), wait_timeout);
        ASSERT_NE(rank.comm, nullptr);
        rank.backend->SetHostWait(rank.comm->host_wait());
        ranks[i](rank);
        // Before the memory that messages on their way refer to.
        rank.comm.reset();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::unique_ptr<Communicator> Connect(int rank, int size, absl::Duration wait_timeout) const {
    NcclConnectorOptions options;
    options.rendezvous = std::make_shared<FakeRendezvous>(store_);
    options.rank = rank;
    options.size = size;
    options.device = rank;
    for (int from = 0; from < size; ++from) {
      for (int to = 0; to < size; ++to) {
        if (from != to && (from == rank || to == rank)) options.topology.lanes.push_back({from, to, ChannelOf(kForth)});
      }
    }
    options.topology.groups.emplace_back();
    for (int i = 0; i < size; ++i) {
      options.topology.groups[0].push_back(i);
      options.names.push_back(absl::StrCat("worker-", i));
    }
    options.wait_timeout = wait_timeout;
    auto comm = MakeNcclConnector(std::move(options))->Connect();
    EXPECT_TRUE(comm.ok()) << comm.status();
    return comm.ok() ? *std::move(comm) : nullptr;
  }

  // The device of the calling thread computes until `until`.
  void Compute(const std::atomic<bool>& until) {
    ASSERT_EQ(cuda::emulator::EnqueuePoll(nullptr, [&until] { return until.load(); }), cudaSuccess);
  }
  static void EndComputing(std::atomic<bool>& computing) {
    computing = true;
    computing.notify_all();
    cuda::emulator::Notify();
  }

  const std::shared_ptr<FakeRendezvousStore> store_ = std::make_shared<FakeRendezvousStore>();
};

// Buffers are written again and again while the messages from them are on their way.
TEST_F(NcclOrderTest, BuffersAreOneMessagesAtATime) {
  constexpr int kRounds = 200;
  std::vector<std::vector<float>> received;
  Run({[](Rank& rank) {
         for (int i = 0; i < kRounds; ++i) {
           rank.Fill(static_cast<float>(i));
           ASSERT_TRUE(rank.comm->Send(1, kForth, rank.bytes()).ok());
         }
       },
       [&](Rank& rank) {
         const auto copies = rank.backend->Allocate(kRounds * kBytes).value();
         for (int i = 0; i < kRounds; ++i) {
           ASSERT_TRUE(rank.comm->Recv(0, kForth, rank.bytes()).ok());
           ASSERT_TRUE(rank.backend->Copy({}, rank.memory->data(), copies->data() + i * kBytes, kBytes).ok());
         }
         const int64_t waits = EmulatedHostWaits();
         for (int i = 0; i < kRounds; ++i) {
           ASSERT_TRUE(rank.backend->Copy({}, copies->data() + i * kBytes, rank.memory->data(), kBytes).ok());
           received.push_back(rank.Read());
         }
         EXPECT_EQ(EmulatedHostWaits() - waits, kRounds);
       }});
  ASSERT_EQ(received.size(), static_cast<size_t>(kRounds));
  for (int i = 0; i < kRounds; ++i) EXPECT_EQ(received[i], std::vector<float>(kFloats, static_cast<float>(i))) << i;
}

TEST_F(NcclOrderTest, AMessageThatNeverComesIsLateAndNamesItsSender) {
  std::atomic<bool> over{false};
  Run({[&](Rank& rank) {
         // Posted first, but what the stream waits for is the other one.
         auto ahead = rank.comm->StartRecv(2, kForth, rank.bytes());
         ASSERT_TRUE(ahead.ok());
         ASSERT_TRUE(rank.comm->Recv(1, kForth, rank.bytes()).ok());
         const absl::Status status = rank.backend->Synchronize({});
         EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
         EXPECT_EQ(PeerOf(status), 1);
         EXPECT_NE(status.message().find("worker-1"), std::string::npos) << status;
         // It stays.
         EXPECT_EQ(rank.comm->Recv(1, kForth, rank.bytes()), status);
         over = true;
         over.notify_all();
       },
       [&](Rank&) { over.wait(false); }, [&](Rank&) { over.wait(false); }},
      absl::Seconds(1));
}

// A step may take longer than a message: while the device computes nothing is late.
TEST_F(NcclOrderTest, AComputationMayTakeLongerThanAMessage) {
  const absl::Duration timeout = absl::Milliseconds(1500);
  std::atomic<bool> computed{false};
  Run({[&](Rank& rank) {
         const auto out = rank.backend->Allocate(kBytes).value();
         // Posted ahead, and under way all the time; the send is behind the computation.
         auto ahead = rank.comm->StartRecv(1, kForth, rank.bytes());
         ASSERT_TRUE(ahead.ok());
         Compute(computed);
         ASSERT_TRUE(rank.comm->Send(1, kForth, {out->data(), static_cast<size_t>(kBytes)}).ok());
         ASSERT_TRUE((*ahead)->Wait().ok());
         std::thread other([&] {
           const absl::Time begin = Clock::Real()->Monotonic();
           while (Clock::Real()->Monotonic() - begin < 1.5 * timeout)
             std::this_thread::sleep_for(std::chrono::milliseconds(1));
           EndComputing(computed);
         });
         const absl::Status status = rank.backend->Synchronize({});
         EXPECT_TRUE(status.ok()) << status;
         other.join();
         if (status.ok()) {
           EXPECT_EQ(rank.Read(), std::vector<float>(kFloats, 7.0f));
         }
       },
       [&](Rank& rank) {
         const auto in = rank.backend->Allocate(kBytes).value();
         rank.Fill(7.0f);
         computed.wait(false);
         EXPECT_TRUE(rank.comm->Recv(0, kForth, {in->data(), static_cast<size_t>(kBytes)}).ok());
         ASSERT_TRUE(rank.comm->Send(0, kForth, rank.bytes()).ok());
         EXPECT_TRUE(rank.backend->Synchronize({}).ok());
       }},
      timeout);
}

// A rank that is done may end before its last messages have been taken.
TEST_F(NcclOrderTest, WhatWasSentArrivesThoughTheSenderEnds) {
  std::atomic<bool> ending{false};
  Run({[&](Rank& rank) {
         rank.Fill(3.0f);
         // Nobody waits for it.
         ASSERT_TRUE(rank.comm->StartSend(1, kForth, rank.bytes()).ok());
         ending = true;
         ending.notify_all();
         rank.comm.reset();
       },
       [&](Rank& rank) {
         ending.wait(false);
         ASSERT_TRUE(rank.comm->Recv(0, kForth, rank.bytes()).ok());
         EXPECT_EQ(rank.Read(), std::vector<float>(kFloats, 3.0f));
       }});
}

TEST_F(NcclOrderTest, ABarriersHostWaitsForThePeers) {
  std::atomic<bool> entering{false};
  std::atomic<bool> came{false};
  Run({[&](Rank& rank) {
         entering = true;
         entering.notify_all();
         EXPECT_TRUE(rank.comm->Barrier({0, 1}).ok());
         EXPECT_TRUE(came);
       },
       [&](Rank& rank) {
         entering.wait(false);
         // Time enough for one that doesn't.
         std::this_thread::sleep_for(std::chrono::milliseconds(20));
         came = true;
         EXPECT_TRUE(rank.comm->Barrier({0, 1}).ok());
       }});
}

// On every thread, whatever the device is at.
TEST_F(NcclOrderTest, AnAbortEndsAllWaits) {
  std::atomic<bool> over{false};
  Run({[&](Rank& rank) {
         ASSERT_TRUE(rank.comm->Recv(1, kForth, rank.bytes()).ok());
         const std::shared_ptr<Fence> fence = rank.backend->RecordFence({}).value();
         absl::Status of_fence;
         std::thread waiting([&] { of_fence = fence->Wait(); });
         std::thread aborting([&] { rank.comm->Abort(absl::CancelledError("the epoch is over")); });
         EXPECT_EQ(rank.backend->Synchronize({}), absl::CancelledError("the epoch is over"));
         waiting.join();
         aborting.join();
         EXPECT_EQ(of_fence, absl::CancelledError("the epoch is over"));
         EXPECT_EQ(rank.backend->Synchronize({}), absl::CancelledError("the epoch is over"));
         rank.comm.reset();
         // Nothing of it is left in the streams.
         EXPECT_EQ(cudaStreamQuery(nullptr), cudaSuccess);
         over = true;
         over.notify_all();
       },
       [&](Rank&) { over.wait(false); }});
}

// A device that doesn't get on holds the host up before launches would, and there an abort reaches it.
TEST_F(NcclOrderTest, TheHostIsABoundedNumberOfLayersAhead) {
  std::atomic<bool> over{false};
  Run({[&](Rank& rank) {
         ASSERT_TRUE(rank.comm->Recv(1, kForth, rank.bytes()).ok());
         for (int i = 0; i < kLayersAheadMax; ++i) ASSERT_TRUE(rank.backend->Pace({}).ok()) << i;
         std::thread aborting([&] { rank.comm->Abort(absl::CancelledError("the epoch is over")); });
         EXPECT_EQ(rank.backend->Pace({}), absl::CancelledError("the epoch is over"));
         aborting.join();
         over = true;
         over.notify_all();
       },
       [&](Rank&) { over.wait(false); }});
}

}  // namespace
}  // namespace penstock
