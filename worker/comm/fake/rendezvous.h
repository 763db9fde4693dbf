// A Rendezvous in memory, for ranks that are threads of one process. Share one FakeRendezvousStore; each rank has its
// own FakeRendezvous, so that cancelling one leaves the others alone.
#ifndef PENSTOCK_WORKER_COMM_FAKE_RENDEZVOUS_H_
#define PENSTOCK_WORKER_COMM_FAKE_RENDEZVOUS_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "worker/comm/rendezvous.h"

namespace penstock {

// Thread-safe.
class FakeRendezvousStore {
 private:
  friend class FakeRendezvous;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;  // guarded by mutex_
};

class FakeRendezvous : public Rendezvous {
 public:
  explicit FakeRendezvous(std::shared_ptr<FakeRendezvousStore> store) : store_(std::move(store)) {}

  absl::Status Set(const std::string& key, const std::string& value, absl::Duration) override {
    std::lock_guard<std::mutex> lock(store_->mutex_);
    if (cancelled_) return absl::CancelledError("the rendezvous was cancelled");
    store_->values_[key] = value;
    store_->changed_.notify_all();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Get(const std::vector<std::string>& keys, absl::Duration timeout) override {
    std::unique_lock<std::mutex> lock(store_->mutex_);
    std::vector<std::string> values;
    const auto complete = [&] {
      values.clear();
      for (const std::string& key : keys) {
        const auto found = store_->values_.find(key);
        if (found == store_->values_.end()) return false;
        values.push_back(found->second);
      }
      return true;
    };
    const bool done =
        store_->changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [&] { return cancelled_ || complete(); });
    if (cancelled_) return absl::CancelledError("the rendezvous was cancelled");
    if (!done) return absl::DeadlineExceededError("not every key was set in time");
    return values;
  }

  void Cancel() override {
    std::lock_guard<std::mutex> lock(store_->mutex_);
    cancelled_ = true;
    store_->changed_.notify_all();
  }

 private:
  const std::shared_ptr<FakeRendezvousStore> store_;
  bool cancelled_ = false;  // guarded by store_->mutex_
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_FAKE_RENDEZVOUS_H_
