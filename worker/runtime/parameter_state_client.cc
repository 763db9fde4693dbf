#include "worker/runtime/parameter_state_client.h"

#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "services/parameter/client.h"

namespace penstock {
namespace {

// Of one attempt. A Prepare waits at the shard for the last gradient; one that ends without an answer is asked again.
constexpr absl::Duration kAttemptTimeout = absl::Seconds(60);

class ParameterStateClient : public StateClient {
 public:
  ParameterStateClient(std::unique_ptr<ParameterClient> client, std::string job_id, uint64_t epoch)
      : job_id_(std::move(job_id)), epoch_(epoch), client_(std::move(client)) {}

  int shard_count() const override { return client_->shard_count(); }

  absl::Status Push(uint64_t step, std::span<const GradientRange> ranges) override {
    std::vector<PushRange> pushes;
    for (const GradientRange& range : ranges) pushes.push_back({range.range, range.data, range.kind});
    return client_->Push(step, pushes);
  }

  absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration timeout) override {
    std::vector<PullRange> pulls;
    for (const WeightRange& range : ranges) pulls.push_back({range.range, range.data, range.kind, range.rounded});
    return client_->Pull(version, pulls, timeout);
  }

  absl::Status AwaitVersion(uint64_t version, std::span<const ElementRange> ranges, absl::Duration timeout) override {
    return client_->AwaitVersion(version, ranges, timeout);
  }

  void Prepare(int shard, uint64_t step, const v1::StepInputs& inputs,
               std::function<void(absl::StatusOr<v1::PreparedStep>)> done) override {
    v1::PrepareRequest request;
    request.set_job_id(job_id_);
    request.set_epoch(epoch_);
    request.set_step(step);
    *request.mutable_inputs() = inputs;
    client_->shard(shard).PrepareAsync(request, {.timeout = kAttemptTimeout, .group = &client_->group()},
                                       [done = std::move(done)](absl::StatusOr<v1::PrepareResponse> response) {
                                         if (!response.ok()) return done(response.status());
                                         done(std::move(*response->mutable_prepared()));
                                       });
  }

  void Commit(int shard, const v1::StepDecision& decision, const std::vector<v1::StepRecord>& records,
              std::function<void(absl::StatusOr<uint64_t>)> done) override {
    v1::CommitRequest request;
    request.set_job_id(job_id_);
    request.set_epoch(epoch_);
    *request.mutable_decision() = decision;
    request.mutable_records()->Add(records.begin(), records.end());
    client_->shard(shard).CommitAsync(request, {.timeout = kAttemptTimeout, .group = &client_->group()},
                                      [done = std::move(done)](absl::StatusOr<v1::CommitResponse> response) {
                                        if (!response.ok()) return done(response.status());
                                        done(response->committed_step());
                                      });
  }

  void Cancel(const std::string& reason) override { client_->Cancel(reason); }

 private:
  const std::string job_id_;
  const uint64_t epoch_;
  const std::unique_ptr<ParameterClient> client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StateClient>> CreateParameterStateClient(const RankPlan& plan) {
  ParameterClient::Options options;
  options.job_id = plan.assignment.job_id();
  options.epoch = plan.assignment.epoch();
  options.shards.assign(plan.assignment.shards().begin(), plan.assignment.shards().end());
  options.elements = plan.table.size();
  options.attempt_timeout = kAttemptTimeout;
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<ParameterClient> client, ParameterClient::Create(options));
  return std::unique_ptr<StateClient>(
      std::make_unique<ParameterStateClient>(std::move(client), plan.assignment.job_id(), plan.assignment.epoch()));
}

}  // namespace penstock
