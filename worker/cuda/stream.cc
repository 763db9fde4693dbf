#include "worker/cuda/stream.h"

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"

namespace penstock::cuda {

absl::StatusOr<Stream> Stream::Create(bool urgent) {
  int least = 0;
  int greatest = 0;
  PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities of streams"));
  Stream stream;
  PENSTOCK_RETURN_IF_ERROR(ToStatus(
      cudaStreamCreateWithPriority(&stream.stream_, cudaStreamNonBlocking, urgent ? greatest : least), "a stream"));
  return stream;
}

// Errors at the end have nobody to go to; a sticky one shows in the next call.
Stream::~Stream() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::StatusOr<Event> Event::Create() {
  Event event;
  PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event.event_, cudaEventDisableTiming), "an event"));
  return event;
}

Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

absl::Status Event::Record(cudaStream_t stream) {
  return ToStatus(cudaEventRecord(event_, stream), "recording an event");
}

absl::Status Event::Block(cudaStream_t stream) const {
  return ToStatus(cudaStreamWaitEvent(stream, event_, 0), "a stream's wait for an event");
}

absl::StatusOr<bool> Event::Done() const {
  const cudaError_t error = cudaEventQuery(event_);
  if (error == cudaErrorNotReady) return false;
  PENSTOCK_RETURN_IF_ERROR(ToStatus(error, "an event"));
  return true;
}

}  // namespace penstock::cuda
