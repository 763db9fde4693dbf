// Fixed cuts of work over threads: chunk c of n is the same elements in every call, and no thread steals.
//
// Without OpenMP (thread sanitizer builds: libgomp gives false races there) chunks run one after the other, with the
// same bits.
#ifndef PENSTOCK_WORKER_OPS_CPU_PARALLEL_H_
#define PENSTOCK_WORKER_OPS_CPU_PARALLEL_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace penstock {

// Below this many elements, waking a thread costs more than it does.
inline constexpr int64_t kParallelElementsMin = 16 * 1024;

// Makes oneDNN, which has OpenMP in it in any build, use `threads` in this thread's calls; without OpenMP one.
inline void SetLibraryThreads([[maybe_unused]] int threads) {
#ifndef _OPENMP
  threads = 1;
#endif
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

// Calls body(begin, end) for `threads` consecutive runs of [0, count), cut at multiples of `unit`, at the same time.
template <typename Body>
void ParallelFor(int threads, int64_t count, int64_t unit, const Body& body) {
  const int64_t units = (count + unit - 1) / unit;
  const int chunks = static_cast<int>(std::clamp<int64_t>(units, 1, threads));
  if (chunks == 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#ifdef _OPENMP
#pragma omp parallel for num_threads(chunks) schedule(static, 1)
#endif
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = units * chunk / chunks * unit;
    const int64_t end = std::min(count, units * (chunk + 1) / chunks * unit);
    if (begin < end) body(begin, end);
  }
}

// Calls body(chunk, index) for each index in [0, count): index i belongs to chunk i % chunks, one thread a chunk, so
// that a chunk may own scratch memory and costs that grow with the index are spread.
template <typename Body>
void ParallelStrided(int threads, int64_t count, const Body& body) {
  const int chunks = static_cast<int>(std::clamp<int64_t>(count, 1, threads));
#ifdef _OPENMP
#pragma omp parallel for num_threads(chunks) schedule(static, 1)
#endif
  for (int chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t index = chunk; index < count; index += chunks) body(chunk, index);
  }
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CPU_PARALLEL_H_
