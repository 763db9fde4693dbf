// A small job on real shards in this process, for tests: what coordinator and workers would do with it, in single
// steps.
//
// Not thread-safe, but for the clients that it hands out.
#ifndef PENSTOCK_SERVICES_PARAMETER_TEST_JOB_H_
#define PENSTOCK_SERVICES_PARAMETER_TEST_JOB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/model/parameter_table.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/client.h"
#include "services/parameter/server.h"
#include "services/storage/blobs.h"

namespace penstock {

inline constexpr char kTestJob[] = "job-1";

// GPT-2 of about 460,000 parameters: eight pieces, the last one short. Checkpoints every 2 steps into "/checkpoints".
v1::JobSpec TestSpec(uint64_t steps = 6);
// About 3,000 parameters: one piece.
v1::JobSpec TinySpec(uint64_t steps = 6);

ParameterTable TestTable(const v1::JobSpec& spec);
v1::StepInputs TestInputs(uint64_t step);
// A summed gradient of all elements of the table; another one for every step.
std::vector<float> TestGradient(const ParameterTable& table, uint64_t step);

// The same job in plain memory: what the shards must come to, bit for bit.
struct ReferenceJob {
  explicit ReferenceJob(const v1::JobSpec& spec);
  // One step with TestGradient.
  void Step(uint64_t step);
  // Of all shards together.
  std::string Digest(uint64_t step) const;

  const v1::JobSpec spec;
  const ParameterTable table;
  std::vector<float> weights;
  std::vector<float> exp_avg;
  std::vector<float> exp_avg_sq;
};

class TestCluster {
 public:
  struct Options {
    int shards = 2;
    int threads = 2;
    uint64_t memory_bytes_max = 0;
    Blobs* blobs = nullptr;
    // "/metrics" on the first shard.
    bool metrics = false;
  };
  explicit TestCluster(const v1::JobSpec& spec) : TestCluster(spec, Options()) {}
  TestCluster(const v1::JobSpec& spec, const Options& options);

  // Opens the job on all shards.
  absl::Status Open(uint64_t epoch, const std::string& checkpoint = "");
  v1::OpenJobRequest OpenRequest(int shard, uint64_t epoch, const std::string& checkpoint = "") const;
  // A client of the job under `epoch`.
  std::unique_ptr<ParameterClient> Client(uint64_t epoch) const;

  // Pushes TestGradient of the step.
  absl::Status Push(uint64_t epoch, uint64_t step);
  absl::StatusOr<v1::PrepareResponse> Prepare(int shard, uint64_t epoch, uint64_t step,
                                              absl::Duration timeout = absl::Seconds(10));
  // Prepares on all shards and decides.
  absl::StatusOr<v1::StepDecision> PrepareAndDecide(uint64_t epoch, uint64_t step);
  absl::Status Commit(int shard, uint64_t epoch, const v1::StepDecision& decision);
  // All of it: one committed step.
  absl::Status Step(uint64_t epoch, uint64_t step);
  absl::StatusOr<v1::SealResponse> Seal(int shard, uint64_t epoch);

  absl::StatusOr<std::vector<float>> PullAll(uint64_t epoch, uint64_t version);
  // Of all shards together.
  absl::StatusOr<std::string> Digest(uint64_t step);

  const v1::JobSpec spec;
  const ParameterTable table;
  std::vector<std::unique_ptr<ParameterServer>> servers;
  std::vector<std::unique_ptr<ShardClient>> clients;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_TEST_JOB_H_
