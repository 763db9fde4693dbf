// One rank's "stop now": everything that can wait registers how its waits are ended, and Abort ends them all.
//
//   AbortScope scope;
//   AbortScope::Hook hook(scope, [&](const absl::Status& reason) { comm->Abort(reason); });
//   ...
//   scope.Abort(absl::CancelledError("stop: ..."));      // any thread
//   PENSTOCK_RETURN_IF_ERROR(scope.status());
//
// Thread-safe. A hook's function must not block: it runs under the scope's mutex, so that a Hook's destructor can
// promise that it neither runs nor will.
#ifndef PENSTOCK_WORKER_RUNTIME_ABORT_SCOPE_H_
#define PENSTOCK_WORKER_RUNTIME_ABORT_SCOPE_H_

#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace penstock {

class AbortScope {
 public:
  using Function = std::function<void(const absl::Status& reason)>;

  class Hook {
   public:
    // Calls `function` at once when the scope was aborted already.
    Hook(AbortScope& scope, Function function) : scope_(scope), id_(scope.Add(std::move(function))) {}
    ~Hook() { scope_.Remove(id_); }
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

   private:
    AbortScope& scope_;
    const int id_;
  };

  // The first reason stays; it isn't OK.
  void Abort(const absl::Status& reason) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!status_.ok()) return;
    status_ = reason;
    for (const auto& [id, function] : functions_) function(status_);
  }

  // OK, or why it was aborted.
  absl::Status status() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return status_;
  }

 private:
  int Add(Function function) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!status_.ok()) function(status_);
    functions_.emplace(next_id_, std::move(function));
    return next_id_++;
  }
  void Remove(int id) {
    std::lock_guard<std::mutex> lock(mutex_);
    functions_.erase(id);
  }

  mutable std::mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::map<int, Function> functions_ ABSL_GUARDED_BY(mutex_);
  int next_id_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_ABORT_SCOPE_H_
