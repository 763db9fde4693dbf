// Several ranks on one GPU: each is a process with an NCCL_HOSTID of its own, as NCCL refuses two ranks of one host on
// one device. They talk over loopback sockets. The test runs itself again as the ranks; without a device those tests
// are skipped, and what remains is what can be said without one.
#include "worker/comm/nccl/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/base/clock.h"
#include "worker/comm/nccl/file_rendezvous.h"
#include "worker/cuda/device.h"

extern char** environ;

namespace penstock {
namespace {

constexpr Tag kForth = 0x0100'0000;
constexpr Tag kBack = 0x0200'0000;

// Lanes forth and back between all ranks, and one group of all.
NcclTopology Everybody(int rank, int size) {
  NcclTopology topology;
  std::vector<int> all;
  for (int i = 0; i < size; ++i) {
    all.push_back(i);
    if (i == rank) continue;
    for (const Tag tag : {kForth, kBack}) {
      topology.lanes.push_back({rank, i, ChannelOf(tag)});
      topology.lanes.push_back({i, rank, ChannelOf(tag)});
    }
  }
  topology.groups.push_back(all);
  return topology;
}

// Floats on the device.
class Device {
 public:
  explicit Device(const std::vector<float>& values) : size_(values.size()) {
    cudaMalloc(&memory_, size_ * sizeof(float));
    cudaMemcpy(memory_, values.data(), size_ * sizeof(float), cudaMemcpyHostToDevice);
  }
  ~Device() { cudaFree(memory_); }
  absl::Span<float> span() { return {static_cast<float*>(memory_), size_}; }
  absl::Span<std::byte> bytes() { return AsWritableBytes(span()); }
  std::vector<float> Read() const {
    std::vector<float> values(size_);
    cudaMemcpy(values.data(), memory_, size_ * sizeof(float), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  const size_t size_;
  void* memory_ = nullptr;
};

struct Rank {
  int rank = 0;
  int size = 0;
  std::string folder;

  std::unique_ptr<Connector> MakeConnector(const std::string& epoch, absl::Duration wait, bool fast = false) const {
    std::filesystem::create_directories(folder + "/" + epoch);
    return MakeNcclConnector({.rendezvous = std::make_shared<FileRendezvous>(folder + "/" + epoch),
                              .rank = rank,
                              .size = size,
                              .topology = Everybody(rank, size),
                              .fast_sums = fast,
                              .names = {},
                              .connect_timeout = absl::Seconds(60),
                              .wait_timeout = wait});
  }
  std::unique_ptr<Communicator> Connect(const std::string& epoch, absl::Duration wait = absl::Seconds(60),
                                        bool fast = false) const {
    auto comm = MakeConnector(epoch, wait, fast)->Connect();
    EXPECT_TRUE(comm.ok()) << comm.status();
    return comm.ok() ? *std::move(comm) : nullptr;
  }
  // What the compute stream has by now, as the host waits for it.
  static absl::Status Await(Communicator& comm) {
    return comm.host_wait()([]() -> absl::StatusOr<bool> {
      const cudaError_t state = cudaStreamQuery(nullptr);
      if (state == cudaErrorNotReady) return false;
      if (state != cudaSuccess) return absl::InternalError(cudaGetErrorString(state));
      return true;
    });
  }
  // Returns when all ranks are here.
  void AwaitAll(const std::string& epoch) const {
    FileRendezvous rendezvous(folder + "/" + epoch);
    EXPECT_TRUE(rendezvous.Set(absl::StrCat("here-", rank), "yes", absl::Seconds(60)).ok());
    std::vector<std::string> keys;
    for (int i = 0; i < size; ++i) keys.push_back(absl::StrCat("here-", i));
    EXPECT_TRUE(rendezvous.Get(keys, absl::Seconds(60)).ok());
  }
  std::vector<int> all() const {
    std::vector<int> ranks;
    for (int i = 0; i < size; ++i) ranks.push_back(i);
    return ranks;
  }
};

std::vector<float> Noise(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(size);
  for (float& value : values) {
    value = std::ldexp(static_cast<float>(random()) / 4294967296.0f - 0.5f, static_cast<int>(random() % 24) - 12);
  }
  return values;
}

// Big messages both ways at once, receives posted before sends: with one communicator for both it would be stuck.
void Messages(const Rank& at) {
  auto comm = at.Connect("epoch");
  ASSERT_NE(comm, nullptr);
  const int peer = 1 - at.rank;
  constexpr int64_t kSize = 3'000'001;
  // Allocated before anything waits on the device: an allocation may wait for all of it.
  std::vector<std::unique_ptr<Device>> in, out;
  for (int i = 0; i < 8; ++i) {
    in.push_back(std::make_unique<Device>(std::vector<float>(kSize, -1.0f)));
    out.push_back(std::make_unique<Device>(Noise(kSize, 100 * at.rank + i)));
  }
  std::vector<std::shared_ptr<Transfer>> transfers;
  for (int i = 0; i < 8; ++i) {
    const Tag tag = (i % 2 == 0 ? kForth : kBack) + i / 2;
    auto recv = comm->StartRecv(peer, tag, in[i]->bytes());
    ASSERT_TRUE(recv.ok()) << recv.status();
    transfers.push_back(*recv);
    auto send = comm->StartSend(peer, tag, out[i]->bytes());
    ASSERT_TRUE(send.ok()) << send.status();
    transfers.push_back(*send);
  }
  for (auto& transfer : transfers) {
    const absl::Status status = transfer->Wait();
    ASSERT_TRUE(status.ok()) << status;
  }
  const absl::Status all_here = Rank::Await(*comm);
  ASSERT_TRUE(all_here.ok()) << all_here;
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(in[i]->Read(), Noise(kSize, 100 * peer + static_cast<int>(i))) << i;
  }
  EXPECT_EQ(comm->StartSend(peer, 0x0500'0000, out[0]->bytes()).status().code(), absl::StatusCode::kInvalidArgument);
}

std::vector<std::vector<Part>> UnevenParts(int64_t size, int members) {
  std::vector<std::vector<Part>> parts(members);
  int64_t at = 0;
  for (int i = 0; i < members; ++i) {
    const int64_t count = i + 1 == members ? size - at : size / members - 7 * i;
    parts[i] = {{at, count / 3}, {at + count / 3, count - count / 3}};
    at += count;
  }
  return parts;
}

void Sums(const Rank& at) {
  constexpr int64_t kSize = 9'000'017;  // more than one chunk of scratch
  std::vector<float> expected = Noise(kSize, 0);
  for (int i = 1; i < at.size; ++i) {
    const std::vector<float> next = Noise(kSize, i);
    for (int64_t k = 0; k < kSize; ++k) expected[k] += next[k];
  }
  for (const bool fast : {false, true}) {
    auto comm = at.Connect(fast ? "fast" : "strict", absl::Seconds(60), fast);
    ASSERT_NE(comm, nullptr);
    const auto parts = UnevenParts(kSize, at.size);
    Device data(Noise(kSize, at.rank));
    absl::Status status = comm->ReduceScatter(at.all(), data.span(), parts);
    ASSERT_TRUE(status.ok()) << status;
    status = comm->AllGather(at.all(), data.span(), parts);
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<float> sums = data.Read();
    if (fast) {
      for (int64_t k = 0; k < kSize; ++k) ASSERT_NEAR(sums[k], expected[k], 1e-2) << k;
    } else {
      ASSERT_EQ(std::memcmp(sums.data(), expected.data(), kSize * sizeof(float)), 0);
    }
    Device reduced(Noise(kSize, at.rank));
    status = comm->AllReduce(at.all(), reduced.span());
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<float> all = reduced.Read();
    for (int64_t k = 0; k < kSize; ++k) ASSERT_NEAR(all[k], expected[k], fast ? 1e-2 : 0) << k;
    Device sent(std::vector<float>(1000, at.rank == at.size - 1 ? 7.0f : 0.0f));
    status = comm->Broadcast(at.all(), at.size - 1, sent.bytes());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(sent.Read(), std::vector<float>(1000, 7.0f));
    EXPECT_TRUE(comm->Barrier(at.all()).ok());
  }
}

// A wait for a message that never comes ends with the abort, and the next epoch works.
void Abort(const Rank& at) {
  Device buffer(std::vector<float>(1 << 20, 1.0f));
  for (int epoch = 0; epoch < 3; ++epoch) {
    auto comm = at.Connect(absl::StrCat("epoch-", epoch));
    ASSERT_NE(comm, nullptr);
    ASSERT_TRUE(comm->Barrier(at.all()).ok());
    auto receive = comm->StartRecv(1 - at.rank, kForth, buffer.bytes());
    ASSERT_TRUE(receive.ok()) << receive.status();
    // From here on the device waits, and only the host can be told not to.
    EXPECT_TRUE((*receive)->Wait().ok());
    std::thread other([&] { comm->Abort(absl::CancelledError("the epoch is over")); });
    EXPECT_EQ(Rank::Await(*comm), absl::CancelledError("the epoch is over"));
    other.join();
    EXPECT_EQ(comm->Barrier(at.all()), absl::CancelledError("the epoch is over"));
    // Before that the end of the communicator would look to the peer as a lost rank does.
    at.AwaitAll(absl::StrCat("epoch-", epoch));
  }
}

// A peer whose process is gone. NCCL notices a closed connection, or else the deadline ends the wait; the peer is
// named.
void Lost(const Rank& at) {
  Device buffer(std::vector<float>(1 << 20, 1.0f));
  auto comm = at.Connect("epoch", absl::Seconds(10));
  ASSERT_NE(comm, nullptr);
  ASSERT_TRUE(comm->Barrier(at.all()).ok());
  if (at.rank == 1) _exit(0);
  // The loss may be known by now.
  absl::Status status = comm->Recv(1, kForth, buffer.bytes());
  if (status.ok()) status = Rank::Await(*comm);
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(PeerOf(status), 1);
}

const std::map<std::string, void (*)(const Rank&)>& Scenarios() {
  static const auto* const scenarios = new std::map<std::string, void (*)(const Rank&)>{
      {"Messages", Messages}, {"Sums", Sums}, {"Abort", Abort}, {"Lost", Lost}};
  return *scenarios;
}

// Runs a scenario in `size` processes.
void RunProcesses(const std::string& scenario, int size) {
  if (const auto facts = cuda::QueryDevice(0); !facts.ok()) GTEST_SKIP() << facts.status().message();
  const std::string folder = absl::StrCat(testing::TempDir(), "/nccl-", scenario, "-", size, "-", getpid());
  std::filesystem::create_directories(folder);
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    std::vector<std::string> variables;
    for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
    variables.push_back(absl::StrCat("PENSTOCK_TEST_RANK=", rank, " ", size, " ", scenario, " ", folder));
    variables.push_back(absl::StrCat("NCCL_HOSTID=penstock-test-", rank));
    for (const char* fixed : {"NCCL_SOCKET_IFNAME=lo", "NCCL_IB_DISABLE=1"}) variables.push_back(fixed);
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    std::string self = "/proc/self/exe";
    char* arguments[] = {self.data(), nullptr};
    pid_t child = 0;
    ASSERT_EQ(posix_spawn(&child, self.c_str(), nullptr, nullptr, arguments, environment.data()), 0);
    children.push_back(child);
  }
  for (size_t rank = 0; rank < children.size(); ++rank) {
    int status = 0;
    ASSERT_EQ(waitpid(children[rank], &status, 0), children[rank]);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << scenario << ", rank " << rank;
  }
  std::filesystem::remove_all(folder);
}

TEST(NcclRanksTest, MessagesGoBothWaysInOrder) { RunProcesses("Messages", 2); }
TEST(NcclRanksTest, SumsInRankOrderToTheBit) { RunProcesses("Sums", 2); }
TEST(NcclRanksTest, SumsOfThree) { RunProcesses("Sums", 3); }
TEST(NcclRanksTest, AbortEndsAWaitAndTheNextEpochComesUp) { RunProcesses("Abort", 2); }
TEST(NcclRanksTest, ALostPeerIsNamed) { RunProcesses("Lost", 2); }

TEST(NcclConnectorTest, SaysWhyItCannot) {
  if (cuda::QueryDevice(0).ok()) GTEST_SKIP() << "this machine has a device";
  const Rank rank = {.rank = 0, .size = 2, .folder = testing::TempDir()};
  const auto comm = rank.MakeConnector("none", absl::Seconds(1))->Connect();
  EXPECT_EQ(comm.status().code(), absl::StatusCode::kFailedPrecondition) << comm.status();
}

TEST(NcclConnectorTest, AnAbortComesFirst) {
  const Rank rank = {.rank = 0, .size = 2, .folder = testing::TempDir()};
  const auto connector = rank.MakeConnector("aborted", absl::Seconds(1));
  connector->Abort(absl::CancelledError("stop"));
  EXPECT_EQ(connector->Connect().status(), absl::CancelledError("stop"));
}

TEST(NcclTopologyTest, KeysAreTheSameForAllMembers) {
  EXPECT_EQ(NcclKey(NcclLane{3, 1, ChannelOf(0x0200'0007)}), "nccl/lane/3-1-2");
  EXPECT_EQ(NcclKey(std::vector<int>{1, 3, 5}), "nccl/group/1-3-5");
}

}  // namespace

int RunAsRank(const std::string& text) {
  std::istringstream words(text);
  Rank rank;
  std::string scenario;
  words >> rank.rank >> rank.size >> scenario >> rank.folder;
  Scenarios().at(scenario)(rank);
  return testing::Test::HasFailure() ? 1 : 0;
}

}  // namespace penstock

int main(int argc, char** argv) {
  penstock::cuda::PrepareEnvironment();
  testing::InitGoogleTest(&argc, argv);
  const char* const rank = std::getenv("PENSTOCK_TEST_RANK");
  return rank != nullptr ? penstock::RunAsRank(rank) : RUN_ALL_TESTS();
}
