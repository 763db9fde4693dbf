// NCCL on the emulator's streams (worker/cuda/testing/emulator), between ranks that are threads or processes of one
// machine: worker/comm/nccl runs on it where there is no card. Written from the library's documentation, as unhelpful
// as that allows:
//
// - A send is done when its receive has come, and everything behind it on its communicator waits, whatever the stream.
//   Operations of one group go on together. A send's buffer is read when its receive is there; a receive's is garbage
//   from when it begins until it is done.
// - Communicators that don't block: connecting, and now and then any call, goes on in the background (ncclInProgress),
//   and a call meanwhile is ncclInvalidUsage. Two ranks connect at their first message: that call goes on until both
//   have called.
// - Sums are added in an order that isn't the ranks'.
// - ncclCommAbort ends operations that wait, and frees memory as the device does it: after all that the device has. In
//   a group the first happens at the call and the second at the group's end.
// - A peer that has gone, or has aborted, shows as an asynchronous ncclRemoteError; with
//   PENSTOCK_EMULATED_NCCL_LOST=silent it never shows. Operations that wait for it go on waiting.
// - What NCCL leaves undefined (sizes that don't match, collectives in different orders, a communicator after its
//   abort) ends the process with a message.
//
// It can't show what a card's thread blocks and hardware queues hold up, and is slow.
//
// Linking it in is enough: worker/cuda/dynamic_library.h finds it by its name (worker/cuda/testing/emulated_library.h).
#ifndef PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_NCCL_H_
#define PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_NCCL_H_

#include <nccl.h>

#endif  // PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_NCCL_H_
