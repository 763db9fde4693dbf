#include "worker/runtime/mirror.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/annotate.h"
#include "core/base/status_macros.h"
#include "worker/runtime/rank_error.h"

namespace penstock {

Mirror::~Mirror() {
  Abort(absl::CancelledError("the rank ends"));
  if (!thread_.joinable()) return;
  // Whatever it waits for. After Drain it waits for nothing.
  if (driver_ != nullptr) driver_->Abort(absl::CancelledError("the rank ends"));
  client_->Cancel("the rank ends");
  thread_.join();
}

void Mirror::PlanMemory(MemoryPlan* memory) {
  if (options_.in_place) return;
  for (int i = 0; i < options_.lag; ++i) {
    regions_.push_back(
        memory->AddFloats(MemoryClass::kCommunication, absl::StrCat("mirror ", i), TotalSize(options_.ranges)));
  }
}

void Mirror::Start(const Arena& arena, Backend* backend, StateClient* client, CommitDriver* driver) {
  backend_ = backend;
  for (const RegionId region : regions_) slots_.push_back(arena.Floats(region));
  client_ = client;
  driver_ = driver;
  thread_ = std::thread([this] { Main(); });
}

template <typename Condition>
absl::Status Mirror::WaitLocked(std::unique_lock<std::mutex>& lock, Condition condition) {
  const bool done = changed_.wait_for(lock, absl::ToChronoNanoseconds(options_.timeout),
                                      [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !status_.ok() || condition(); });
  PENSTOCK_RETURN_IF_ERROR(status_);
  if (done) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("the parameter service has been ", entries_.size(),
                                                  " steps behind for ", absl::FormatDuration(options_.timeout)));
}

void Mirror::NoteLagLocked() const {
  if (options_.on_lag) options_.on_lag(static_cast<int>(entries_.size()));
}

absl::Status Mirror::Take(uint64_t step, std::span<const GradientRange> gradients) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(WaitLocked(
        lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return entries_.size() < static_cast<size_t>(options_.lag); }));
  }
  taken_.assign(gradients.begin(), gradients.end());
  if (options_.in_place) return absl::OkStatus();
  // Steps come one after the other, so the slot's last step was the one that has left.
  float* to = slots_[static_cast<size_t>(step % slots_.size())].data();
  std::vector<CopySpan> copies;
  for (GradientRange& gradient : taken_) {
    copies.push_back({gradient.data, to, gradient.range.size() * static_cast<int64_t>(sizeof(float))});
    gradient.data = to;
    to += gradient.range.size();
  }
  PENSTOCK_ASSIGN_OR_RETURN(copied_, backend_->CopyBeside({}, copies));
  return absl::OkStatus();
}

absl::Status Mirror::GuardGradients() {
  const std::shared_ptr<Fence> copied = std::exchange(copied_, nullptr);
  return copied == nullptr ? absl::OkStatus() : copied->Block({});
}

absl::Status Mirror::Add(Step step) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(status_);
    entries_.push_back({std::move(step), std::exchange(taken_, {}), copied_, {}});
    NoteLagLocked();
  }
  changed_.notify_all();
  return absl::OkStatus();
}

void Mirror::Report(v1::MemberReport report) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!status_.ok()) return;
    if (!entries_.empty()) {
      entries_.back().reports_after.push_back(std::move(report));
      return;
    }
  }
  options_.report(std::move(report));
}

absl::Status Mirror::Drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  return WaitLocked(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return entries_.empty(); });
}

void Mirror::Abort(const absl::Status& reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  stop_ = true;
  if (status_.ok()) status_ = reason;
  changed_.notify_all();
}

absl::Status Mirror::Replay(const Entry& entry) {
  const uint64_t step = entry.step.step;
  if (entry.copied != nullptr) PENSTOCK_RETURN_IF_ERROR(entry.copied->Wait());
  if (!entry.gradients.empty()) PENSTOCK_RETURN_IF_ERROR(FromService(client_->Push(step, entry.gradients)));
  if (driver_ != nullptr) {
    PENSTOCK_CHECK(entry.step.decision.has_value());
    return driver_->Commit(step, entry.step.decision->inputs(), entry.step.decision).status();
  }
  // The next push is refused before this step is committed.
  return FromService(client_->AwaitVersion(step, options_.ranges, options_.timeout));
}

void Mirror::Main() {
  if (absl::Status entered = backend_->EnterThread(); !entered.ok()) return Abort(entered);
  while (true) {
    const Entry* entry = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_ || !entries_.empty(); });
      if (stop_) return;
      // It stays at the front, and where it is, until it is committed: only this thread takes entries out.
      entry = &entries_.front();
    }
    const absl::Status replayed = Annotate(Replay(*entry), absl::StrCat("mirroring step ", entry->step.step));
    if (!replayed.ok()) {
      Abort(replayed);
      return;
    }
    if (entry->step.decision.has_value()) {
      v1::MemberReport report;
      *report.mutable_step() = entry->step.record;
      options_.report(std::move(report));
    }
    {
      std::unique_lock<std::mutex> lock(mutex_);
      // Outside of the lock, and before anybody can see that the step is done.
      while (!entries_.front().reports_after.empty()) {
        std::vector<v1::MemberReport> reports = std::exchange(entries_.front().reports_after, {});
        lock.unlock();
        for (v1::MemberReport& report : reports) options_.report(std::move(report));
        lock.lock();
      }
      entries_.pop_front();
      NoteLagLocked();
    }
    changed_.notify_all();
  }
}

}  // namespace penstock
