#include "services/base/host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr char kBootIdPath[] = "/proc/sys/kernel/random/boot_id";
constexpr char kMeminfoPath[] = "/proc/meminfo";
// Version 2, as a container sees its own group.
constexpr char kMemoryMaxPath[] = "/sys/fs/cgroup/memory.max";

// Empty when it can't be read.
std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int UsableCores() {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof(usable), &usable) == 0) return std::max(1, CPU_COUNT(&usable));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

int64_t ParseMemTotal(std::string_view meminfo) {
  constexpr std::string_view kKey = "MemTotal:";
  const size_t at = meminfo.find(kKey);
  if (at == std::string_view::npos) return 0;
  size_t begin = meminfo.find_first_of("0123456789", at + kKey.size());
  if (begin == std::string_view::npos) return 0;
  const size_t end = meminfo.find_first_not_of("0123456789", begin);
  const std::string digits(meminfo.substr(begin, end == std::string_view::npos ? end : end - begin));
  int64_t kibibytes = 0;
  // A number that no machine has is one that this function can't read.
  if (!absl::SimpleAtoi(digits, &kibibytes) || kibibytes > (int64_t{1} << 50)) return 0;
  return kibibytes << 10;
}

int64_t ParseMemoryMax(std::string_view text) {
  int64_t bytes = 0;
  const std::string trimmed(absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())));
  return absl::SimpleAtoi(trimmed, &bytes) && bytes > 0 ? bytes : 0;
}

Host ThisHost() {
  Host host;
  char name[256] = "";
  if (::gethostname(name, sizeof(name) - 1) != 0) name[0] = '\0';
  host.id = absl::StrCat(absl::StripAsciiWhitespace(ReadFile(kBootIdPath)), "/", name);
  host.cores = UsableCores();
  host.memory_bytes = ParseMemTotal(ReadFile(kMeminfoPath));
  const int64_t group = ParseMemoryMax(ReadFile(kMemoryMaxPath));
  if (group > 0 && (host.memory_bytes == 0 || group < host.memory_bytes)) host.memory_bytes = group;
  return host;
}

}  // namespace penstock
