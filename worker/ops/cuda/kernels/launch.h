// Launching kernels without nvcc's own syntax, and the arithmetic of grids. The emulator's <cuda_runtime.h>
// (worker/cuda/testing/emulator) brings a Launch of its own.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAUNCH_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

namespace penstock::cuda {

// Blocks of `unit` elements that cover `count`; at most 2^31 - 1, which is what a grid's x takes.
inline int64_t BlocksFor(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

#if !defined(PENSTOCK_CUDA_EMULATED)
// Starts kernel<<<grid, block, shared_bytes, stream>>>(arguments...). Arguments are converted to the parameters' types.
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  return std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream);
      },
      values);
}
#endif

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAUNCH_H_
