#include "services/rpc/deadline.h"

#include <algorithm>
#include <chrono>

#include "absl/time/clock.h"

namespace penstock {

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  if (timeout == absl::InfiniteDuration()) return;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
  return std::max(absl::FromChrono(deadline) - absl::Now(), absl::ZeroDuration());
}

}  // namespace penstock
