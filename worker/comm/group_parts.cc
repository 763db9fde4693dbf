#include "worker/comm/group_parts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {

absl::StatusOr<int> IndexInGroup(absl::Span<const int> group, int rank) {
  const auto found = std::find(group.begin(), group.end(), rank);
  if (found == group.end()) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " is not in the group of the collective"));
  }
  return static_cast<int>(found - group.begin());
}

absl::Status CheckParts(absl::Span<const int> group, int64_t size, absl::Span<const std::vector<Part>> parts) {
  if (parts.size() != group.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a group of ", group.size(), " ranks needs as many lists of parts, not ", parts.size()));
  }
  for (const std::vector<Part>& list : parts) {
    for (const Part& part : list) {
      if (part.begin < 0 || part.count < 0 || part.begin > size || part.count > size - part.begin) {
        return absl::InvalidArgumentError(absl::StrCat("part [", part.begin, ", ", part.begin, " + ", part.count,
                                                       ") is not within a buffer of ", size, " elements"));
      }
    }
  }
  return absl::OkStatus();
}

std::vector<Part> CutParts(const std::vector<Part>& parts, int64_t chunk_elements) {
  std::vector<Part> chunks;
  for (const Part& part : parts) {
    for (int64_t done = 0; done < part.count; done += chunk_elements) {
      chunks.push_back({part.begin + done, std::min(chunk_elements, part.count - done)});
    }
  }
  return chunks;
}

}  // namespace penstock
