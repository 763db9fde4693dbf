#include "services/jobfile/suggest.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"

namespace penstock {
namespace {

// Longer ones are no typing errors of any field.
constexpr size_t kNameBytesMax = 64;

std::string Plain(const std::string& name) {
  std::string plain = absl::AsciiStrToLower(name);
  std::replace(plain.begin(), plain.end(), '-', '_');
  return plain;
}

// Damerau's distance, in its restricted form (optimal string alignment).
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string NearestName(const std::string& name, const std::vector<std::string>& candidates) {
  if (name.size() > kNameBytesMax) return "";
  const std::string plain = Plain(name);
  std::string nearest;
  size_t nearest_distance = 0;
  for (const std::string& candidate : candidates) {
    const size_t distance = Distance(plain, Plain(candidate));
    // A third of the name may be wrong, and one letter of a short one.
    if (distance > std::max<size_t>(1, std::max(plain.size(), candidate.size()) / 3)) continue;
    // All of a name can't be wrong: "x" isn't "y".
    if (distance >= std::min(plain.size(), candidate.size())) continue;
    if (nearest.empty() || distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

}  // namespace penstock
