// Where a rank is, written by its thread and read by the heartbeat.
//
// Thread-safe; both sides take a mutex for a few stores. The text is made when it is read.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_PROGRESS_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_PROGRESS_H_

#include <cstdint>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "core/schedule/instruction.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

class RankProgress {
 public:
  RankProgress(std::string job_id, uint64_t epoch) : job_id_(std::move(job_id)), epoch_(epoch) {}

  // Outside of any instruction list: "connecting to peers".
  void Set(uint64_t step, const char* activity) {
    std::lock_guard<std::mutex> lock(mutex_);
    step_ = step;
    in_list_ = false;
    activity_ = activity;
  }
  // An instruction of step `step`, or of the validation of version `step`.
  void Set(uint64_t step, uint32_t index, const Instruction& instruction, bool validation, uint64_t collectives) {
    std::lock_guard<std::mutex> lock(mutex_);
    step_ = step;
    index_ = index;
    instruction_ = instruction;
    in_list_ = true;
    validation_ = validation;
    activity_ = "";
    collectives_ = collectives;
  }
  // What the instruction under way is at: "committing".
  void SetActivity(const char* activity) {
    std::lock_guard<std::mutex> lock(mutex_);
    activity_ = activity;
  }

  v1::Cursor cursor() const;

 private:
  const std::string job_id_;
  const uint64_t epoch_;

  mutable std::mutex mutex_;
  uint64_t step_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t index_ ABSL_GUARDED_BY(mutex_) = 0;
  Instruction instruction_ ABSL_GUARDED_BY(mutex_);
  bool in_list_ ABSL_GUARDED_BY(mutex_) = false;
  bool validation_ ABSL_GUARDED_BY(mutex_) = false;
  // String literals.
  const char* activity_ ABSL_GUARDED_BY(mutex_) = "starting";
  uint64_t collectives_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_PROGRESS_H_
