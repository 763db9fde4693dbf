#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/testing/backends.h"

namespace penstock {

std::vector<TestBackend> AllBackends() {
  std::vector<TestBackend> backends;
  for (const int threads : {1, 2, 3}) {
    backends.push_back({"Cpu" + std::to_string(threads), [threads] { return CreateCpuBackend({.threads = threads}); }});
  }
  return backends;
}

}  // namespace penstock
