// A Rendezvous in a folder, for tests whose ranks are processes of one machine. Thread-safe.
#ifndef PENSTOCK_WORKER_COMM_NCCL_FILE_RENDEZVOUS_H_
#define PENSTOCK_WORKER_COMM_NCCL_FILE_RENDEZVOUS_H_

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "worker/comm/rendezvous.h"

namespace penstock {

class FileRendezvous : public Rendezvous {
 public:
  explicit FileRendezvous(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Set(const std::string& key, const std::string& value, absl::Duration) override {
    const std::string path = PathOf(key);
    std::ofstream(path + ".new", std::ios::binary) << value;
    std::error_code error;
    std::filesystem::rename(path + ".new", path, error);
    return error ? absl::UnavailableError(absl::StrCat(path, ": ", error.message())) : absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Get(const std::vector<std::string>& keys, absl::Duration timeout) override {
    const absl::Time deadline = Clock::Real()->Monotonic() + timeout;
    std::vector<std::string> values;
    while (values.size() < keys.size()) {
      if (cancelled_) return absl::CancelledError("cancelled");
      std::ifstream file(PathOf(keys[values.size()]), std::ios::binary);
      if (file) {
        values.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        continue;
      }
      if (Clock::Real()->Monotonic() >= deadline) return absl::DeadlineExceededError(keys[values.size()]);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return values;
  }

  void Cancel() override { cancelled_ = true; }

 private:
  std::string PathOf(const std::string& key) const {
    return absl::StrCat(folder_, "/", absl::StrReplaceAll(key, {{"/", "_"}}));
  }

  const std::string folder_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_FILE_RENDEZVOUS_H_
