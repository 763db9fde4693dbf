// Calls that end together.
//
// A group knows the calls that are under way through it. Cancel() ends all of them at once with CANCELLED, and every
// call that is begun afterwards ends before it is sent. A group is not used again after that: who wants to go on makes
// a new one.
//
// Thread-safe. The group outlives the calls made through it.
#ifndef PENSTOCK_SERVICES_PARAMETER_CALL_GROUP_H_
#define PENSTOCK_SERVICES_PARAMETER_CALL_GROUP_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <grpcpp/client_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace penstock {

class CallGroup {
 public:
  CallGroup() = default;
  CallGroup(const CallGroup&) = delete;
  CallGroup& operator=(const CallGroup&) = delete;

  // Ends every call under way and every later one. The first reason stays.
  void Cancel(const std::string& reason = "cancelled by the caller");
  bool cancelled() const;
  // CANCELLED with the reason, or OK.
  absl::Status status() const;

  // Sleeps until the group is cancelled, at most `timeout`: the pause between two attempts. Whether it was cancelled.
  bool WaitCancelled(absl::Duration timeout);

  // Used by clients around each call. Enter() gives CANCELLED, and doesn't take the context, once the group was
  // cancelled.
  absl::Status Enter(std::shared_ptr<grpc::ClientContext> context);
  void Leave(const std::shared_ptr<grpc::ClientContext>& context);

 private:
  std::condition_variable changed_;
  mutable std::mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  std::set<std::shared_ptr<grpc::ClientContext>> contexts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_CALL_GROUP_H_
