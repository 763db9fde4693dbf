// Tensor cores on the host: the functions of worker/ops/cuda/kernels/mma.cuh, from the documented layouts of their
// fragments. All lanes of a warp meet in each of them; a copy lands only when its thread waits for it, so that a tile
// that is read too early is full of NaNs. Included by mma.cuh.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_EMULATED_MMA_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_EMULATED_MMA_H_

#include <cuda_runtime.h>

#include <cstdlib>

#include "worker/cuda/testing/emulator/traffic.h"

namespace penstock::cuda {

inline float HalfOf(unsigned pair, int half) { return __uint_as_float(half == 0 ? pair << 16 : pair & 0xffff0000u); }

inline void Mma(Accumulator& c, const FragmentA& a, const FragmentB& b) {
  emulator::WarpTile& tile = emulator::TileOfWarp();
  const unsigned g = emulator::Lane() / 4;
  const unsigned t = emulator::Lane() % 4 * 2;
  for (unsigned half = 0; half < 2; ++half) {
    const int h = static_cast<int>(half);
    for (unsigned k = 0; k < 4; ++k) tile.a[g + k % 2 * 8][t + k / 2 * 8 + half] = HalfOf(a.r[k], h);
    for (unsigned k = 0; k < 2; ++k) tile.b[g][t + k * 8 + half] = HalfOf(b.r[k], h);
  }
  emulator::SyncWarp();
  for (unsigned k = 0; k < 4; ++k) {
    const float* const row = tile.a[g + k / 2 * 8];
    const float* const column = tile.b[t + k % 2];
    float sum = 0;
    for (int i = 0; i < 16; ++i) sum += row[i] * column[i];
    c.v[k] += sum;
  }
  emulator::SyncWarp();
}

template <bool kTransposed>
void LoadMatrices(unsigned (&r)[4], const Bf16* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) std::abort();  // a misaligned address ends a kernel
  emulator::WarpTile& tile = emulator::TileOfWarp();
  tile.rows[emulator::Lane()] = row;
  emulator::SyncWarp();
  if (emulator::Lane() == 0) emulator::CountMatrixLoad(tile.rows);
  const unsigned g = emulator::Lane() / 4;
  const unsigned t = emulator::Lane() % 4 * 2;
  for (unsigned k = 0; k < 4; ++k) {
    const auto at = [&](unsigned i, unsigned j) -> unsigned {
      return static_cast<const Bf16*>(tile.rows[k * 8 + i])[j].bits;
    };
    r[k] = kTransposed ? at(t, g) | at(t + 1, g) << 16 : at(g, t) | at(g, t + 1) << 16;
  }
  emulator::SyncWarp();
}

inline void CopyAsync16(void* to, const void* from) { emulator::CopyAsync(to, from, 16, true); }
inline void CopyAsync16(void* to, const void* from, bool valid) { emulator::CopyAsync(to, from, 16, valid); }
inline void CopyAsync4(void* to, const void* from, bool valid) { emulator::CopyAsync(to, from, 4, valid); }
inline void CommitCopies() { emulator::CommitCopies(); }
template <int kPending>
void WaitForCopies() {
  emulator::WaitForCopies(kPending);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_EMULATED_MMA_H_
