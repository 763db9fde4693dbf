#include "services/base/heap.h"

#include <malloc.h>

namespace penstock {

void KeepFreedBlocks() {
#if defined(__GLIBC__)
  // The highest value that glibc takes; larger blocks are the arenas of jobs, which come and go once.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

}  // namespace penstock
