// Coordinator.Generate: finds the checkpoint and an idle worker, and passes the worker's tokens on.
//
// The coordinator reads no weights. The call's thread is taken for as long as the text lasts, so there are few at a
// time; a client that goes away ends the worker's call, too. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_SERVER_GENERATE_FORWARDER_H_
#define PENSTOCK_COORDINATOR_SERVER_GENERATE_FORWARDER_H_

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/server/status_board.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "protos/penstock/v1/generate.grpc.pb.h"

namespace penstock {

inline constexpr int kGenerationsMax = 16;
// Beyond it a call ends, whatever its own deadline.
inline constexpr absl::Duration kGenerationTimeMax = absl::Hours(1);

class GenerateForwarder {
 public:
  // Outlives the forwarder.
  explicit GenerateForwarder(const StatusBoard* board) : board_(board) {}

  // `workers`: the registered ones. Relative paths of checkpoints start at `root`.
  absl::Status Forward(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                       const std::vector<v1::MemberStatus>& workers, const std::string& root,
                       grpc::ServerWriter<v1::GenerateResponse>& writer);

 private:
  absl::StatusOr<std::string> CheckpointOf(const v1::GenerateRequest& request, const std::string& root) const;

  const StatusBoard* const board_;
  std::atomic<int> under_way_ = 0;
};

// Of those registered the idle workers; FAILED_PRECONDITION, saying what they do, when there is none.
absl::StatusOr<std::vector<v1::MemberInfo>> IdleWorkersOf(const std::vector<v1::MemberStatus>& workers);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_GENERATE_FORWARDER_H_
