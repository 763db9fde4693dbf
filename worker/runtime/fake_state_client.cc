#include "worker/runtime/fake_state_client.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "core/plan/job_facts.h"
#include "core/random/initial_weights.h"

namespace penstock {

class FakeStateClient : public StateClient {
 public:
  FakeStateClient(std::shared_ptr<FakeStateService> service, uint64_t epoch)
      : service_(std::move(service)), epoch_(epoch) {}
  ~FakeStateClient() override {
    Cancel("the client was destroyed");
    std::lock_guard<std::mutex> lock(service_->mutex_);
    --service_->clients_;
  }

  int shard_count() const override { return service_->ranges_.shards(); }

  absl::Status Push(uint64_t step, std::span<const GradientRange> ranges) override {
    FakeStateService::Ready ready;
    {
      std::lock_guard<std::mutex> lock(service_->mutex_);
      PENSTOCK_RETURN_IF_ERROR(CheckLocked());
      if (IsPublished(service_->spec_) ? step <= service_->committed_[0] : step != service_->committed_[0] + 1) {
        return absl::FailedPreconditionError(absl::StrCat("a push for step ", step));
      }
      for (const GradientRange& range : ranges) {
        std::copy_n(range.data, range.range.size(),
                    service_->NumbersLocked(range.kind, service_->gradient_).begin() + range.range.begin);
        if (service_->flip_gradients_) {
          for (int64_t i = range.range.begin; i < range.range.end; ++i) service_->gradient_[i] *= -2;
        }
        // Of a published state the last kind stands for all.
        if (!IsPublished(service_->spec_) || range.kind == v1::STATE_KIND_EXP_AVG_SQ)
          service_->arrived_.Add(range.range);
      }
      ready = service_->TakeReadyLocked();
    }
    for (const auto& answer : ready) answer();
    return absl::OkStatus();
  }

  absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration timeout) override {
    std::unique_lock<std::mutex> lock(service_->mutex_);
    PENSTOCK_RETURN_IF_ERROR(AwaitLocked(lock, version, timeout));
    if (CommittedLocked() > version)
      return absl::FailedPreconditionError(absl::StrCat("version ", version, " is past"));
    for (const WeightRange& range : ranges) {
      const float* const from = service_->NumbersLocked(range.kind, service_->weights_).data() + range.range.begin;
      const size_t size = static_cast<size_t>(range.range.size());
      if (range.rounded != nullptr) {
        ToBfloat16({from, size}, {range.rounded, size});
      } else {
        std::copy_n(from, size, range.data);
      }
    }
    return absl::OkStatus();
  }

  absl::Status AwaitVersion(uint64_t version, std::span<const ElementRange>, absl::Duration timeout) override {
    // A rank that owns nothing doesn't hold later versions up, so one of them will do.
    std::unique_lock<std::mutex> lock(service_->mutex_);
    return AwaitLocked(lock, version, timeout);
  }

  void Prepare(int shard, uint64_t step, const v1::StepInputs& inputs,
               std::function<void(absl::StatusOr<v1::PreparedStep>)> done) override {
    FakeStateService::Ready ready;
    absl::Status refused;
    {
      std::lock_guard<std::mutex> lock(service_->mutex_);
      refused = CheckLocked();
      if (refused.ok()) {
        service_->waiting_.push_back({this, shard, step, inputs, done});
        ready = service_->TakeReadyLocked();
      }
    }
    if (!refused.ok()) done(refused);
    for (const auto& answer : ready) answer();
  }

  void Commit(int shard, const v1::StepDecision& decision, const std::vector<v1::StepRecord>&,
              std::function<void(absl::StatusOr<uint64_t>)> done) override {
    absl::StatusOr<uint64_t> answer = uint64_t{0};
    {
      std::lock_guard<std::mutex> lock(service_->mutex_);
      answer = CommitLocked(shard, decision);
    }
    done(answer);
  }

  void Cancel(const std::string& reason) override {
    std::vector<FakeStateService::Waiting> mine;
    {
      std::lock_guard<std::mutex> lock(service_->mutex_);
      if (cancelled_.ok()) cancelled_ = absl::CancelledError(reason);
      auto& waiting = service_->waiting_;
      const auto own = std::stable_partition(waiting.begin(), waiting.end(),
                                             [this](const auto& entry) { return entry.client != this; });
      mine.assign(own, waiting.end());
      waiting.erase(own, waiting.end());
      service_->changed_.notify_all();
    }
    for (const auto& entry : mine) entry.done(absl::CancelledError(reason));
  }

 private:
  uint64_t CommittedLocked() const {
    return *std::min_element(service_->committed_.begin(), service_->committed_.end());
  }
  absl::Status AwaitLocked(std::unique_lock<std::mutex>& lock, uint64_t version, absl::Duration timeout) {
    const bool done = service_->changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                                                  [&] { return !CheckLocked().ok() || CommittedLocked() >= version; });
    PENSTOCK_RETURN_IF_ERROR(CheckLocked());
    if (done) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat("version ", version, " wasn't committed in time"));
  }
  absl::Status CheckLocked() const {
    PENSTOCK_RETURN_IF_ERROR(cancelled_);
    return service_->CheckEpoch(epoch_);
  }
  absl::StatusOr<uint64_t> CommitLocked(int shard, const v1::StepDecision& decision) {
    PENSTOCK_RETURN_IF_ERROR(CheckLocked());
    if (service_->fail_commits_ > 0) {
      --service_->fail_commits_;
      return absl::UnavailableError("the shard can't be reached");
    }
    if (service_->committed_[shard] < decision.step()) service_->ApplyLocked(shard, decision);
    return service_->committed_[shard];
  }

  const std::shared_ptr<FakeStateService> service_;
  const uint64_t epoch_;
  absl::Status cancelled_;  // guarded by service_->mutex_
};

std::shared_ptr<FakeStateService> FakeStateService::Create(const v1::JobSpec& spec, int shards) {
  absl::StatusOr<ParameterTable> table = ParameterTable::Create(spec.model());
  PENSTOCK_CHECK(table.ok());
  absl::StatusOr<ShardRanges> ranges = ShardRanges::Create(table->size(), shards);
  PENSTOCK_CHECK(ranges.ok());
  return std::shared_ptr<FakeStateService>(new FakeStateService(spec, *std::move(table), *ranges));
}

FakeStateService::FakeStateService(const v1::JobSpec& spec, ParameterTable table, ShardRanges ranges)
    : spec_(spec),
      table_(std::move(table)),
      ranges_(ranges),
      committed_(ranges.shards(), 0),
      weights_(table_.size()),
      exp_avg_(table_.size()),
      exp_avg_sq_(table_.size()),
      gradient_(table_.size()) {
  FillInitial(table_, spec.training().seed(), table_.range(), weights_);
}

std::unique_ptr<StateClient> FakeStateService::NewClient(uint64_t epoch) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++clients_;
  return std::make_unique<FakeStateClient>(shared_from_this(), epoch);
}

absl::Status FakeStateService::CheckEpoch(uint64_t epoch) const {
  if (epoch >= sealed_) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("epoch ", epoch, " is over: ", sealed_, " is sealed"));
}

void FakeStateService::Seal(uint64_t epoch) {
  std::vector<Waiting> refused;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sealed_ = epoch;
    // As a change of epoch decides: what some shard has committed, all do.
    for (int shard = 0; shard < ranges_.shards(); ++shard) {
      if (last_decision_.has_value() && committed_[shard] < last_decision_->step()) ApplyLocked(shard, *last_decision_);
    }
    arrived_.Clear();
    refused.swap(waiting_);
    changed_.notify_all();
  }
  for (const Waiting& waiting : refused) waiting.done(absl::FailedPreconditionError("a newer epoch was sealed"));
}

void FakeStateService::FailCommits(int times) {
  std::lock_guard<std::mutex> lock(mutex_);
  fail_commits_ = times;
}

void FakeStateService::Poison(int64_t element, float value) {
  std::lock_guard<std::mutex> lock(mutex_);
  weights_[element] = value;
}

void FakeStateService::FlipGradients() {
  std::lock_guard<std::mutex> lock(mutex_);
  flip_gradients_ = true;
}

v1::PreparedStep FakeStateService::PreparedLocked(const Waiting& waiting) const {
  v1::PreparedStep prepared;
  prepared.set_step(waiting.step);
  *prepared.mutable_inputs() = waiting.inputs;
  if (IsPublished(spec_)) return prepared;
  const ElementRange pieces = ranges_.Pieces(waiting.shard);
  for (int64_t piece = pieces.begin; piece < pieces.end; ++piece) {
    const ElementRange range = table_.Piece(piece);
    prepared.add_piece_square_sums(SumOfSquares(std::span(gradient_).subspan(range.begin, range.size())));
  }
  return prepared;
}

FakeStateService::Ready FakeStateService::TakeReadyLocked() {
  Ready ready;
  std::vector<Waiting> still;
  for (Waiting& waiting : waiting_) {
    if (!arrived_.Covers(ranges_.Range(waiting.shard))) {
      still.push_back(std::move(waiting));
      continue;
    }
    ready.push_back([done = waiting.done, prepared = PreparedLocked(waiting)] { done(prepared); });
  }
  waiting_ = std::move(still);
  return ready;
}

void FakeStateService::ApplyLocked(int shard, const v1::StepDecision& decision) {
  const ElementRange own = ranges_.Range(shard);
  const v1::OptimizerSpec& optimizer = spec_.optimizer();
  for (const Parameter& parameter : table_.parameters()) {
    const ElementRange range = Intersect(parameter.range(), own);
    if (range.empty() || IsPublished(spec_)) continue;
    const AdamWParams params{.learning_rate = decision.learning_rate(),
                             .beta1 = static_cast<float>(optimizer.beta1()),
                             .beta2 = static_cast<float>(optimizer.beta2()),
                             .epsilon = static_cast<float>(optimizer.epsilon()),
                             .weight_decay = parameter.decay ? static_cast<float>(optimizer.weight_decay()) : 0.0f,
                             .gradient_scale = decision.gradient_scale(),
                             .bias_correction1 = decision.bias_correction1(),
                             .bias_correction2 = decision.bias_correction2()};
    const auto part = [&](std::vector<float>& all) { return std::span(all).subspan(range.begin, range.size()); };
    AdamWUpdate(params, part(gradient_), part(weights_), part(exp_avg_), part(exp_avg_sq_));
  }
  committed_[shard] = decision.step();
  last_decision_ = decision;
  if (std::all_of(committed_.begin(), committed_.end(), [&](uint64_t step) { return step == decision.step(); })) {
    arrived_.Clear();
  }
  changed_.notify_all();
}

std::vector<float>& FakeStateService::NumbersLocked(v1::StateKind kind, std::vector<float>& unset) {
  switch (kind) {
    case v1::STATE_KIND_WEIGHTS:
      return weights_;
    case v1::STATE_KIND_EXP_AVG:
      return exp_avg_;
    case v1::STATE_KIND_EXP_AVG_SQ:
      return exp_avg_sq_;
    default:
      return unset;
  }
}

uint64_t FakeStateService::committed_step() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return *std::min_element(committed_.begin(), committed_.end());
}

std::vector<float> FakeStateService::weights() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return weights_;
}

int FakeStateService::clients_alive() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return clients_;
}

}  // namespace penstock
