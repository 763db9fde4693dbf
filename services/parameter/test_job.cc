#include "services/parameter/test_job.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/random/initial_weights.h"
#include "services/checkpoint/digest.h"

namespace penstock {
namespace {

v1::JobSpec MakeSpec(uint64_t steps, uint32_t layers, uint32_t hidden) {
  v1::JobSpec spec;
  spec.set_name("first");
  v1::ModelSpec* model = spec.mutable_model();
  model->set_family(v1::ModelSpec::FAMILY_GPT2);
  model->set_layers(layers);
  model->set_hidden(hidden);
  model->set_heads(4);
  model->set_seq_length(32);
  model->set_vocab_size(256);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
  spec.mutable_training()->set_steps(steps);
  spec.mutable_training()->set_global_batch_size(8);
  spec.mutable_training()->set_micro_batch_size(4);
  spec.mutable_training()->set_precision(v1::TrainingSpec::PRECISION_FP32);
  spec.mutable_training()->set_seed(7);
  spec.mutable_optimizer()->set_type(v1::OptimizerSpec::TYPE_ADAMW);
  spec.mutable_optimizer()->set_learning_rate(1e-2);
  spec.mutable_optimizer()->set_weight_decay(0.1);
  spec.mutable_checkpoint()->set_directory("/checkpoints");
  spec.mutable_checkpoint()->set_every_steps(2);
  FillDefaults(&spec);
  return spec;
}

}  // namespace

v1::JobSpec TestSpec(uint64_t steps) { return MakeSpec(steps, 2, 128); }
v1::JobSpec TinySpec(uint64_t steps) { return MakeSpec(steps, 1, 8); }

ParameterTable TestTable(const v1::JobSpec& spec) {
  absl::StatusOr<ParameterTable> table = ParameterTable::Create(spec.model());
  PENSTOCK_CHECK(table.ok());
  return *std::move(table);
}

v1::StepInputs TestInputs(uint64_t step) {
  v1::StepInputs inputs;
  inputs.set_loss_sum(1000.0 / static_cast<double>(step));
  inputs.set_target_count(256);
  v1::SampleRange* samples = inputs.add_samples();
  samples->set_begin((step - 1) * 8);
  samples->set_end(step * 8);
  return inputs;
}

std::vector<float> TestGradient(const ParameterTable& table, uint64_t step) {
  std::vector<float> gradient(table.size());
  for (int64_t i = 0; i < table.size(); ++i) {
    gradient[i] =
        std::sin(static_cast<float>(i % 10007) * 0.37f + static_cast<float>(step)) * static_cast<float>(1 + i % 3);
  }
  return gradient;
}

ReferenceJob::ReferenceJob(const v1::JobSpec& job)
    : spec(job), table(TestTable(job)), weights(table.size()), exp_avg(table.size()), exp_avg_sq(table.size()) {
  FillInitial(table, spec.training().seed(), table.range(), weights);
}

void ReferenceJob::Step(uint64_t step) {
  const std::vector<float> gradient = TestGradient(table, step);
  v1::PreparedStep prepared;
  prepared.set_step(step);
  *prepared.mutable_inputs() = TestInputs(step);
  for (int64_t piece = 0; piece < table.piece_count(); ++piece) {
    const ElementRange range = table.Piece(piece);
    prepared.add_piece_square_sums(SumOfSquares({gradient.data() + range.begin, static_cast<size_t>(range.size())}));
  }
  const absl::StatusOr<v1::StepDecision> decision = Decide(spec.optimizer(), spec.training().steps(), {prepared});
  PENSTOCK_CHECK(decision.ok());
  for (const Parameter& parameter : table.parameters()) {
    AdamWParams params;
    params.learning_rate = decision->learning_rate();
    params.beta1 = static_cast<float>(spec.optimizer().beta1());
    params.beta2 = static_cast<float>(spec.optimizer().beta2());
    params.epsilon = static_cast<float>(spec.optimizer().epsilon());
    params.weight_decay = parameter.decay ? static_cast<float>(spec.optimizer().weight_decay()) : 0;
    params.gradient_scale = decision->gradient_scale();
    params.bias_correction1 = decision->bias_correction1();
    params.bias_correction2 = decision->bias_correction2();
    const size_t count = parameter.size();
    AdamWUpdate(params, {gradient.data() + parameter.begin, count}, {weights.data() + parameter.begin, count},
                {exp_avg.data() + parameter.begin, count}, {exp_avg_sq.data() + parameter.begin, count});
  }
}

std::string ReferenceJob::Digest(uint64_t step) const {
  const std::vector<v1::PieceDigest> pieces = DigestPieces(table.range(), weights, exp_avg, exp_avg_sq);
  const absl::StatusOr<std::vector<PieceDigests>> ordered = OrderPieces(pieces, table.size());
  PENSTOCK_CHECK(ordered.ok());
  return CombineDigest(*ordered, step, SamplesConsumed(spec, step));
}

TestCluster::TestCluster(const v1::JobSpec& job, const Options& options) : spec(job), table(TestTable(job)) {
  for (int i = 0; i < options.shards; ++i) {
    ParameterServer::Options server;
    server.threads = options.threads;
    server.memory_bytes_max = options.memory_bytes_max;
    server.blobs = options.blobs;
    if (options.metrics && i == 0) server.metrics_address = "127.0.0.1:0";
    absl::StatusOr<std::unique_ptr<ParameterServer>> started = ParameterServer::Start(server);
    PENSTOCK_CHECK(started.ok());
    servers.push_back(*std::move(started));
    clients.push_back(std::make_unique<ShardClient>(absl::StrCat("shard ", i), servers.back()->address()));
  }
}

v1::OpenJobRequest TestCluster::OpenRequest(int shard, uint64_t epoch, const std::string& checkpoint) const {
  v1::OpenJobRequest request;
  request.set_job_id(kTestJob);
  *request.mutable_spec() = spec;
  request.set_shard_index(shard);
  request.set_shard_count(clients.size());
  request.set_epoch(epoch);
  request.set_checkpoint_path(checkpoint);
  return request;
}

absl::Status TestCluster::Open(uint64_t epoch, const std::string& checkpoint) {
  for (size_t i = 0; i < clients.size(); ++i) {
    PENSTOCK_RETURN_IF_ERROR(clients[i]->OpenJob(OpenRequest(i, epoch, checkpoint), {absl::Seconds(60)}).status());
  }
  return absl::OkStatus();
}

std::unique_ptr<ParameterClient> TestCluster::Client(uint64_t epoch) const {
  ParameterClient::Options options;
  options.job_id = kTestJob;
  options.epoch = epoch;
  for (const std::unique_ptr<ParameterServer>& server : servers) options.shards.push_back(server->address());
  options.elements = table.size();
  absl::StatusOr<std::unique_ptr<ParameterClient>> client = ParameterClient::Create(options);
  PENSTOCK_CHECK(client.ok());
  return *std::move(client);
}

absl::Status TestCluster::Push(uint64_t epoch, uint64_t step) {
  const std::vector<float> gradient = TestGradient(table, step);
  const std::vector<PushRange> ranges = {{table.range(), gradient.data()}};
  return Client(epoch)->Push(step, ranges);
}

absl::StatusOr<v1::PrepareResponse> TestCluster::Prepare(int shard, uint64_t epoch, uint64_t step,
                                                         absl::Duration timeout) {
  v1::PrepareRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(epoch);
  request.set_step(step);
  *request.mutable_inputs() = TestInputs(step);
  return clients[shard]->Prepare(request, {timeout});
}

absl::StatusOr<v1::StepDecision> TestCluster::PrepareAndDecide(uint64_t epoch, uint64_t step) {
  std::vector<v1::PreparedStep> prepared;
  for (size_t i = 0; i < clients.size(); ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(const v1::PrepareResponse response, Prepare(i, epoch, step));
    prepared.push_back(response.prepared());
  }
  return Decide(spec.optimizer(), spec.training().steps(), prepared);
}

absl::Status TestCluster::Commit(int shard, uint64_t epoch, const v1::StepDecision& decision) {
  v1::CommitRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(epoch);
  *request.mutable_decision() = decision;
  return clients[shard]->Commit(request, {absl::Seconds(10)}).status();
}

absl::Status TestCluster::Step(uint64_t epoch, uint64_t step) {
  PENSTOCK_RETURN_IF_ERROR(Push(epoch, step));
  PENSTOCK_ASSIGN_OR_RETURN(const v1::StepDecision decision, PrepareAndDecide(epoch, step));
  for (size_t i = 0; i < clients.size(); ++i) PENSTOCK_RETURN_IF_ERROR(Commit(i, epoch, decision));
  return absl::OkStatus();
}

absl::StatusOr<v1::SealResponse> TestCluster::Seal(int shard, uint64_t epoch) {
  v1::SealRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(epoch);
  return clients[shard]->Seal(request, {absl::Seconds(10)});
}

absl::StatusOr<std::vector<float>> TestCluster::PullAll(uint64_t epoch, uint64_t version) {
  std::vector<float> weights(table.size());
  const std::vector<PullRange> ranges = {{table.range(), weights.data()}};
  PENSTOCK_RETURN_IF_ERROR(Client(epoch)->Pull(version, ranges));
  return weights;
}

absl::StatusOr<std::string> TestCluster::Digest(uint64_t step) {
  std::vector<v1::PieceDigest> pieces;
  for (const std::unique_ptr<ShardClient>& client : clients) {
    v1::GetDigestRequest request;
    request.set_job_id(kTestJob);
    request.set_step(step);
    PENSTOCK_ASSIGN_OR_RETURN(const v1::GetDigestResponse response, client->GetDigest(request, {absl::Seconds(10)}));
    pieces.insert(pieces.end(), response.pieces().begin(), response.pieces().end());
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<PieceDigests> ordered, OrderPieces(pieces, table.size()));
  return CombineDigest(ordered, step, SamplesConsumed(spec, step));
}

}  // namespace penstock
