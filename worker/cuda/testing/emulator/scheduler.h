// What is in streams, and the order in which it is taken from them. Private to the emulator's streams.cc.
//
// Thread-safe: Scheduler's mutex guards all of it.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_SCHEDULER_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_SCHEDULER_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "worker/cuda/testing/emulator/memory.h"
#include "worker/cuda/testing/emulator/streams.h"

// What an event stood for when it was recorded last. Guarded by the scheduler's mutex, as all of these.
struct EventRecord {
  std::shared_ptr<CUstream_st> stream;
  uint64_t number = 0;
  bool done = false;
  std::chrono::steady_clock::time_point time;
};

struct CUevent_st {
  int device = 0;
  bool timing = false;
  std::shared_ptr<EventRecord> last;
};

struct Operation {
  uint64_t number = 0;  // in the order of the calls, over all streams
  penstock::cuda::emulator::Touches touches = penstock::cuda::emulator::Touches::kNothing;
  std::function<bool()> run;  // may be empty
  std::shared_ptr<EventRecord> waits_for;
  std::shared_ptr<EventRecord> records;
};

struct CUstream_st {
  enum class Kind { kLegacy, kBlocking, kNonBlocking };
  int device = 0;
  Kind kind = Kind::kBlocking;
  std::deque<Operation> queue;
  uint64_t given = 0;             // the last one that was put here
  uint64_t done = 0;              // the last one that was taken
  uint64_t asked = 0;             // up to where somebody waits, or has looked
  std::vector<uint64_t> waiting;  // each host thread that waits
  bool stalled = false;           // its head is a poll that has to wait
};

namespace penstock::cuda::emulator {

using Stream = std::shared_ptr<CUstream_st>;

inline thread_local int current_device = 0;
inline std::atomic<unsigned> touched_devices{0};

inline void Touch() { touched_devices |= 1u << current_device; }

inline uint64_t Seed() {
  const char* const seed = std::getenv("PENSTOCK_EMULATOR_SEED");
  return seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10);
}

inline int DeviceCount() {
  const char* const count = std::getenv("PENSTOCK_EMULATOR_DEVICES");
  return count == nullptr ? kDevicesMax : std::clamp(std::atoi(count), 0, kDevicesMax);
}

// What nobody waits for comes after one of these, and then so much of it at once.
inline constexpr std::chrono::microseconds kLags[] = {std::chrono::microseconds(100), std::chrono::microseconds(500),
                                                      std::chrono::microseconds(3000)};
inline constexpr uint64_t kSpareMax = 64;
// How long the others must have nothing to do before a slow stream goes on.
inline constexpr std::chrono::microseconds kSlow(1000);
// What others get done before it may, at most.
inline constexpr uint64_t kSlowPicks = 2000;

class Scheduler {
 public:
  // Never destroyed: streams may have work when the process ends.
  static Scheduler& Get() {
    static Scheduler* const scheduler = new Scheduler;
    return *scheduler;
  }

  Stream Create(CUstream_st::Kind kind) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return CreateLocked(current_device, kind);
  }

  bool Destroy(cudaStream_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // What it still has is done all the same: see Collect.
    return handle != nullptr && std::erase_if(live_, [&](const Stream& s) { return s.get() == handle; }) > 0;
  }

  // Null for one that there isn't.
  Stream Find(cudaStream_t handle) {
    Touch();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (handle == nullptr) {
      Stream& legacy = legacy_[current_device];
      if (legacy == nullptr) legacy = CreateLocked(current_device, CUstream_st::Kind::kLegacy);
      return legacy;
    }
    for (const Stream& stream : live_) {
      if (stream.get() == handle) return stream;
    }
    return nullptr;
  }

  void Put(const Stream& stream, Operation operation) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      operation.number = stream->given = ++numbers_;
      if (operation.records != nullptr) operation.records->number = operation.number;
      // Beside others it may be slow from its first operation on.
      if (slow_ == nullptr && stream->queue.empty() && stream->kind == CUstream_st::Kind::kNonBlocking &&
          random_() % 2 == 0) {
        slow_ = stream;
        mood_ = kSlowPicks;
      }
      stream->queue.push_back(std::move(operation));
      if (!started_) std::thread([this] { Main(); }).detach();
      started_ = true;
      if (!std::exchange(sleeping_, false) && slow_ == nullptr) return;
    }
    work_.notify_one();
  }

  void Wait(const Stream& stream) {
    std::unique_lock<std::mutex> lock(mutex_);
    WaitLocked(lock, stream, stream->given);
  }

  void WaitForDevice(int device) {
    std::unique_lock<std::mutex> lock(mutex_);
    std::vector<std::pair<Stream, uint64_t>> all;
    for (const Stream& stream : streams_) {
      if (stream->device != device) continue;
      stream->asked = std::max(stream->asked, stream->given);
      all.emplace_back(stream, stream->given);
    }
    for (const auto& [stream, number] : all) WaitLocked(lock, stream, number);
  }

  void WaitFor(const std::shared_ptr<EventRecord>& record) {
    std::unique_lock<std::mutex> lock(mutex_);
    WaitLocked(lock, record->stream, record->number);
  }

  // Asks for it, too: a host that looks again and again gets on.
  bool Done(const std::shared_ptr<EventRecord>& record) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (record->done) return true;
      record->stream->asked = std::max(record->stream->asked, record->number);
    }
    work_.notify_one();
    return false;
  }

  bool Empty(const Stream& stream) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stream->done >= stream->given) return true;
      stream->asked = stream->given;
    }
    work_.notify_one();
    return false;
  }

  void Notify() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++notified_;
      for (const Stream& stream : streams_) stream->stalled = false;
    }
    work_.notify_one();
  }

  bool Coin() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return random_() % 2 == 0;
  }

 private:
  Stream CreateLocked(int device, CUstream_st::Kind kind) {
    auto stream = std::make_shared<CUstream_st>();
    stream->device = device;
    stream->kind = kind;
    streams_.push_back(stream);
    if (kind != CUstream_st::Kind::kLegacy) live_.push_back(stream);
    return stream;
  }

  void WaitLocked(std::unique_lock<std::mutex>& lock, const Stream& stream, uint64_t number) {
    if (stream->done >= number) return;
    stream->asked = std::max(stream->asked, number);
    stream->waiting.push_back(number);
    work_.notify_one();
    done_.wait(lock, [&] { return stream->done >= number; });
  }

  // A stream whose head can be done now and has to be before `stream` is done up to `number`; null where there is none,
  // or all wait for what comes from outside. Numbers fall on the way, so it ends.
  CUstream_st* Needed(CUstream_st* stream, uint64_t number) {
    if (stream->queue.empty() || stream->queue.front().number > number || stream->stalled) return nullptr;
    if (stream == slow_.get()) return nullptr;
    const Operation& head = stream->queue.front();
    if (head.waits_for != nullptr && !head.waits_for->done) {
      return Needed(head.waits_for->stream.get(), head.waits_for->number);
    }
    if (stream->kind == CUstream_st::Kind::kNonBlocking) return stream;
    bool held_up = false;
    const bool legacy = stream->kind == CUstream_st::Kind::kLegacy;
    for (const Stream& other : streams_) {
      const bool relevant = other->device == stream->device &&
                            other->kind == (legacy ? CUstream_st::Kind::kBlocking : CUstream_st::Kind::kLegacy);
      if (!relevant || other->queue.empty() || other->queue.front().number > head.number) continue;
      if (CUstream_st* const found = Needed(other.get(), head.number)) return found;
      held_up = true;
    }
    return held_up ? nullptr : stream;
  }

  CUstream_st* AnyOf(bool asked_for) {
    const size_t first = streams_.empty() ? 0 : random_() % streams_.size();
    for (size_t i = 0; i < streams_.size(); ++i) {
      CUstream_st* const stream = streams_[(first + i) % streams_.size()].get();
      if (stream->queue.empty() || (asked_for && stream->asked <= stream->done)) continue;
      CUstream_st* const found = Needed(stream, asked_for ? stream->asked : stream->queue.front().number);
      if (found != nullptr) return found;
    }
    return nullptr;
  }

  // What somebody waits for, for a while nothing else and for a while mixed with the rest; without such, what `spare_`
  // allows.
  CUstream_st* Pick() {
    ChangeMood();
    if (CUstream_st* const found = AnyOf(/*asked_for=*/true)) {
      if (strict_ || random_() % 2 == 0) return found;
      return AnyOf(/*asked_for=*/false);
    }
    if (spare_ == 0) return nullptr;
    --spare_;
    return AnyOf(/*asked_for=*/false);
  }

  void ChangeMood() {
    if (mood_-- > 0) return;
    mood_ = uint64_t{1} << random_() % 10;
    strict_ = random_() % 2 == 0;
    slow_ = random_() % 2 == 0 ? streams_[random_() % streams_.size()] : nullptr;
  }

  // Streams that are destroyed and empty.
  void Collect() {
    if (streams_.size() < live_.size() + kDevicesMax + 16) return;
    std::erase_if(streams_, [&](const Stream& stream) {
      return stream->queue.empty() && stream->kind != CUstream_st::Kind::kLegacy &&
             std::find(live_.begin(), live_.end(), stream) == live_.end();
    });
  }

  void Main() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      if (CUstream_st* const stream = Pick()) {
        RunHead(lock, stream);
        continue;
      }
      OpenForKernels(-1);
      if (slow_ != nullptr) {
        AwaitOthers(lock);
      } else if (AnyOf(/*asked_for=*/false) == nullptr) {
        const uint64_t notified = notified_;
        sleeping_ = true;
        work_.wait(lock, [&] { return !sleeping_ || notified_ != notified; });
        sleeping_ = false;
      } else if (!work_.wait_for(lock, kLags[random_() % std::size(kLags)],
                                 [&] { return AnyOf(/*asked_for=*/true) != nullptr; })) {
        spare_ = 1 + random_() % kSpareMax;
      }
    }
  }

  // The slow stream goes on only when the host gives nothing to the others any more.
  void AwaitOthers(std::unique_lock<std::mutex>& lock) {
    const uint64_t numbers = numbers_;
    if (AnyOf(/*asked_for=*/false) != nullptr) {
      spare_ = 1 + random_() % kSpareMax;
    } else if (!work_.wait_for(lock, kSlow, [&] { return numbers_ != numbers; })) {
      slow_ = nullptr;
    }
  }

  void RunHead(std::unique_lock<std::mutex>& lock, CUstream_st* stream) {
    std::function<bool()> run = std::move(stream->queue.front().run);
    if (run) {
      const Touches touches = stream->queue.front().touches;
      const uint64_t notified = notified_;
      lock.unlock();
      if (touches == Touches::kDevice) OpenForKernels(stream->device);
      const bool done = run();
      lock.lock();
      if (!done) {
        stream->queue.front().run = std::move(run);
        stream->stalled = notified == notified_;
        return;
      }
    }
    const Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->done = operation.number;
    if (operation.records != nullptr) {
      operation.records->done = true;
      operation.records->time = std::chrono::steady_clock::now();
    }
    if (std::erase_if(stream->waiting, [&](uint64_t number) { return number <= stream->done; }) > 0) {
      // The host goes on, and finds the memory closed.
      OpenForKernels(-1);
      done_.notify_all();
    }
    Collect();
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::vector<Stream> streams_;  // all that may have work
  std::vector<Stream> live_;     // those of the program, without the default ones
  Stream legacy_[kDevicesMax];
  uint64_t numbers_ = 0;
  uint64_t notified_ = 0;
  uint64_t spare_ = 0;
  bool started_ = false;
  bool sleeping_ = false;  // until there is an operation
  uint64_t mood_ = 0;      // picks until another one
  bool strict_ = false;
  Stream slow_;  // that nothing is taken from, if there is one
  std::mt19937_64 random_{Seed()};
};

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_SCHEDULER_H_
