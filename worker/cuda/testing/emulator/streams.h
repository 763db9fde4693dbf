// The emulated devices' streams: queues that one thread of the process empties, in an order that is legal and as
// unhelpful as it may be. What was given to a stream mostly stays there until somebody waits for it, and of what other
// streams have, anything may come before or after. The order is drawn from a seed ($PENSTOCK_EMULATOR_SEED), and from
// what the process' threads do meanwhile.
//
// The null stream is a device's legacy default stream: it waits for what the device's other streams were given before,
// and they for it, but for those that were made with cudaStreamNonBlocking.
//
// Thread-safe.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_STREAMS_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_STREAMS_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace penstock::cuda::emulator {

// The calling thread's current device.
int CurrentDevice();

// Devices that some thread had as its current one when it called a function that makes a device's context where there
// is none, since the last call: a bit for each. A context takes memory of the device, whoever's it is.
unsigned TakeTouchedDevices();

enum class Touches {
  kNothing,  // through Open (memory.h) alone
  kDevice,   // the device's memory, at the program's addresses
};

// Puts `work` into the stream; the device's thread runs it once.
cudaError_t Enqueue(cudaStream_t stream, Touches touches, std::function<void()> work);

// The same for work that may have to wait for something outside: `poll` is called until it says that it is done, and
// again only after a Notify. It stays at the head of its stream, and other streams go on.
cudaError_t EnqueuePoll(cudaStream_t stream, std::function<bool()> poll);
// Whether the device has any that isn't done. Who allocates memory then may wait for ever, and is ended.
bool WaitsForOthers(int device);
// Has every poll that isn't done called again. From any thread.
void Notify();

// The device that a stream belongs to; -1 for a stream that there isn't (any more).
int DeviceOfStream(cudaStream_t stream);

// Until everything that the stream, or the current device, has by now is done.
cudaError_t WaitForStream(cudaStream_t stream);
void WaitForDevice(int device = CurrentDevice());

// True or false, at random.
bool Coin();

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_STREAMS_H_
