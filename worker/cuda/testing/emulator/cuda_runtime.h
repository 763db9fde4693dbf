// The device's side of the emulator: see cuda_runtime_api.h beside it.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

namespace penstock::cuda::emulator {

// What threadIdx and the like say in the fiber that runs.
extern dim3 thread_index, block_index, block_size, grid_size;
// Dynamic shared memory of the block that runs.
extern std::byte* dynamic_shared;

// Whether a device takes such a launch.
bool CanRun(dim3 grid, dim3 block);
// Runs `body` in every thread of every block (blocks.cc), on the device's thread.
void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
// What a launch does: gives that to the stream.
cudaError_t Run(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> body);

void SyncBlock();
// Puts `value` where the warp's lanes see it and returns lane `from`'s.
uint64_t Exchange(uint64_t value, unsigned from);
unsigned Lane();
// How many threads of the block say true, at a barrier.
int CountInBlock(bool value);

// All lanes of the warp.
void SyncWarp();
// Where the lanes of a warp put what they multiply or load together (emulated_mma.h).
struct WarpTile {
  float a[16][16];
  float b[8][16];  // by columns
  const void* rows[32];
};
WarpTile& TileOfWarp();

// `bytes` bytes, or zeros, that this thread's WaitForCopies will bring; aligned to their number, as a device wants it.
void CopyAsync(void* to, const void* from, size_t bytes, bool valid);
void CommitCopies();
void WaitForCopies(int pending);

template <typename T>
T Shuffle(T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = Exchange(bits, from);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace penstock::cuda::emulator

#define threadIdx (::penstock::cuda::emulator::thread_index)
#define blockIdx (::penstock::cuda::emulator::block_index)
#define blockDim (::penstock::cuda::emulator::block_size)
#define gridDim (::penstock::cuda::emulator::grid_size)

inline void __syncthreads() { penstock::cuda::emulator::SyncBlock(); }
inline int __syncthreads_or(int value) { return penstock::cuda::emulator::CountInBlock(value != 0) > 0; }
inline void __syncwarp() { penstock::cuda::emulator::SyncWarp(); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return penstock::cuda::emulator::Shuffle(value, penstock::cuda::emulator::Lane() ^ static_cast<unsigned>(mask));
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

namespace penstock::cuda {
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  // The values that the arguments have now.
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  return emulator::Run(grid, block, shared_bytes, stream, [=] { std::apply(kernel, values); });
}
}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_H_
