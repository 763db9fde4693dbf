#include "worker/comm/nccl/nccl_channel.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/status.h"

namespace penstock {
namespace {

// A wait polls without a pause at first, as most are short, and then sleeps between looks.
constexpr int kPollsWithoutPause = 2000;
constexpr std::chrono::microseconds kPause(20);

}  // namespace

std::string NcclEpoch::Name(int rank) const {
  const bool named = rank >= 0 && rank < static_cast<int>(names_.size());
  return named ? absl::StrCat("rank ", rank, " (", names_[rank], ")") : absl::StrCat("rank ", rank);
}

absl::Status NcclEpoch::status() const {
  if (!failed_.load(std::memory_order_acquire)) return absl::OkStatus();
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

absl::Status NcclEpoch::Fail(absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (status_.ok()) status_ = std::move(status);
  failed_.store(true, std::memory_order_release);
  return status_;
}

absl::Status NcclEpoch::Await(absl::FunctionRef<absl::StatusOr<bool>()> done, absl::Duration timeout,
                              absl::FunctionRef<std::string()> late) const {
  const absl::Time deadline = Clock::Real()->Monotonic() + timeout;
  for (int polls = 0;; ++polls) {
    PENSTOCK_RETURN_IF_ERROR(status());
    PENSTOCK_ASSIGN_OR_RETURN(const bool finished, done());
    if (finished) return absl::OkStatus();
    if (Clock::Real()->Monotonic() >= deadline) return absl::DeadlineExceededError(late());
    if (polls >= kPollsWithoutPause) std::this_thread::sleep_for(kPause);
  }
}

absl::StatusOr<std::unique_ptr<NcclChannel>> NcclChannel::Begin(Options options) {
  std::unique_ptr<NcclChannel> channel(new NcclChannel(std::move(options)));
  const Options& o = channel->options_;
  PENSTOCK_ASSIGN_OR_RETURN(channel->stream_, cuda::Stream::Create(/*urgent=*/true));
  PENSTOCK_ASSIGN_OR_RETURN(channel->before_, cuda::Event::Create());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = o.blocks_max;
  const ncclResult_t result = o.nccl->CommInitRankConfig(&channel->comm_, o.size, o.id, o.index, &config);
  PENSTOCK_RETURN_IF_ERROR(channel->Blame(o.nccl->ToStatus(result, channel->comm_, channel->Where())));
  return channel;
}

absl::Status NcclChannel::Finish(absl::Time deadline) {
  absl::Status status =
      options_.epoch->Await([this] { return Idle(); }, deadline - Clock::Real()->Monotonic(),
                            [this] { return absl::StrCat(Where(), " wasn't connected before the deadline"); });
  PENSTOCK_RETURN_IF_ERROR(options_.epoch->status());  // an abort's words stay as they are
  return Blame(std::move(status));
}

NcclChannel::~NcclChannel() {
  if (comm_ != nullptr) AbortAll({this}, stream_.get());
}

// Never ncclCommDestroy: it waits for peers, which may be gone. An abort ends the kernels that wait for one.
void NcclChannel::AbortAll(const std::vector<NcclChannel*>& channels, cudaStream_t compute) {
  if (channels.empty()) return;
  const NcclLibrary& nccl = channels.front()->nccl();
  nccl.GroupStart();
  // Tells the kernels, and those that come to run yet; what they use is freed at the group's end.
  for (NcclChannel* const channel : channels) nccl.CommAbort(std::exchange(channel->comm_, nullptr));
  Drain(channels, compute);
  nccl.GroupEnd();
}

void NcclChannel::Drain(const std::vector<NcclChannel*>& channels, cudaStream_t compute) {
  std::vector<cudaStream_t> streams = {compute};
  for (const NcclChannel* const channel : channels) streams.push_back(channel->stream());
  const absl::Time deadline = Clock::Real()->Monotonic() + kDrainTimeout;
  for (const cudaStream_t stream : streams) {
    cudaError_t state = cudaStreamQuery(stream);
    while (state == cudaErrorNotReady && Clock::Real()->Monotonic() < deadline) {
      std::this_thread::sleep_for(kPause);
      state = cudaStreamQuery(stream);
    }
    if (state != cudaSuccess) {
      LogWarning("{}: after its abort: {}", channels.front()->Where(),
                 cuda::ToStatus(state, "its streams aren't empty"));
      return;
    }
  }
}

absl::Status NcclChannel::After(cudaStream_t stream) {
  PENSTOCK_RETURN_IF_ERROR(before_.Record(stream));
  return before_.Block(stream_.get());
}

absl::Status NcclChannel::Enqueue(absl::FunctionRef<ncclResult_t()> calls) {
  PENSTOCK_RETURN_IF_ERROR(options_.epoch->status());
  ncclResult_t result = nccl().GroupStart();
  if (result == ncclSuccess) {
    result = calls();
    // The group must be closed in any case.
    const ncclResult_t end = nccl().GroupEnd();
    if (result == ncclSuccess || result == ncclInProgress) result = end;
  }
  absl::Status status = nccl().ToStatus(result, comm_, Where());
  // In the background NCCL may still be handing the kernels to the stream; until then neither the communicator nor the
  // stream may get anything else.
  if (status.ok() && result == ncclInProgress) {
    status = options_.epoch->Await([this] { return Idle(); }, options_.epoch->wait_timeout(),
                                   [this] { return absl::StrCat(Where(), ": the operation didn't start in time"); });
  }
  return status.ok() ? status : options_.epoch->Fail(Blame(std::move(status)));
}

absl::Status NcclChannel::Check() { return Blame(Idle().status()); }

absl::Status NcclChannel::Late() const {
  return Blame(absl::DeadlineExceededError(
      absl::StrCat(Where(), ": nothing within ", absl::FormatDuration(options_.epoch->wait_timeout()))));
}

absl::StatusOr<bool> NcclChannel::Idle() {
  ncclResult_t state = ncclSuccess;
  PENSTOCK_RETURN_IF_ERROR(nccl().ToStatus(nccl().CommGetAsyncError(comm_, &state), comm_, Where()));
  PENSTOCK_RETURN_IF_ERROR(nccl().ToStatus(state, comm_, Where()));
  return state == ncclSuccess;
}

absl::Status NcclChannel::Blame(absl::Status status) const {
  const bool blamed = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
  // The epoch's own error may carry a peer already.
  if (!blamed || options_.peer < 0 || PeerOf(status).has_value()) return status;
  return WithPeer(std::move(status), options_.peer);
}

std::string NcclChannel::Where() const {
  return options_.peer < 0 ? absl::StrCat("NCCL, ", options_.key)
                           : absl::StrCat("NCCL, ", options_.key, " with ", options_.epoch->Name(options_.peer));
}

}  // namespace penstock
