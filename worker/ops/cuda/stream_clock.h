// A stream's clock, of events that measure times. Private to ops/cuda.
#ifndef PENSTOCK_WORKER_OPS_CUDA_STREAM_CLOCK_H_
#define PENSTOCK_WORKER_OPS_CUDA_STREAM_CLOCK_H_

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/ops/stream_clock.h"

namespace penstock::cuda {

// The device that is current is the stream's, now and in every call.
std::unique_ptr<StreamClock> MakeStreamClock(cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_STREAM_CLOCK_H_
