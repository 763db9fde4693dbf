// How well the emulated kernels' loads and copies fit a device's memory, counted while a ScopedTraffic lives.
//
// Shared memory has 32 banks of 4 bytes; accesses of 16 bytes go through in phases of 8 lanes, and a phase takes as
// many turns as the most different addresses that fall on one bank. Device memory is read in sectors of 32 bytes.
// Counted are ldmatrix (emulated_mma.h) and asynchronous copies of 16 bytes: what the kernels on tensor cores move
// their tiles by. A warp's copies belong together where its lanes have come equally often to one place of the code.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_TRAFFIC_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_TRAFFIC_H_

#include <cstddef>
#include <cstdint>

namespace penstock::cuda::emulator {

struct Traffic {
  int64_t loads = 0;           // phases of ldmatrix
  int64_t load_conflicts = 0;  // further turns that they take
  int64_t copies = 0;          // phases of copies into shared memory
  int64_t copy_conflicts = 0;
  int64_t copied_bytes = 0;  // that copies read of the device's memory
  int64_t sectors = 0;       // that a warp's requests touch for them
};

// One at a time, and no kernel runs while it begins and ends.
class ScopedTraffic {
 public:
  ScopedTraffic();
  ~ScopedTraffic();
  ScopedTraffic(const ScopedTraffic&) = delete;
  ScopedTraffic& operator=(const ScopedTraffic&) = delete;

  // Since it began, of kernels that have ended.
  Traffic Get() const;
};

// For the emulator: all lanes' rows of an ldmatrix; a lane's copy, with the place in the code that asks for it; the end
// of a block.
void CountMatrixLoad(const void* const (&rows)[32]);
void CountCopy(unsigned warp, unsigned lane, const void* place, const void* to, const void* from, bool valid);
void CountBlockEnd();

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_TRAFFIC_H_
