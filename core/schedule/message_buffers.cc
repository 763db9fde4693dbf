#include "core/schedule/message_buffers.h"

#include <algorithm>

namespace penstock {
namespace {

// The most micro-batches that are between `begin` and `end` at once in `list`; 0 where there are none.
int PeakBetween(const std::vector<Instruction>& list, Op begin, Op end) {
  int open = 0;
  int peak = 0;
  for (const Instruction& instruction : list) {
    if (instruction.op == begin) peak = std::max(peak, ++open);
    if (instruction.op == end) --open;
  }
  return peak;
}

}  // namespace

int RecvBuffersFor(const std::vector<Instruction>& list, Op recv) {
  const int peak = PeakBetween(list, recv, recv == Op::kRecvActivation ? Op::kForward : Op::kBackward);
  return peak == 0 ? 0 : peak + kReceivesAhead;
}

int SendBuffersFor(const std::vector<Instruction>& list, Op send) {
  const int peak = PeakBetween(list, send == Op::kSendActivation ? Op::kForward : Op::kBackward, send);
  // A stage without sends has an ever-growing number of open passes, which isn't meant.
  const bool sends = std::any_of(list.begin(), list.end(), [send](const Instruction& i) { return i.op == send; });
  return sends ? peak + kSendsBehind : 0;
}

}  // namespace penstock
