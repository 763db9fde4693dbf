// One thread that writes to the store, in the order in which it was told: so that the scheduler never waits for the
// disk, and a job's end is never in the store before its last steps.
//
// Steps and events that follow each other are written together. A write that fails for a reason that may pass (a full
// disk) is tried again until it succeeds, and everything after it waits: the order is what the history's truth rests
// on. Above kPendingWritesMax waiting records the newest steps are left out; they are read again from the shards.
//
// Thread-safe.
#ifndef PENSTOCK_COORDINATOR_JOBS_STORE_WRITER_H_
#define PENSTOCK_COORDINATOR_JOBS_STORE_WRITER_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/store/store.h"

namespace penstock {

inline constexpr size_t kPendingWritesMax = 100'000;
// Steps or events in one transaction.
inline constexpr size_t kWriteBatchMax = 512;
// How long the first record of a batch waits for others.
inline constexpr absl::Duration kWriteBatchDelay = absl::Milliseconds(50);

class StoreWriter {
 public:
  enum class Mode { kThread, kInline };

  // kInline: everything is written at once, on the caller's thread: for tests. The store outlives the writer.
  StoreWriter(Store* store, Mode mode);
  // Writes what waits, but doesn't try again what fails.
  ~StoreWriter();
  StoreWriter(const StoreWriter&) = delete;
  StoreWriter& operator=(const StoreWriter&) = delete;

  void AddSteps(const std::string& job, uint64_t epoch, std::vector<v1::StepRecord> records, bool replace);
  void AddEvent(StoredEvent event);
  // Tried again until it succeeds or fails for good; `done` (may be empty) gets the last status, on the writer's
  // thread.
  void Write(std::function<absl::Status(Store&)> write, std::function<void(const absl::Status&)> done = {});
  // Tried once.
  void WriteOnce(std::function<absl::Status(Store&)> write, std::function<void(const absl::Status&)> done);
  // Returns when everything that was told before is written, or the time is over: so that a reader sees it. False then.
  bool Flush(absl::Duration timeout);

 private:
  struct Item {
    // One of: steps of a job, an event, a write.
    std::string job;
    uint64_t epoch = 0;
    std::vector<v1::StepRecord> steps;
    bool replace = false;
    bool is_event = false;
    StoredEvent event;
    std::function<absl::Status(Store&)> write;
    std::function<void(const absl::Status&)> done;
    bool once = false;
  };
  void Add(Item item);
  void Run();
  // Takes the next item, and with it those that can be written together.
  Item TakeBatch(std::vector<StoredEvent>* events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Attempt(const Item& item, const std::vector<StoredEvent>& events);
  void Execute(const Item& item, const std::vector<StoredEvent>& events);

  Store* const store_;
  const Mode mode_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_ ABSL_GUARDED_BY(mutex_);
  size_t pending_records_ ABSL_GUARDED_BY(mutex_) = 0;
  bool urgent_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_STORE_WRITER_H_
