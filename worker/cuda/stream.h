// Streams and events with an owner. Thread-safety: as the CUDA runtime's; each is of the device that was current when
// it was made.
#ifndef PENSTOCK_WORKER_CUDA_STREAM_H_
#define PENSTOCK_WORKER_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock::cuda {

// A stream that doesn't synchronise with the default stream.
class Stream {
 public:
  // `urgent` gives it the highest priority: its kernels get free multiprocessors first.
  static absl::StatusOr<Stream> Create(bool urgent = false);
  Stream() = default;
  Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~Stream();
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Orders streams among each other; it doesn't measure times.
class Event {
 public:
  static absl::StatusOr<Event> Create();
  Event() = default;
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event();

  // What was given to `stream` so far is what the event stands for.
  absl::Status Record(cudaStream_t stream);
  // What is given to `stream` from now on waits for the event.
  absl::Status Block(cudaStream_t stream) const;
  // Whether it has happened. Never blocks.
  absl::StatusOr<bool> Done() const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_STREAM_H_
