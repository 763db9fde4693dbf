#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "worker/comm/nccl/testing/header_facts.h"

namespace penstock::nccl_emulator {

HeaderFacts LibraryHeader() {
  // clang-format off
  return
#include "worker/comm/nccl/testing/header_facts.inc"
  ;
  // clang-format on
}

}  // namespace penstock::nccl_emulator
