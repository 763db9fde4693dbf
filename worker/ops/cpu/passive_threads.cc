#include "worker/ops/cpu/passive_threads.h"

#include <stdlib.h>
#include <unistd.h>

namespace penstock {

void MakeWaitingThreadsSleep(char** argv) {
  if (getenv("OMP_WAIT_POLICY") != nullptr || getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", 1) != 0) return;
  execv("/proc/self/exe", argv);
}

}  // namespace penstock
