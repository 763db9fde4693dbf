// The streams of WatchJob: each one is told the newest status of its job, at most ten times a second, and at once when
// it ends. A client that reads slowly skips what was in between; it costs one status and no thread.
//
// Thread-safe.
#ifndef PENSTOCK_COORDINATOR_SERVER_WATCH_STREAM_H_
#define PENSTOCK_COORDINATOR_SERVER_WATCH_STREAM_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/jobs/event_loop.h"
#include "coordinator/server/status_board.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/base/clock.h"

namespace penstock {

inline constexpr size_t kWatchersMax = 1024;
inline constexpr absl::Duration kWatchInterval = absl::Milliseconds(100);

class WatchStreams {
 public:
  // All outlive it. The loop is for the pauses only.
  WatchStreams(StatusBoard* board, Loop* loop, const Clock* clock) : board_(board), loop_(loop), clock_(clock) {}
  // Waits until gRPC is done with all streams: the server is stopped before.
  ~WatchStreams();

  grpc::ServerWriteReactor<v1::JobStatus>* Watch(const std::string& job);
  void EndAll(const absl::Status& status);

 private:
  class Stream;
  void Forget(const std::shared_ptr<Stream>& stream);

  StatusBoard* const board_;
  Loop* const loop_;
  const Clock* const clock_;

  std::mutex mutex_;
  std::condition_variable empty_;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_WATCH_STREAM_H_
