// Opening a job on all of its shards (the action OpenShards): from the checkpoint that the job asks for, or from
// initial weights, and from the next older one when a checkpoint turns out to be damaged.
//
// Lives in the event loop; Cancel() makes sure that no callback is called any more.
#ifndef PENSTOCK_COORDINATOR_JOBS_OPEN_TASK_H_
#define PENSTOCK_COORDINATOR_JOBS_OPEN_TASK_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/jobs/fan_out.h"
#include "coordinator/jobs/job_environment.h"
#include "protos/penstock/v1/parameter.pb.h"

namespace penstock {

class OpenTask : public std::enable_shared_from_this<OpenTask> {
 public:
  struct Opened {
    uint64_t step = 0;
    // Empty: initial weights.
    std::string checkpoint;
    // Whether this very job has written it, so that its history goes on from there.
    bool own = false;
  };
  struct Options {
    const JobEnvironment* environment = nullptr;
    std::string job_id;
    v1::JobSpec spec;
    uint64_t epoch = 0;
    // Not for the first time: the job's own checkpoints come first.
    bool restore = false;
    // For a restore: checkpoints of later steps aren't used, for the records of the steps behind them are gone.
    uint64_t step_max = 0;
    // In shard order.
    std::vector<std::string> shards;
    std::function<void(const std::string&)> on_wait;
    // A line for the job's events.
    std::function<void(const std::string&)> on_note;
    // FAILED_PRECONDITION: the epoch is past. DATA_LOSS, NOT_FOUND: the checkpoint that was asked for, with the reason.
    std::function<void(absl::StatusOr<Opened>)> done;
  };

  static std::shared_ptr<OpenTask> Start(Options options);
  void Cancel();

 private:
  struct Candidate {
    // Empty: initial weights.
    std::string path;
    bool own = false;
  };
  struct Candidates {
    std::vector<Candidate> list;
    std::vector<std::string> notes;
  };

  explicit OpenTask(Options options) : options_(std::move(options)) {}
  // On a thread of the pool.
  Candidates FindCandidates() const;
  void AddFolder(Candidates* found) const;
  void TryNext();
  void OnOpened(const absl::StatusOr<std::vector<v1::OpenJobResponse>>& opened);
  void CloseAndTryNext();

  const Options options_;
  bool cancelled_ = false;
  std::vector<Candidate> candidates_;
  // The one under way.
  size_t at_ = 0;
  std::shared_ptr<FanOut<v1::OpenJobResponse>> open_;
  std::shared_ptr<FanOut<v1::CloseJobResponse>> close_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_OPEN_TASK_H_
