// The speed of pushes into a shard on loopback, beside a bare stream of grpc::ByteBuffers of the same size that nobody
// looks at. Prints JSON: GB/s of a bare stream, of one push, of two pushes side by side, by turns in the same run.
//
//   bazel run //tests/bench:push_stream_bench [-- ROUNDS]
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>
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
#include "services/rpc/channel.h"
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
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterCallbackGenericService(&sink);
    builder.SetMaxReceiveMessageSize(static_cast<int>(2 * kChunkBytesMax));
    server = builder.BuildAndStart();
    PENSTOCK_CHECK(server != nullptr);
    address = absl::StrCat("127.0.0.1:", port);
  }

  Sink sink;
  std::unique_ptr<grpc::Server> server;
  std::string address;
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

// 26 million parameters: 104 MB.
v1::JobSpec MediumSpec() {
  v1::JobSpec spec = TestSpec();
  spec.mutable_model()->set_layers(8);
  spec.mutable_model()->set_hidden(512);
  spec.mutable_checkpoint()->Clear();
  FillDefaults(&spec);
  return spec;
}

// Every round pushes the whole gradient of step 1 under a new epoch, whose seal dropped what was pushed before.
class Pusher {
 public:
  explicit Pusher(int streams) : cluster_(MediumSpec(), {.shards = 1}), gradient_(cluster_.table.size(), 0.25f) {
    PENSTOCK_CHECK(cluster_.Open(epoch_).ok());
    for (int i = 0; i < streams; ++i) {
      clients_.push_back(std::make_unique<ShardClient>("shard 0", cluster_.servers[0]->address()));
    }
  }

  double bytes() const { return static_cast<double>(gradient_.size()) * sizeof(float); }

  // Bytes a second, in GB/s.
  double Push(int streams) {
    PENSTOCK_CHECK(cluster_.Seal(0, ++epoch_).ok());
    const double seconds = SecondsOf([&] {
      std::vector<std::thread> threads;
      const int64_t share = cluster_.table.size() / streams;
      for (int i = 0; i < streams; ++i) {
        threads.emplace_back([&, i] {
          const int64_t end = i + 1 == streams ? cluster_.table.size() : (i + 1) * share;
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
  uint64_t epoch_ = 1;
  TestCluster cluster_;
  std::vector<float> gradient_;
  std::vector<std::unique_ptr<ShardClient>> clients_;
};

int Main(int rounds) {
  KeepFreedBlocks();  // as workers and shards do
  BareServer bare;
  const auto channel = CreateChannel(bare.address);
  Pusher pusher(2);
  const int messages = static_cast<int>(pusher.bytes() / kChunkBytesMax);
  nlohmann::ordered_json json = MeasureByTurns(
      {{"bare_stream_gb_per_second",
        [&] { return messages * double{kChunkBytesMax} / SecondsOf([&] { SendBare(channel, messages); }) / 1e9; }},
       {"one_push_gb_per_second", [&] { return pusher.Push(1); }},
       {"two_pushes_gb_per_second", [&] { return pusher.Push(2); }}},
      rounds);
  json["bytes"] = pusher.bytes();
  const double bare_median = json["bare_stream_gb_per_second"]["median"];
  const double one_median = json["one_push_gb_per_second"]["median"];
  json["one_push_of_bare_ratio"] = one_median / bare_median;
  std::printf("%s\n", json.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc > 1 ? std::atoi(argv[1]) : 9); }
