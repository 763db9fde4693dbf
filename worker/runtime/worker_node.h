// A worker process's heart: takes the coordinator's commands and runs at most one rank at a time.
//
//   WorkerNode node(options);
//   member_options.on_command = [&](const v1::MemberCommand& command) { node.OnCommand(command); };
//   member_options.running = [&] { return node.running(); };
//   member_options.cursor = [&] { return node.cursor(); };
//
// A stop aborts the rank's waits at once, on the caller's thread; everything that takes time (ending a rank, starting
// one) happens on the node's own thread, command by command. Thread-safe.
#ifndef PENSTOCK_WORKER_RUNTIME_WORKER_NODE_H_
#define PENSTOCK_WORKER_RUNTIME_WORKER_NODE_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "worker/runtime/rank_runner.h"

namespace penstock {

// Commands that wait for the node's thread; more than a sane coordinator ever sends are dropped, and it asks again.
inline constexpr size_t kWorkerCommandsMax = 1024;

class WorkerNode {
 public:
  struct Options {
    // Of RankRunner.
    int threads = 1;
    std::function<absl::StatusOr<std::unique_ptr<Backend>>()> backend;
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect;
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect_devices;
    std::function<absl::StatusOr<std::unique_ptr<StateClient>>(const RankPlan&)> state;
    std::function<void(v1::MemberReport)> report;
    std::function<void(const absl::Status&)> device_lost;
    WorkerMetrics* metrics = nullptr;
    Timeline* timeline = nullptr;
  };

  explicit WorkerNode(Options options);
  // Stop()s.
  ~WorkerNode();
  WorkerNode(const WorkerNode&) = delete;
  WorkerNode& operator=(const WorkerNode&) = delete;

  // Never blocks.
  void OnCommand(const v1::MemberCommand& command);

  // What runs, for the Hello; nothing when the worker is idle.
  std::optional<v1::RunningRank> running() const;
  v1::Cursor cursor() const;
  // Whether a rank is held or a command waits.
  bool busy() const;

  // Ends the rank, with its RankStopped, and takes no more commands.
  void Stop(const std::string& reason);

 private:
  void Main();
  void Assign(const v1::Assignment& assignment);
  void StopRank(const v1::StopRank& stop);
  std::shared_ptr<RankRunner> current() const;
  // Ends the current rank; whether there was one that hadn't ended yet.
  bool EndCurrent(const std::string& reason);
  void ReportStopped(const std::string& job_id, uint64_t epoch);

  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::MemberCommand> commands_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<RankRunner> current_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::mutex join_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_WORKER_NODE_H_
