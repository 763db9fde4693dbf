// The speed of our exchange and our messages between two ranks on loopback, beside Gloo's own ring all-reduce and
// Gloo's own unbound buffers. Prints JSON, all of it measured by turns in the same run:
//
//   *_gb_per_second       bytes of the buffer (all-reduce of 100 MB), or of the messages that follow one another
//   *_microseconds        an all-reduce of 400 KB; one way of a message of 8 bytes that goes to and fro
//
//   bazel run //tests/bench:exchange_bench [-- ROUNDS]
#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/hash_store.h>
#include <gloo/transport/tcp/attr.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "services/base/heap.h"
#include "tests/bench/bench_stats.h"
#include "worker/comm/comm_test_util.h"
#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/gloo/gloo_communicator.h"

namespace penstock {
namespace {

constexpr size_t kReduceElements = 25'000'000;  // 100 MB
constexpr size_t kLittleElements = 100'000;
constexpr int kLittleReduces = 200;
// Of activations: 4 KiB to 16 MiB.
constexpr size_t kMessageKib[] = {4, 16, 64, 256, 1024, 4096, 16384};
constexpr size_t kMessageBytesTotal = size_t{64} << 20;
constexpr size_t kMessagesMax = 1000;
constexpr size_t kMessageBytesMost = size_t{16384} << 10;
constexpr int kSmallMessages = 1000;
constexpr std::chrono::seconds kWait(30);

struct Buffers {
  std::vector<float> reduce[2] = {std::vector<float>(kReduceElements, 1), std::vector<float>(kReduceElements, 2)};
  std::vector<std::byte> message[2] = {std::vector<std::byte>(kMessageBytesMost),
                                       std::vector<std::byte>(kMessageBytesMost)};
  std::vector<std::byte> small[2] = {std::vector<std::byte>(8), std::vector<std::byte>(8)};
};

// Gloo as its own users use it.
class Bare {
 public:
  Bare() {
    gloo::transport::tcp::attr attr;
    attr.hostname = "127.0.0.1";
    auto store = std::make_shared<gloo::rendezvous::HashStore>();
    RunRanks(2, [&](int rank) {
      auto device = gloo::transport::tcp::CreateDevice(attr);
      contexts_[rank] = std::make_shared<gloo::rendezvous::Context>(rank, 2);
      contexts_[rank]->connectFullMesh(*store, device);
    });
  }

  void AllReduce(Buffers& buffers, size_t elements, int times) {
    RunRanks(2, [&](int rank) {
      for (int i = 0; i < times; ++i) {
        gloo::AllreduceOptions options(contexts_[rank]);
        options.setOutput(buffers.reduce[rank].data(), elements);
        options.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
        options.setReduceFunction(static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
        gloo::allreduce(options);
      }
    });
  }

  void Stream(Buffers& buffers, size_t bytes, size_t messages) {
    RunRanks(2, [&](int rank) {
      for (size_t i = 0; i < messages; ++i) One(rank, rank == 0, absl::MakeSpan(buffers.message[rank]).first(bytes));
    });
  }

  void PingPong(Buffers& buffers, int messages) {
    RunRanks(2, [&](int rank) {
      for (int i = 0; i < messages; ++i) One(rank, i % 2 == rank, absl::MakeSpan(buffers.small[rank]));
    });
  }

 private:
  void One(int rank, bool send, absl::Span<std::byte> data) {
    auto buffer = contexts_[rank]->createUnboundBuffer(data.data(), data.size());
    if (send) {
      buffer->send(1 - rank, 7);
      buffer->waitSend(kWait);
    } else {
      buffer->recv(1 - rank, 7);
      buffer->waitRecv(kWait);
    }
  }

  std::shared_ptr<gloo::rendezvous::Context> contexts_[2];
};

class Ours {
 public:
  Ours() {
    auto store = std::make_shared<FakeRendezvousStore>();
    RunRanks(2, [&](int rank) {
      auto device = GlooDevice::Create("127.0.0.1");
      PENSTOCK_CHECK(device.ok());
      connectors_[rank] = MakeGlooConnector({.device = *device,
                                             .rendezvous = std::make_shared<FakeRendezvous>(store),
                                             .rank = rank,
                                             .size = 2,
                                             .names = {}});
      auto comm = connectors_[rank]->Connect();
      PENSTOCK_CHECK(comm.ok());
      comms_[rank] = *std::move(comm);
    });
  }

  void AllReduce(Buffers& buffers, size_t elements, int times) {
    RunRanks(2, [&](int rank) {
      const absl::Span<float> data(buffers.reduce[rank].data(), elements);
      for (int i = 0; i < times; ++i) PENSTOCK_CHECK(comms_[rank]->AllReduce({0, 1}, data).ok());
    });
  }
  void Stream(Buffers& buffers, size_t bytes, size_t messages) {
    RunRanks(2, [&](int rank) {
      for (size_t i = 0; i < messages; ++i) One(rank, rank == 0, absl::MakeSpan(buffers.message[rank]).first(bytes));
    });
  }
  void PingPong(Buffers& buffers, int messages) {
    RunRanks(2, [&](int rank) {
      for (int i = 0; i < messages; ++i) One(rank, i % 2 == rank, absl::MakeSpan(buffers.small[rank]));
    });
  }

 private:
  void One(int rank, bool send, absl::Span<std::byte> data) {
    const absl::Status status = send ? comms_[rank]->Send(1 - rank, 7, data) : comms_[rank]->Recv(1 - rank, 7, data);
    PENSTOCK_CHECK(status.ok());
  }

  std::unique_ptr<Connector> connectors_[2];
  std::unique_ptr<Communicator> comms_[2];
};

template <typename Side>
void AddSides(const std::string& name, Side& side, Buffers& buffers, std::vector<BenchSide>& sides) {
  sides.push_back({name + "_all_reduce_gb_per_second", [&] {
                     const double bytes = kReduceElements * sizeof(float);
                     return bytes / SecondsOf([&] { side.AllReduce(buffers, kReduceElements, 1); }) / 1e9;
                   }});
  sides.push_back({name + "_little_all_reduce_microseconds", [&] {
                     return SecondsOf([&] { side.AllReduce(buffers, kLittleElements, kLittleReduces); }) /
                            kLittleReduces * 1e6;
                   }});
  for (const size_t kib : kMessageKib) {
    sides.push_back({absl::StrCat(name, "_messages_", kib, "_kib_gb_per_second"), [&, bytes = kib << 10] {
                       const size_t messages = std::min(kMessageBytesTotal / bytes, kMessagesMax);
                       const double total = static_cast<double>(bytes * messages);
                       return total / SecondsOf([&] { side.Stream(buffers, bytes, messages); }) / 1e9;
                     }});
  }
  sides.push_back({name + "_small_message_microseconds",
                   [&] { return SecondsOf([&] { side.PingPong(buffers, kSmallMessages); }) / kSmallMessages * 1e6; }});
}

int Main(int rounds) {
  KeepFreedBlocks();  // as workers do
  Buffers buffers;
  Bare bare;
  Ours ours;
  std::vector<BenchSide> sides;
  AddSides("gloo", bare, buffers, sides);
  AddSides("ours", ours, buffers, sides);
  // Rivals one right after the other.
  const auto rest = [](const BenchSide& side) { return side.name.substr(side.name.find('_')); };
  std::vector<BenchSide> pairs;
  for (size_t i = 0; i < sides.size() / 2; ++i) {
    PENSTOCK_CHECK(rest(sides[i]) == rest(sides[i + sides.size() / 2]));
    pairs.push_back(sides[i]);
    pairs.push_back(sides[i + sides.size() / 2]);
  }
  std::printf("%s\n", MeasureByTurns(pairs, rounds).dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc > 1 ? std::atoi(argv[1]) : 9); }
