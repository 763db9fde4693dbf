#include "core/schedule/instruction.h"

#include "absl/strings/str_cat.h"

namespace penstock {

const char* OpName(Op op) {
  switch (op) {
    case Op::kForward:
      return "Forward";
    case Op::kBackward:
      return "Backward";
    case Op::kSendActivation:
      return "SendActivation";
    case Op::kRecvActivation:
      return "RecvActivation";
    case Op::kSendGradient:
      return "SendGradient";
    case Op::kRecvGradient:
      return "RecvGradient";
    case Op::kReduceGradients:
      return "ReduceGradients";
    case Op::kOptimizerStep:
      return "OptimizerStep";
  }
  return "unknown";
}

bool IsSend(Op op) { return op == Op::kSendActivation || op == Op::kSendGradient; }
bool IsRecv(Op op) { return op == Op::kRecvActivation || op == Op::kRecvGradient; }
bool IsCompute(Op op) { return op == Op::kForward || op == Op::kBackward; }

std::string Instruction::ToString() const {
  std::string text = OpName(op);
  if (micro_batch >= 0) absl::StrAppend(&text, " mb ", micro_batch);
  if (IsSend(op)) absl::StrAppend(&text, " to stage ", peer_stage);
  if (IsRecv(op)) absl::StrAppend(&text, " from stage ", peer_stage);
  return text;
}

}  // namespace penstock
