// The speed of pushes into a shard on loopback, beside a bare stream of grpc::ByteBuffers of the same size that nobody
// looks at, on gRPC's own settings; sender and receiver are processes of their own. Prints JSON: GB/s of a bare stream,
// of one push, of two pushes side by side, by turns in the same run; and the processor time that both together took for
// each MiB, which other work on the machine disturbs less.
//
//   bazel run //tests/bench:push_stream_bench [-- ROUNDS [SIDE]]
//
// With a side (bare_stream, one_push, two_pushes) only that one, for a profiler.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_rules.h"
#include "services/base/heap.h"
#include "services/parameter/limits.h"
#include "services/parameter/test_job.h"
#include "tests/bench/bench_stats.h"

namespace penstock {
namespace {

// Takes every message of every stream and forgets it.
class Sink final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override { return new Reactor; }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    Reactor() { StartRead(&buffer_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      buffer_.Clear();
      StartRead(&buffer_);
    }
    void OnDone() override { delete this; }

   private:
    grpc::ByteBuffer buffer_;
  };
};

struct BareServer {
  BareServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterCallbackGenericService(&sink);
    builder.SetMaxReceiveMessageSize(static_cast<int>(2 * kChunkBytesMax));
    server = builder.BuildAndStart();
    PENSTOCK_CHECK(server != nullptr);
  }

  Sink sink;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

// Sends `messages` times the same chunk and waits for the end of the stream.
void SendBare(const std::shared_ptr<grpc::Channel>& channel, int messages) {
  const grpc::Slice slice(std::string(kChunkBytesMax, 'x'));
  const grpc::ByteBuffer buffer(&slice, 1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  auto stream = stub.PrepareCall(&context, "/bare/Sink", &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto next = [&] { PENSTOCK_CHECK(queue.Next(&tag, &ok)); };
  stream->StartCall(nullptr);
  next();
  for (int i = 0; i < messages; ++i) {
    stream->Write(buffer, nullptr);
    next();
    PENSTOCK_CHECK(ok);
  }
  stream->WritesDone(nullptr);
  next();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  next();
  PENSTOCK_CHECK(status.ok());
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

// 12.8 million parameters: 51 MB of gradients.
v1::JobSpec MediumSpec() {
  v1::JobSpec spec = TestSpec();
  spec.mutable_model()->set_layers(8);
  spec.mutable_model()->set_hidden(512);
  spec.mutable_checkpoint()->Clear();
  FillDefaults(&spec);
  return spec;
}

constexpr uint64_t kFirstEpoch = 1;

// What the receiving process tells the sending one.
struct Receiver {
  int bare_port = 0;
  int shard_port = 0;
  pid_t process = 0;
};

// A process of its own with a bare server and a shard that has the job open, as long as this one lives.
Receiver StartReceiver() {
  int ready[2], end[2];
  PENSTOCK_CHECK(pipe(ready) == 0 && pipe(end) == 0);
  Receiver receiver;
  receiver.process = fork();
  PENSTOCK_CHECK(receiver.process >= 0);
  if (receiver.process == 0) {
    close(end[1]);
    KeepFreedBlocks();
    BareServer bare;
    TestCluster cluster(MediumSpec(), {.shards = 1});
    PENSTOCK_CHECK(cluster.Open(kFirstEpoch).ok());
    receiver.bare_port = bare.port;
    receiver.shard_port = std::stoi(absl::StrCat(cluster.servers[0]->address()).substr(std::strlen("127.0.0.1:")));
    PENSTOCK_CHECK(write(ready[1], &receiver, sizeof(receiver)) == sizeof(receiver));
    char byte;
    (void)!read(end[0], &byte, 1);  // until the other end is closed
    _exit(0);
  }
  close(end[0]);
  const pid_t process = receiver.process;
  PENSTOCK_CHECK(read(ready[0], &receiver, sizeof(receiver)) == sizeof(receiver));
  receiver.process = process;
  return receiver;
}

// Every round pushes the whole gradient of step 1 under a new epoch, whose seal dropped what was pushed before.
class Pusher {
 public:
  Pusher(int shard_port, int streams) : gradient_(TestTable(MediumSpec()).size(), 0.25f) {
    for (int i = 0; i < streams; ++i) {
      clients_.push_back(std::make_unique<ShardClient>("shard 0", absl::StrCat("127.0.0.1:", shard_port)));
    }
  }

  double bytes() const { return static_cast<double>(gradient_.size()) * sizeof(float); }

  // Bytes a second, in GB/s.
  double Push(int streams) {
    v1::SealRequest seal;
    seal.set_job_id(kTestJob);
    seal.set_epoch(++epoch_);
    PENSTOCK_CHECK(clients_[0]->Seal(seal, {absl::Seconds(60)}).ok());
    const double seconds = SecondsOf([&] {
      std::vector<std::thread> threads;
      const int64_t elements = static_cast<int64_t>(gradient_.size());
      const int64_t share = elements / streams;
      for (int i = 0; i < streams; ++i) {
        threads.emplace_back([&, i] {
          const int64_t end = i + 1 == streams ? elements : (i + 1) * share;
          const std::vector<PushRange> ranges = {{{i * share, end}, gradient_.data() + i * share}};
          const absl::Status status = clients_[i]->Push(kTestJob, epoch_, 1, ranges, {absl::Seconds(60)});
          PENSTOCK_CHECK(status.ok());
        });
      }
      for (std::thread& thread : threads) thread.join();
    });
    return bytes() / seconds / 1e9;
  }

 private:
  uint64_t epoch_ = kFirstEpoch;
  std::vector<float> gradient_;
  std::vector<std::unique_ptr<ShardClient>> clients_;
};

// Of this process and of the receiver.
double CpuSeconds(pid_t receiver) {
  double seconds = 0;
  for (const pid_t process : {pid_t{0}, receiver}) {
    clockid_t clock;
    timespec time;
    PENSTOCK_CHECK(clock_getcpuclockid(process, &clock) == 0 && clock_gettime(clock, &time) == 0);
    seconds += time.tv_sec + time.tv_nsec * 1e-9;
  }
  return seconds;
}

// A side that notes its processor time, too.
BenchSide WithCpu(const std::string& name, double bytes, pid_t receiver, std::function<double()> run,
                  std::vector<double>& cpu) {
  return {name + "_gb_per_second", [bytes, receiver, run = std::move(run), &cpu] {
            const double before = CpuSeconds(receiver);
            const double figure = run();
            cpu.push_back((CpuSeconds(receiver) - before) * 1e3 / (bytes / (1 << 20)));
            return figure;
          }};
}

int Main(int rounds, const std::string& only) {
  KeepFreedBlocks();  // as workers and shards do
  const Receiver receiver = StartReceiver();
  const auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", receiver.bare_port), grpc::InsecureChannelCredentials());
  Pusher pusher(receiver.shard_port, 2);
  const int messages = static_cast<int>(pusher.bytes() / kChunkBytesMax);
  const double bytes = messages * double{kChunkBytesMax};
  std::vector<double> cpu[3];
  std::vector<BenchSide> sides = {
      WithCpu(
          "bare_stream", bytes, receiver.process,
          [&] { return bytes / SecondsOf([&] { SendBare(channel, messages); }) / 1e9; }, cpu[0]),
      WithCpu(
          "one_push", pusher.bytes(), receiver.process, [&] { return pusher.Push(1); }, cpu[1]),
      WithCpu(
          "two_pushes", pusher.bytes(), receiver.process, [&] { return pusher.Push(2); }, cpu[2])};
  if (!only.empty()) {
    std::erase_if(sides, [&](const BenchSide& side) { return side.name != only + "_gb_per_second"; });
    std::printf("%s\n", MeasureByTurns(sides, rounds).dump(2).c_str());
    return 0;
  }
  nlohmann::ordered_json json = MeasureByTurns(sides, rounds);
  json["cpu_ms_per_mib"] = {
      {"bare_stream", Median(cpu[0])}, {"one_push", Median(cpu[1])}, {"two_pushes", Median(cpu[2])}};
  json["bytes"] = pusher.bytes();
  const double bare_median = json["bare_stream_gb_per_second"]["median"];
  const double one_median = json["one_push_gb_per_second"]["median"];
  json["one_push_of_bare_ratio"] = one_median / bare_median;
  std::printf("%s\n", json.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc > 1 ? std::atoi(argv[1]) : 9, argc > 2 ? argv[2] : ""); }
