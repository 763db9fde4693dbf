// What the parts of ShardClient share. Not for others.
#ifndef PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_
#define PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "protos/penstock/v1/parameter.grpc.pb.h"
#include "services/parameter/call_group.h"
#include "services/parameter/client.h"

namespace penstock {

// The asynchronous calls of one ShardClient that are under way. Shared with them, so that the last one may end while
// the client's destructor returns.
class CallsUnderWay {
 public:
  void Begin() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
  }
  void End() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }
  void WaitForNone() {
    std::unique_lock<std::mutex> lock(mutex_);
    none_.wait(lock, [this] { return count_ == 0; });
  }

  // All of them are in it.
  CallGroup group;

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct ShardClient::Impl {
  // Constant after construction.
  std::string name;
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::ParameterShard::Stub> stub;

  const std::shared_ptr<CallsUnderWay> calls = std::make_shared<CallsUnderWay>();

  // Names shard, address and method.
  absl::Status Convert(const grpc::Status& status, const char* method) const;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_
