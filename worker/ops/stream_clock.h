// When a device's stream came to the points that were marked in it. The host, which runs ahead of the device, learns of
// it later.
//
// Thread-safety: none; the rank's thread. It may outlive the backend that made it.
#ifndef PENSTOCK_WORKER_OPS_STREAM_CLOCK_H_
#define PENSTOCK_WORKER_OPS_STREAM_CLOCK_H_

#include <vector>

#include "absl/time/time.h"

namespace penstock {

class StreamClock {
 public:
  virtual ~StreamClock() = default;

  // Behind all that the stream was given so far. False where the device refuses: then there is no mark.
  virtual bool Mark() = 0;
  // Adds the times of the marks that were passed since the last call, in their order, and on the axis of
  // Clock::Monotonic(). Never waits.
  virtual void Take(std::vector<absl::Time>* times) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_STREAM_CLOCK_H_
