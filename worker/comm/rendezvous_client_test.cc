#include "worker/comm/rendezvous_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "services/rpc/server.h"

namespace penstock {
namespace {

// As the coordinator does it: GetValues waits for all keys, or the call's deadline.
class Store : public v1::Rendezvous::Service {
 public:
  grpc::Status SetValue(grpc::ServerContext*, const v1::SetValueRequest* request, v1::SetValueResponse*) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (request->epoch() < 2) return {grpc::StatusCode::FAILED_PRECONDITION, "epoch 1 is over"};
    values_[absl::StrCat(request->job_id(), "/", request->epoch(), "/", request->key())] = request->value();
    changed_.notify_all();
    return grpc::Status::OK;
  }
  grpc::Status GetValues(grpc::ServerContext* context, const v1::GetValuesRequest* request,
                         v1::GetValuesResponse* response) override {
    std::unique_lock<std::mutex> lock(mutex_);
    asked_.fetch_add(1);
    while (!context->IsCancelled()) {
      response->Clear();
      for (const std::string& key : request->keys()) {
        const auto found = values_.find(absl::StrCat(request->job_id(), "/", request->epoch(), "/", key));
        if (found != values_.end()) response->add_values(found->second);
      }
      if (response->values_size() == request->keys_size()) return grpc::Status::OK;
      changed_.wait_for(lock, std::chrono::milliseconds(10));
    }
    return {grpc::StatusCode::DEADLINE_EXCEEDED, "a key isn't set"};
  }
  int asked() const { return asked_.load(); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
  std::atomic<int> asked_{0};
};

TEST(RendezvousClientTest, AWaitEndsWhenTheLastKeyIsSet) {
  Store store;
  auto server = RpcServer::Start({.address = "127.0.0.1:0", .services = {&store}});
  ASSERT_TRUE(server.ok()) << server.status();
  RendezvousClient first((*server)->address(), "job", 2);
  RendezvousClient second((*server)->address(), "job", 2);
  ASSERT_TRUE(first.Set("rank/0", "zero", absl::Seconds(5)).ok());
  std::thread later([&] {
    while (store.asked() == 0) std::this_thread::yield();
    EXPECT_TRUE(second.Set("rank/1", std::string("o\0e", 3), absl::Seconds(5)).ok());
  });
  const auto values = first.Get({"rank/1", "rank/0"}, absl::Seconds(10));
  later.join();
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(*values, (std::vector<std::string>{std::string("o\0e", 3), "zero"}));
  // Another epoch has keys of its own.
  RendezvousClient other((*server)->address(), "job", 3);
  EXPECT_EQ(other.Get({"rank/0"}, absl::Milliseconds(50)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(RendezvousClientTest, AnEpochThatIsOverIsRefusedAtOnce) {
  Store store;
  auto server = RpcServer::Start({.address = "127.0.0.1:0", .services = {&store}});
  ASSERT_TRUE(server.ok()) << server.status();
  RendezvousClient client((*server)->address(), "job", 1);
  EXPECT_EQ(client.Set("rank/0", "x", absl::Seconds(20)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RendezvousClientTest, CancelEndsAWait) {
  Store store;
  auto server = RpcServer::Start({.address = "127.0.0.1:0", .services = {&store}});
  ASSERT_TRUE(server.ok()) << server.status();
  RendezvousClient client((*server)->address(), "job", 2);
  absl::Status status;
  std::thread waiter([&] { status = client.Get({"never"}, absl::Seconds(30)).status(); });
  while (store.asked() == 0) std::this_thread::yield();
  const absl::Time begin = absl::Now();
  client.Cancel();
  waiter.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(client.Set("x", "y", absl::Seconds(1)).code(), absl::StatusCode::kCancelled);
}

TEST(RendezvousClientTest, ACoordinatorThatIsAwayIsWaitedFor) {
  // A port that was free a moment ago.
  std::string address;
  {
    auto gone = RpcServer::Start({.address = "127.0.0.1:0", .services = {}});
    ASSERT_TRUE(gone.ok()) << gone.status();
    address = (*gone)->address();
  }
  RendezvousClient client(address, "job", 2);
  EXPECT_EQ(client.Set("x", "y", absl::Milliseconds(200)).code(), absl::StatusCode::kDeadlineExceeded);
  absl::Status status;
  std::thread waiter([&] { status = client.Set("x", "y", absl::Seconds(20)); });
  Store store;
  auto server = RpcServer::Start({.address = address, .services = {&store}});
  waiter.join();
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace penstock
