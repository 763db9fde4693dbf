// Times AdamW over a model's parameters against a bare loop that moves the same bytes, and prints one JSON line for
// each. What memory bandwidth allows is the bare loop's time: AdamW can't be faster.
//
//   bazel run -c opt //tests/bench:adamw_bench
#include <omp.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "core/base/bfloat16.h"
#include "core/optimizer/adamw.h"
#include "tests/bench/bench_stats.h"

ABSL_FLAG(size_t, parameters, 123'849'984, "elements");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(int, runs, 9, "timed runs of each");

namespace {

using penstock::AdamWParams;
using penstock::AdamWUpdate;
using penstock::Bfloat16;
using penstock::VectorIsa;

// Zeroed memory on huge pages where there are some, as a worker's arena has it; kept until the process ends.
template <typename T>
std::span<T> Memory(size_t elements) {
  const size_t bytes = elements * sizeof(T);
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  madvise(data, bytes, MADV_HUGEPAGE);
  std::memset(data, 0, bytes);
  return {static_cast<T*>(data), elements};
}

double MedianMs(const std::function<void(size_t begin, size_t size)>& part) {
  const size_t elements = absl::GetFlag(FLAGS_parameters);
  const int threads = absl::GetFlag(FLAGS_threads);
  std::vector<double> times;
  for (int run = 0; run <= absl::GetFlag(FLAGS_runs); ++run) {
    const double seconds = penstock::SecondsOf([&] {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
      for (int thread = 0; thread < threads; ++thread) {
        const size_t begin = elements * static_cast<size_t>(thread) / static_cast<size_t>(threads);
        const size_t end = elements * static_cast<size_t>(thread + 1) / static_cast<size_t>(threads);
        part(begin, end - begin);
      }
    });
    if (run > 0) times.push_back(seconds);
  }
  return penstock::Median(times) * 1e3;
}

void Report(const char* what, double ms, double bytes) {
  const double elements = static_cast<double>(absl::GetFlag(FLAGS_parameters));
  std::printf("{\"what\": \"%s\", \"threads\": %d, \"ms\": %.1f, \"gb_per_second\": %.1f}\n", what,
              absl::GetFlag(FLAGS_threads), ms, bytes * elements / ms / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const size_t elements = absl::GetFlag(FLAGS_parameters);
  const auto gradient = Memory<float>(elements), weights = Memory<float>(elements);
  const auto exp_avg = Memory<float>(elements), exp_avg_sq = Memory<float>(elements);
  const auto rounded = Memory<Bfloat16>(elements);
  for (size_t i = 0; i < elements; ++i) gradient[i] = static_cast<float>(i % 7) * 0.1F;
  const AdamWParams params{
      .learning_rate = 1e-4F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-8F, .weight_decay = 0.1F};

  // Four streams read, three of them written back.
  const double bare = MedianMs([&](size_t begin, size_t size) {
    const float* __restrict g = gradient.data() + begin;
    float* __restrict w = weights.data() + begin;
    float* __restrict m = exp_avg.data() + begin;
    float* __restrict v = exp_avg_sq.data() + begin;
    for (size_t i = 0; i < size; ++i) {
      w[i] += g[i];
      m[i] += g[i];
      v[i] += g[i];
    }
  });
  Report("bare loop, 28 bytes an element", bare, 28);
  for (const VectorIsa isa : {VectorIsa::kV3, VectorIsa::kV4}) {
    if (isa == VectorIsa::kV4 && penstock::BestVectorIsa() != isa) continue;
    const double ms = MedianMs([&](size_t begin, size_t size) {
      AdamWUpdate(params, gradient.subspan(begin, size), weights.subspan(begin, size), exp_avg.subspan(begin, size),
                  exp_avg_sq.subspan(begin, size), isa);
    });
    Report(isa == VectorIsa::kV4 ? "AdamW, AVX-512" : "AdamW, AVX2", ms, 28);
  }
  const double both = MedianMs([&](size_t begin, size_t size) {
    AdamWUpdate(params, gradient.subspan(begin, size), weights.subspan(begin, size), exp_avg.subspan(begin, size),
                exp_avg_sq.subspan(begin, size), rounded.subspan(begin, size));
  });
  Report("AdamW and bf16 weights", both, 30);
  return 0;
}
