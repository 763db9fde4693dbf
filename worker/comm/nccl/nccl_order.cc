#include "worker/comm/nccl/nccl_order.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"

namespace penstock {
namespace {

// Looks at what is waited for, for one look at the messages: those are many, and NCCL's error takes a lock.
constexpr int kPollsPerLook = 64;
// Messages given to streams between two looks at which of them are done.
constexpr size_t kGivenPerCollect = 32;

}  // namespace

NcclOrder::NcclOrder(std::shared_ptr<NcclEpoch> epoch, cudaStream_t compute)
    : epoch_(std::move(epoch)), compute_(compute), owner_(std::this_thread::get_id()) {}

absl::StatusOr<cuda::Event> NcclOrder::TakeEvent() {
  if (idle_events_.empty()) return cuda::Event::Create();
  cuda::Event event = std::move(idle_events_.back());
  idle_events_.pop_back();
  return event;
}

absl::StatusOr<std::shared_ptr<NcclMark>> NcclOrder::Run(NcclChannel& channel, bool receive,
                                                         absl::FunctionRef<absl::Status()> give) {
  PENSTOCK_RETURN_IF_ERROR(channel.After(compute_));
  PENSTOCK_RETURN_IF_ERROR(give());
  return MarkEnd(channel, receive);
}

absl::StatusOr<std::shared_ptr<NcclMark>> NcclOrder::MarkEnd(NcclChannel& channel, bool receive) {
  if (++given_ % kGivenPerCollect == 0) PENSTOCK_RETURN_IF_ERROR(Collect().status());
  if (open_.size() >= kMessagesOpenMax) {
    return absl::ResourceExhaustedError(absl::StrCat("more than ", kMessagesOpenMax, " messages are on their way"));
  }
  auto mark = std::make_shared<NcclMark>();
  mark->channel = &channel;
  mark->receive = receive;
  PENSTOCK_ASSIGN_OR_RETURN(mark->end, TakeEvent());
  PENSTOCK_RETURN_IF_ERROR(mark->end.Record(channel.stream()));
  open_.push_back(mark);
  return mark;
}

absl::Status NcclOrder::AddWaited(const std::shared_ptr<NcclMark>& mark) {
  Waited waited{.mark = mark, .reached = {}};
  PENSTOCK_ASSIGN_OR_RETURN(waited.reached, TakeEvent());
  PENSTOCK_RETURN_IF_ERROR(waited.reached.Record(compute_));
  waited_.push_back(std::move(waited));
  return absl::OkStatus();
}

absl::Status NcclOrder::Block(const std::shared_ptr<NcclMark>& mark) {
  PENSTOCK_RETURN_IF_ERROR(epoch_->status());
  if (mark->done) return absl::OkStatus();
  PENSTOCK_RETURN_IF_ERROR(AddWaited(mark));
  return mark->end.Block(compute_);
}

absl::Status NcclOrder::Await(const std::shared_ptr<NcclMark>& mark) {
  PENSTOCK_RETURN_IF_ERROR(epoch_->status());
  if (mark->done) return absl::OkStatus();
  PENSTOCK_RETURN_IF_ERROR(AddWaited(mark));
  return WaitOnHost([&]() -> absl::StatusOr<bool> {
    if (mark->done) return true;
    return mark->end.Done();
  });
}

absl::Status NcclOrder::WaitOnHost(absl::FunctionRef<absl::StatusOr<bool>()> done) {
  const auto never = [] { return std::string(); };
  if (std::this_thread::get_id() != owner_) return epoch_->Await(done, absl::InfiniteDuration(), never);
  absl::Time progress = Clock::Real()->Monotonic();
  int polls = 0;
  const auto poll = [&]() -> absl::StatusOr<bool> {
    absl::StatusOr<bool> finished = done();
    if (!finished.ok() || *finished) return finished;
    if (++polls % kPollsPerLook == 0) {
      if (absl::Status status = Look(&progress); !status.ok()) return epoch_->Fail(std::move(status));
    }
    return false;
  };
  return epoch_->Await(poll, absl::InfiniteDuration(), never);
}

absl::Status NcclOrder::Look(absl::Time* progress) {
  const absl::Time now = Clock::Real()->Monotonic();
  PENSTOCK_ASSIGN_OR_RETURN(const bool passed, Collect());
  if (passed) *progress = now;
  // A connection that breaks shows at whoever waits for it, so one channel a look is soon enough.
  if (!open_.empty()) PENSTOCK_RETURN_IF_ERROR(open_[looks_++ % open_.size()]->channel->Check());
  if (waited_.empty()) return absl::OkStatus();
  PENSTOCK_ASSIGN_OR_RETURN(const bool reached, waited_.front().reached.Done());
  // Until then the device computes.
  if (!reached) *progress = now;
  return now - *progress < epoch_->wait_timeout() ? absl::OkStatus() : waited_.front().mark->channel->Late();
}

absl::StatusOr<bool> NcclOrder::Collect() {
  absl::Status status;
  const auto done = [&](const std::shared_ptr<NcclMark>& mark) {
    const absl::StatusOr<bool> passed = mark->end.Done();
    status.Update(passed.status());
    if (!passed.ok() || !*passed) return false;
    mark->done = true;
    idle_events_.push_back(std::move(mark->end));
    return true;
  };
  const auto end = std::remove_if(open_.begin(), open_.end(), done);
  const bool any = end != open_.end();
  open_.erase(end, open_.end());
  while (!waited_.empty() && waited_.front().mark->done) {
    idle_events_.push_back(std::move(waited_.front().reached));
    waited_.pop_front();
  }
  PENSTOCK_RETURN_IF_ERROR(status);
  return any;
}

absl::Status NcclOrder::Flush(absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Monotonic() + timeout;
  return WaitOnHost([&]() -> absl::StatusOr<bool> {
    PENSTOCK_RETURN_IF_ERROR(Collect().status());
    if (waited_.empty() && std::all_of(open_.begin(), open_.end(), [](const auto& mark) { return mark->receive; })) {
      return true;
    }
    if (Clock::Real()->Monotonic() >= deadline) return absl::DeadlineExceededError("messages are on their way still");
    return false;
  });
}

void NcclOrder::Forget() {
  open_.clear();
  waited_.clear();
}

}  // namespace penstock
