#include "worker/cuda/testing/emulator/traffic.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <tuple>
#include <vector>

namespace penstock::cuda::emulator {
namespace {

constexpr uint64_t kAccess = 16;
constexpr uint64_t kUnits = 8;  // of 16 bytes, that all banks have together
constexpr unsigned kPhaseLanes = 8;
constexpr uint64_t kSector = 32;

struct LaneCopy {
  unsigned lane;
  uint64_t to, from;
  bool valid;
};

// Of the device's thread, but for `counting`, which is changed while nothing runs.
std::atomic<bool> counting = false;
Traffic traffic;
std::map<std::tuple<unsigned, const void*, int64_t>, std::vector<LaneCopy>>& requests =
    *new std::map<std::tuple<unsigned, const void*, int64_t>, std::vector<LaneCopy>>;
std::map<std::tuple<unsigned, const void*, unsigned>, int64_t>& visits =
    *new std::map<std::tuple<unsigned, const void*, unsigned>, int64_t>;

// Turns beyond the first that a phase of accesses at these addresses takes.
int64_t Conflicts(const std::vector<uint64_t>& addresses) {
  std::map<uint64_t, std::set<uint64_t>> units;
  size_t most = 1;
  for (const uint64_t address : addresses) {
    std::set<uint64_t>& unit = units[address / kAccess % kUnits];
    unit.insert(address / kAccess);
    most = std::max(most, unit.size());
  }
  return static_cast<int64_t>(most) - 1;
}

void CountRequest(const std::vector<LaneCopy>& copies) {
  std::map<unsigned, std::vector<uint64_t>> phases;
  std::set<uint64_t> sectors;
  for (const LaneCopy& copy : copies) {
    phases[copy.lane / kPhaseLanes].push_back(copy.to);
    if (!copy.valid) continue;
    sectors.insert(copy.from / kSector);
    traffic.copied_bytes += static_cast<int64_t>(kAccess);
  }
  traffic.sectors += static_cast<int64_t>(sectors.size());
  for (const auto& [phase, addresses] : phases) {
    ++traffic.copies;
    traffic.copy_conflicts += Conflicts(addresses);
  }
}

}  // namespace

ScopedTraffic::ScopedTraffic() {
  traffic = {};
  requests.clear();
  visits.clear();
  counting = true;
}
ScopedTraffic::~ScopedTraffic() { counting = false; }
Traffic ScopedTraffic::Get() const { return traffic; }

void CountMatrixLoad(const void* const (&rows)[32]) {
  if (!counting) return;
  for (unsigned phase = 0; phase < 32; phase += kPhaseLanes) {
    std::vector<uint64_t> addresses;
    for (unsigned lane = phase; lane < phase + kPhaseLanes; ++lane) {
      addresses.push_back(reinterpret_cast<uint64_t>(rows[lane]));
    }
    ++traffic.loads;
    traffic.load_conflicts += Conflicts(addresses);
  }
}

void CountCopy(unsigned warp, unsigned lane, const void* place, const void* to, const void* from, bool valid) {
  if (!counting) return;
  const int64_t visit = visits[{warp, place, lane}]++;
  requests[{warp, place, visit}].push_back(
      {lane, reinterpret_cast<uint64_t>(to), reinterpret_cast<uint64_t>(from), valid});
}

void CountBlockEnd() {
  if (!counting) return;
  for (const auto& [place, copies] : requests) CountRequest(copies);
  requests.clear();
  visits.clear();
}

}  // namespace penstock::cuda::emulator
