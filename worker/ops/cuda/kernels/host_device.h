// PENSTOCK_HOST_DEVICE: for functions of headers that nvcc and the host's compiler both read.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_HOST_DEVICE_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define PENSTOCK_HOST_DEVICE __host__ __device__
#else
#define PENSTOCK_HOST_DEVICE
#endif

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_HOST_DEVICE_H_
