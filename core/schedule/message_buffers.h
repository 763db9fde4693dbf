// Buffers for the messages of a stage's instruction list: what the worker allocates and the planner counts. Pure.
#ifndef PENSTOCK_CORE_SCHEDULE_MESSAGE_BUFFERS_H_
#define PENSTOCK_CORE_SCHEDULE_MESSAGE_BUFFERS_H_

#include <vector>

#include "core/schedule/instruction.h"

namespace penstock {

// Receives posted ahead of the one that is needed next.
inline constexpr int kReceivesAhead = 1;
// Sends under way beside the one that is being filled.
inline constexpr int kSendsBehind = 1;

// Buffers that `list` needs for `recv` (kRecvActivation or kRecvGradient); 0 where it has none.
int RecvBuffersFor(const std::vector<Instruction>& list, Op recv);
// Buffers that `list` needs for `send` (kSendActivation or kSendGradient); 0 where it has none.
int SendBuffersFor(const std::vector<Instruction>& list, Op send);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SCHEDULE_MESSAGE_BUFFERS_H_
