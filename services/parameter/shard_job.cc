#include "services/parameter/shard_job.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/layout/shard_ranges.h"
#include "core/optimizer/square_sum.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "services/checkpoint/manifest.h"
#include "services/checkpoint/pretrained.h"
#include "services/parameter/limits.h"

namespace penstock {
namespace {

// Snapshots are only needed for checkpoints that training goes on beyond: the last version stays.
bool NeedsSnapshot(const v1::JobSpec& spec) {
  return !spec.checkpoint().directory().empty() && spec.checkpoint().every_steps() > 0 &&
         spec.checkpoint().every_steps() < spec.training().steps();
}

// Unset means weights.
StateClass StateClassOf(v1::StateKind kind) {
  if (kind == v1::STATE_KIND_EXP_AVG) return StateClass::kExpAvg;
  if (kind == v1::STATE_KIND_EXP_AVG_SQ) return StateClass::kExpAvgSq;
  return StateClass::kWeights;
}

// The folder may have changed since the job was accepted.
absl::StatusOr<std::unique_ptr<PretrainedWeights>> OpenPretrained(Blobs& blobs, v1::ModelSpec model) {
  const std::vector<v1::JobViolation> violations = FillModelFrom(blobs, &model);
  if (!violations.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(violations[0].field(), ": ", violations[0].message()));
  }
  return PretrainedWeights::Open(blobs, model.from());
}

absl::Status CheckCheckpoint(const CheckpointReader& reader, const v1::JobSpec& spec) {
  const std::vector<v1::JobViolation> violations = CheckResume(reader.manifest(), spec);
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the job can't go on from the checkpoint ", reader.path(), ": ",
                                                 violations[0].field(), ": ", violations[0].message()));
}

}  // namespace

absl::Status CheckOpenRequest(const v1::OpenJobRequest& request) {
  if (request.job_id().empty() || request.job_id().size() > kJobIdBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a job id has 1 to ", kJobIdBytesMax, " bytes; this one has ", request.job_id().size()));
  }
  if (request.shard_count() == 0 || request.shard_count() > static_cast<uint32_t>(kShardsMax) ||
      request.shard_index() >= request.shard_count()) {
    return absl::InvalidArgumentError(absl::StrCat("shard ", request.shard_index(), " of ", request.shard_count(),
                                                   " is impossible: there are 1 to ", kShardsMax,
                                                   " shards, counted from 0"));
  }
  const std::vector<v1::JobViolation> violations = CheckJob(request.spec());
  if (!violations.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(violations[0].field(), ": ", violations[0].message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<ShardJob>> ShardJob::Open(const v1::OpenJobRequest& request,
                                                         const ShardResources& resources,
                                                         const std::atomic<bool>& cancelled) {
  const v1::JobSpec& spec = request.spec();
  PENSTOCK_ASSIGN_OR_RETURN(ParameterTable table, ParameterTable::Create(spec.model()));
  PENSTOCK_ASSIGN_OR_RETURN(const ShardRanges ranges, ShardRanges::Create(table.size(), request.shard_count()));
  std::unique_ptr<CheckpointReader> reader;
  if (!request.checkpoint_path().empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(reader, CheckpointReader::Open(*resources.blobs, request.checkpoint_path()));
    PENSTOCK_RETURN_IF_ERROR(CheckCheckpoint(*reader, spec));
  }
  PENSTOCK_ASSIGN_OR_RETURN(
      std::unique_ptr<ShardState> state,
      ShardState::Allocate(std::move(table), ranges.Range(request.shard_index()), !IsPublished(spec),
                           NeedsSnapshot(spec), *resources.budget, *resources.compute));
  if (reader != nullptr) {
    PENSTOCK_RETURN_IF_ERROR(state->FillFrom(*reader, cancelled));
  } else if (!spec.model().from().empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(const auto weights, OpenPretrained(*resources.blobs, spec.model()));
    PENSTOCK_RETURN_IF_ERROR(state->FillInitial(*weights, cancelled));
  } else {
    PENSTOCK_RETURN_IF_ERROR(state->FillInitial(spec.training().seed(), cancelled));
  }
  const uint64_t version = reader != nullptr ? reader->manifest().step : 0;
  return std::shared_ptr<ShardJob>(new ShardJob(request, resources, std::move(state), version));
}

ShardJob::ShardJob(const v1::OpenJobRequest& request, const ShardResources& resources,
                   std::unique_ptr<ShardState> state, uint64_t version)
    : request_(request),
      resources_(resources),
      range_(state->range()),
      bytes_{state->state_bytes(), state->gradient_bytes(), state->snapshot_bytes()},
      state_(std::move(state)),
      step_({.range_begin = range_.begin,
             .range_end = range_.end,
             .piece_elements = kPieceElements,
             .open_epoch = request.epoch(),
             .committed_step = version,
             .incarnation = resources.incarnation,
             .published = IsPublished(request.spec())}) {}

ShardJob::~ShardJob() = default;

// ---- Small things ----

absl::Status ShardJob::CheckOpenLocked() const {
  if (!closed_) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("job ", request_.job_id(), " isn't open on this shard any more"));
}

absl::Status ShardJob::CheckStepLimit(uint64_t step) const {
  const uint64_t steps = request_.spec().training().steps();
  if (step >= 1 && step <= steps) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("step ", step, ": the job's steps are 1 to ", steps));
}

absl::StatusOr<Progress> ShardJob::WaitLocked(const WaiterPtr& waiter) {
  if (waiters_.size() >= static_cast<size_t>(kWaitersMax)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("job ", request_.job_id(), " has ", kWaitersMax, " calls that wait already; ask again"));
  }
  waiters_.push_back(waiter);
  return Progress::kWaiting;
}

void ShardJob::WakeAll(Lock& lock) {
  std::vector<WaiterPtr> woken;
  woken.swap(waiters_);
  quiet_.notify_all();
  lock.unlock();
  for (const WaiterPtr& waiter : woken) waiter->Wake();
  lock.lock();
}

void ShardJob::Forget(const Waiter* waiter) {
  const Lock lock(mutex_);
  std::erase_if(waiters_, [waiter](const WaiterPtr& other) { return other.get() == waiter; });
}

v1::OpenJobResponse ShardJob::Describe() const {
  v1::OpenJobResponse response;
  response.set_committed_step(committed_step());
  response.set_range_begin(range_.begin);
  response.set_range_end(range_.end);
  response.set_bytes_held(bytes_.state + bytes_.gradient + bytes_.snapshot);
  return response;
}

uint64_t ShardJob::sealed_epoch() const {
  const Lock lock(mutex_);
  return step_.sealed_epoch();
}
uint64_t ShardJob::committed_step() const {
  const Lock lock(mutex_);
  return step_.committed_step();
}

// ---- Gradients in ----

absl::Status ShardJob::PushBegin(uint64_t epoch, uint64_t step) const {
  const Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  PENSTOCK_RETURN_IF_ERROR(step_.OnPushBegin(epoch, step));
  return CheckStepLimit(step);
}

absl::StatusOr<uint64_t> ShardJob::PushChunk(uint64_t epoch, uint64_t step, const PushFrame& frame) {
  PENSTOCK_RETURN_IF_ERROR(CheckPayload(frame.payload, frame.begin, frame.crc32c));
  const uint64_t elements = frame.payload.size() / sizeof(float);
  if (frame.begin > static_cast<uint64_t>(range_.end)) {
    return absl::OutOfRangeError(
        absl::StrCat("a chunk at element ", frame.begin, " isn't within this shard's elements ", range_.ToString()));
  }
  const int64_t begin = frame.begin;
  ShardStep::ChunkPlan plan;
  {
    Lock lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
    PENSTOCK_ASSIGN_OR_RETURN(plan, step_.OnChunk(epoch, step, begin, begin + elements,
                                                  static_cast<int>(std::min<uint64_t>(frame.state_kind, INT_MAX))));
    // A published state is replaced in place. New readers are refused from now on; those that are registered copy one
    // chunk each.
    if (plan.kind != 0) quiet_.wait(lock, [this] { return readers_ == 0; });
  }
  // From here to OnChunkWritten these elements are ours alone: no other chunk, sum or update touches them.
  for (const ElementRange& range : plan.to_write) {
    const std::span<float> to = plan.kind == 0
                                    ? state_->Gradient(range)
                                    : state_->Elements(StateClassOf(static_cast<v1::StateKind>(plan.kind)), range);
    frame.payload.CopyTo((range.begin - begin) * sizeof(float),
                         {reinterpret_cast<uint8_t*>(to.data()), to.size_bytes()});
  }
  Lock lock(mutex_);
  const std::vector<ShardStep::WholePiece> whole = step_.OnChunkWritten(plan);
  if (!whole.empty()) {
    lock.unlock();
    std::vector<double> sums;
    for (const ShardStep::WholePiece& piece : whole) sums.push_back(SumOfSquares(state_->Gradient(piece.range)));
    lock.lock();
    for (size_t i = 0; i < whole.size(); ++i) step_.OnPieceSum(whole[i], sums[i]);
  }
  WakeAll(lock);
  return elements;
}

// ---- The step ----

absl::StatusOr<Progress> ShardJob::Obey(const absl::StatusOr<ShardStep::Verdict>& verdict, const WaiterPtr& waiter,
                                        Lock& lock) {
  PENSTOCK_RETURN_IF_ERROR(verdict.status());
  switch (*verdict) {
    case ShardStep::Verdict::kDone:
      return Progress::kDone;
    case ShardStep::Verdict::kWait:
      return WaitLocked(waiter);
    case ShardStep::Verdict::kApply:
      Apply(lock);
      return Progress::kDone;
  }
  return absl::InternalError("an impossible verdict");
}

absl::StatusOr<Progress> ShardJob::Prepare(const v1::PrepareRequest& request, const WaiterPtr& waiter,
                                           v1::PrepareResponse* response) {
  PENSTOCK_RETURN_IF_ERROR(CheckStepLimit(request.step()));
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  PENSTOCK_ASSIGN_OR_RETURN(const Progress progress,
                            Obey(step_.OnPrepare(request.epoch(), request.step(), request.inputs()), waiter, lock));
  if (progress == Progress::kDone) *response->mutable_prepared() = step_.prepared(request.step());
  return progress;
}

absl::StatusOr<Progress> ShardJob::Commit(const v1::CommitRequest& request, const WaiterPtr& waiter,
                                          v1::CommitResponse* response) {
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  const absl::StatusOr<ShardStep::Verdict> verdict = step_.OnCommit(request.epoch(), request.decision());
  if (verdict.ok() && *verdict == ShardStep::Verdict::kApply) KeepRecords(request);
  PENSTOCK_ASSIGN_OR_RETURN(const Progress progress, Obey(verdict, waiter, lock));
  response->set_committed_step(step_.committed_step());
  return progress;
}

void ShardJob::KeepRecords(const v1::CommitRequest& request) {
  for (const v1::StepRecord& record : request.records()) {
    if (record.step() <= step_.committed_step() || record.step() >= request.decision().step()) continue;
    records_.push_back(record);
    if (records_.size() > kStepRecordsMax) records_.pop_front();
  }
}

absl::StatusOr<Progress> ShardJob::Seal(const v1::SealRequest& request, const WaiterPtr& waiter,
                                        v1::SealResponse* response) {
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  const uint64_t sealed_before = step_.sealed_epoch();
  const absl::StatusOr<ShardStep::Verdict> verdict = step_.OnSeal(request.epoch());
  // Those who waited under an older epoch learn that it is over. Only by the seal that did it: of two that wait for
  // data work to end, each asking again, neither must wake the other.
  if (step_.sealed_epoch() != sealed_before) {
    std::vector<WaiterPtr> woken;
    woken.swap(waiters_);
    const absl::StatusOr<Progress> progress = Obey(verdict, waiter, lock);
    if (progress.ok() && *progress == Progress::kDone) *response = step_.Report();
    lock.unlock();
    for (const WaiterPtr& other : woken) other->Wake();
    return progress;
  }
  PENSTOCK_ASSIGN_OR_RETURN(const Progress progress, Obey(verdict, waiter, lock));
  if (progress == Progress::kDone) *response = step_.Report();
  return progress;
}

absl::StatusOr<Progress> ShardJob::Decide(const v1::DecideRequest& request, const WaiterPtr& waiter,
                                          v1::DecideResponse* response) {
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  std::optional<v1::StepDecision> decision;
  if (request.has_decision()) decision = request.decision();
  PENSTOCK_ASSIGN_OR_RETURN(const Progress progress,
                            Obey(step_.OnDecide(request.epoch(), request.step(), decision), waiter, lock));
  if (progress == Progress::kDone) {
    response->set_committed_step(step_.committed_step());
    WakeAll(lock);
  }
  return progress;
}

void ShardJob::Apply(Lock& lock) {
  const v1::JobSpec& spec = request_.spec();
  const v1::StepDecision decision = step_.apply_decision();
  // New readers are refused since the update was handed out; those that are registered copy one chunk each.
  quiet_.wait(lock, [this] { return readers_ == 0; });
  const bool take_snapshot = state_->has_snapshot() && IsCheckpointStep(spec, decision.step()) &&
                             decision.step() < spec.training().steps() && snapshot_users_ == 0;
  if (take_snapshot) snapshot_step_ = 0;
  lock.unlock();
  if (!IsPublished(spec)) state_->Update(spec.optimizer(), decision);
  DigestSet digests{decision.step(), {}};
  const bool take_digest = IsDigestStep(spec, decision.step());
  if (take_digest) digests.pieces = state_->Digests();
  if (take_snapshot) state_->TakeSnapshot();
  lock.lock();
  step_.OnApplied();
  if (take_snapshot) snapshot_step_ = decision.step();
  if (take_digest) digests_.push_back(std::move(digests));
  if (digests_.size() > kDigestSetsMax) digests_.pop_front();
  records_.push_back(MakeRecord(decision, step_.last_decision_epoch()));
  if (records_.size() > kStepRecordsMax) records_.pop_front();
  WakeAll(lock);
}

// ---- Weights out ----

absl::Status ShardJob::CheckPullRanges(const v1::PullRequest& request) const {
  if (request.ranges_size() > kPullRangesMax) {
    return absl::ResourceExhaustedError(absl::StrCat("a pull of ", request.ranges_size(), " ranges; at most ",
                                                     kPullRangesMax, " can be asked for at once"));
  }
  for (const v1::ElementRange& range : request.ranges()) {
    if (range.begin() >= range.end()) {
      return absl::InvalidArgumentError(absl::StrCat("the range [", range.begin(), ", ", range.end(), ") is empty"));
    }
    if (!v1::StateKind_IsValid(range.state_kind())) {
      return absl::InvalidArgumentError(
          absl::StrCat("the state kind ", static_cast<int>(range.state_kind()), " isn't known here"));
    }
    if (range.begin() < static_cast<uint64_t>(range_.begin) || range.end() > static_cast<uint64_t>(range_.end)) {
      return absl::OutOfRangeError(absl::StrCat("the range [", range.begin(), ", ", range.end(),
                                                ") isn't within this shard's elements ", range_.ToString()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Progress> ShardJob::PullChunk(uint64_t epoch, uint64_t version, ElementRange part, PulledElements what,
                                             const WaiterPtr& waiter, grpc::ByteBuffer* frame) {
  {
    Lock lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
    PENSTOCK_ASSIGN_OR_RETURN(const Progress progress, Obey(step_.CheckPull(epoch, version), waiter, lock));
    if (progress == Progress::kWaiting) return progress;
    ++readers_;
  }
  const std::span<const float> elements = state_->Elements(StateClassOf(what.kind), part);
  *frame = what.bf16 ? MakeRoundedPullFrame(part.begin, elements) : MakePullFrame(part.begin, elements);
  EndRead();
  return Progress::kDone;
}

// ---- The end ----

absl::StatusOr<OpenVerdict> ShardJob::BeginOpen(uint64_t epoch) {
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  PENSTOCK_ASSIGN_OR_RETURN(const OpenVerdict verdict, CheckOpen(&step_, epoch));
  if (verdict == OpenVerdict::kReplace) {
    closed_ = true;
    WakeAll(lock);
  }
  return verdict;
}

absl::Status ShardJob::BeginClose(uint64_t epoch) {
  Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckClose(&step_, epoch));
  closed_ = true;
  WakeAll(lock);
  return absl::OkStatus();
}

absl::Status ShardJob::Close() {
  std::unique_ptr<ShardState> freed;
  Lock lock(mutex_);
  PENSTOCK_CHECK(closed_);
  const bool quiet = quiet_.wait_for(lock, absl::ToChronoNanoseconds(kCloseWaitMax),
                                     [this] { return !step_.busy() && readers_ == 0 && snapshot_users_ == 0; });
  if (!quiet) {
    return absl::UnavailableError(
        absl::StrCat("job ", request_.job_id(), " is being closed: an update or a checkpoint is under way; ask again"));
  }
  freed = std::move(state_);
  lock.unlock();
  return absl::OkStatus();
}

}  // namespace penstock
