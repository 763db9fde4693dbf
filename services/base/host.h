// The machine that this process runs on, as the planner sees it: processes with the same id share cores and memory.
// Thread-safe: free functions that read /proc and /sys.
#ifndef PENSTOCK_SERVICES_BASE_HOST_H_
#define PENSTOCK_SERVICES_BASE_HOST_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

struct Host {
  // Boot id and host name: the same for all processes of a machine (of a pod, where pods have host names of their own),
  // another one after a reboot.
  std::string id;
  // Those that this process may run on.
  int cores = 1;
  // Of the machine, or of the control group where that has less; 0 where nobody tells.
  int64_t memory_bytes = 0;
};

Host ThisHost();

// "MemTotal:       24576 kB" of /proc/meminfo in bytes; 0 when it isn't there.
int64_t ParseMemTotal(std::string_view meminfo);
// A control group's memory.max; 0 for "max" and whatever isn't a number.
int64_t ParseMemoryMax(std::string_view text);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_HOST_H_
