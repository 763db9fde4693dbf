// Shards of the parameter service in this process, on real sockets, with a job open on them: for tests of ranks.
//
// Not thread-safe, but for the shards.
#ifndef PENSTOCK_WORKER_RUNTIME_TEST_SHARDS_H_
#define PENSTOCK_WORKER_RUNTIME_TEST_SHARDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protos/penstock/v1/job.pb.h"
#include "services/parameter/client.h"
#include "services/parameter/server.h"

namespace penstock {

class TestShards {
 public:
  // Opens "job-1" at epoch 1 on `count` shards.
  TestShards(const v1::JobSpec& spec, int count);

  const std::vector<std::string>& addresses() const { return addresses_; }

  // As the coordinator changes an epoch when nothing is prepared, or all have committed: the version to go on from.
  uint64_t Seal(uint64_t epoch);
  // Digests of all pieces, in order.
  std::string Digest(uint64_t step);
  // A counter of /metrics, of all shards together; the test fails when there is none.
  int64_t Counter(const std::string& name) const;

 private:
  std::vector<std::unique_ptr<ParameterServer>> servers_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<ShardClient>> clients_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_TEST_SHARDS_H_
