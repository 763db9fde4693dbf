// Faults of the emulated devices. A kernel's bad access, or a card's error, is CUDA's to the end of the process: every
// call that has to do with the device gives the error from then on, and frees nothing.
//
// $PENSTOCK_EMULATOR_FAULT names a file that isn't there yet: when it appears, the first process to launch a kernel
// takes it away, and has its device fail.
//
// Thread-safe.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_FAULTS_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_FAULTS_H_

#include <cuda_runtime_api.h>

namespace penstock::cuda::emulator {

void Fail(int device, cudaError_t error);
// cudaSuccess while there was none.
cudaError_t FaultOf(int device);
// At a launch: has the device fail if it is its turn.
cudaError_t MeetFault(int device);

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_FAULTS_H_
