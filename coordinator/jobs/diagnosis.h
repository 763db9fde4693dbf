// One sentence for the user about what went wrong, from what the ranks last said: who was lost, who failed, and in a
// job that doesn't get on, who waits for whom.
//
// Pure: free functions. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_JOBS_DIAGNOSIS_H_
#define PENSTOCK_COORDINATOR_JOBS_DIAGNOSIS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/mesh/mesh.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// A rank and what its worker last said about it.
struct RankView {
  int rank = 0;
  std::string worker;
  // Of this job and epoch; nullopt when the worker has said nothing about them.
  std::optional<v1::Cursor> cursor;
};

// "worker-2 (stage 1, data 0)".
std::string DescribeRank(const Mesh& mesh, const RankView& rank);
// "worker-2 (stage 1, data 0) was lost at step 57 in Backward mb 3: connection closed; lease expired after 2s".
std::string DescribeLost(const Mesh& mesh, const RankView& rank, const std::string& reason);
// "worker-0 (stage 0, data 0) failed at step 57 in RecvGradient mb 1 from stage 1: UNAVAILABLE: connection closed".
// With a suspect that is out of reach itself, it comes first: "worker-2 (stage 1, data 0) is out of reach since step 57
// in Backward mb 3, says worker-0 (stage 0, data 0): ...".
std::string DescribeFailure(const Mesh& mesh, const RankView& rank, const v1::RankFailed& failed,
                            const std::optional<RankView>& lost_suspect);
// Who waits for whom in a job whose ranks all live, but where no step was committed for `duration`. `ranks` by rank.
std::string DescribeStall(const Mesh& mesh, const std::vector<RankView>& ranks, absl::Duration duration);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_DIAGNOSIS_H_
