#include "coordinator/jobs/store_writer.h"

#include <utility>

#include "core/commit/backoff.h"
#include "services/base/log.h"

namespace penstock {
namespace {

constexpr BackoffOptions kRetry{absl::Milliseconds(200), absl::Seconds(5)};

// What no second try can change.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
      return true;
    default:
      return false;
  }
}

}  // namespace

StoreWriter::StoreWriter(Store* store, Mode mode) : store_(store), mode_(mode) {
  if (mode_ == Mode::kThread) thread_ = std::thread([this] { Run(); });
}

StoreWriter::~StoreWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StoreWriter::AddSteps(const std::string& job, uint64_t epoch, std::vector<v1::StepRecord> records, bool replace) {
  if (records.empty()) return;
  Item item;
  item.job = job;
  item.epoch = epoch;
  item.steps = std::move(records);
  item.replace = replace;
  Add(std::move(item));
}

void StoreWriter::AddEvent(StoredEvent event) {
  Item item;
  item.is_event = true;
  item.event = std::move(event);
  Add(std::move(item));
}

void StoreWriter::Write(std::function<absl::Status(Store&)> write, std::function<void(const absl::Status&)> done) {
  Item item;
  item.write = std::move(write);
  item.done = std::move(done);
  Add(std::move(item));
}

void StoreWriter::WriteOnce(std::function<absl::Status(Store&)> write, std::function<void(const absl::Status&)> done) {
  Item item;
  item.write = std::move(write);
  item.done = std::move(done);
  item.once = true;
  Add(std::move(item));
}

bool StoreWriter::Flush(absl::Duration timeout) {
  struct Barrier {
    std::mutex mutex;
    std::condition_variable changed;
    bool reached = false;
  };
  const auto barrier = std::make_shared<Barrier>();
  WriteOnce([](Store&) { return absl::OkStatus(); },
            [barrier](const absl::Status&) {
              std::lock_guard lock(barrier->mutex);
              barrier->reached = true;
              barrier->changed.notify_all();
            });
  std::unique_lock lock(barrier->mutex);
  return barrier->changed.wait_for(lock, absl::ToChronoNanoseconds(timeout), [&] { return barrier->reached; });
}

void StoreWriter::Add(Item item) {
  if (mode_ == Mode::kInline) {
    std::vector<StoredEvent> events;
    if (item.is_event) events.push_back(item.event);
    Execute(item, events);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    const size_t records = item.steps.size() + (item.is_event ? 1 : 0);
    if (records > 0 && pending_records_ + records > kPendingWritesMax) {
      if (!item.steps.empty())
        LogError("the store is behind: {} steps of job {} are left out", item.steps.size(), item.job);
      return;
    }
    pending_records_ += records;
    if (item.write) urgent_ = true;
    items_.push_back(std::move(item));
  }
  changed_.notify_all();
}

StoreWriter::Item StoreWriter::TakeBatch(std::vector<StoredEvent>* events) {
  Item first = std::move(items_.front());
  items_.pop_front();
  if (first.is_event) {
    events->push_back(std::move(first.event));
    while (!items_.empty() && items_.front().is_event && events->size() < kWriteBatchMax) {
      events->push_back(std::move(items_.front().event));
      items_.pop_front();
    }
    pending_records_ -= events->size();
  } else if (!first.steps.empty()) {
    while (!items_.empty() && !items_.front().steps.empty() && items_.front().job == first.job &&
           items_.front().epoch == first.epoch && items_.front().replace == first.replace &&
           first.steps.size() < kWriteBatchMax) {
      for (v1::StepRecord& record : items_.front().steps) first.steps.push_back(std::move(record));
      items_.pop_front();
    }
    pending_records_ -= first.steps.size();
  }
  return first;
}

absl::Status StoreWriter::Attempt(const Item& item, const std::vector<StoredEvent>& events) {
  if (!events.empty()) return store_->AddEvents(events);
  if (!item.steps.empty()) return store_->WriteSteps(item.job, item.epoch, item.steps, item.replace);
  return item.write(*store_);
}

void StoreWriter::Execute(const Item& item, const std::vector<StoredEvent>& events) {
  Backoff backoff(kRetry);
  while (true) {
    const absl::Status status = Attempt(item, events);
    if (IsFinal(status) || item.once || mode_ == Mode::kInline) {
      if (!status.ok() && !item.done) LogWarning("writing to the store: {}", status);
      if (item.done) item.done(status);
      return;
    }
    LogError("writing to the store failed, trying again: {}", status);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(backoff.Next()), [this] { return stopping_; });
    if (stopping_) return;
  }
}

void StoreWriter::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !items_.empty(); });
    if (items_.empty()) return;
    // Steps and events alone may wait for company.
    changed_.wait_for(lock, absl::ToChronoNanoseconds(kWriteBatchDelay),
                      [this] { return stopping_ || urgent_ || pending_records_ >= kWriteBatchMax; });
    while (!items_.empty()) {
      std::vector<StoredEvent> events;
      const Item item = TakeBatch(&events);
      lock.unlock();
      Execute(item, events);
      lock.lock();
    }
    urgent_ = false;
  }
}

}  // namespace penstock
