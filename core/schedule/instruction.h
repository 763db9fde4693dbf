// One step of a pipeline schedule. A stage executes its list in order.
#ifndef PENSTOCK_CORE_SCHEDULE_INSTRUCTION_H_
#define PENSTOCK_CORE_SCHEDULE_INSTRUCTION_H_

#include <string>
#include <vector>

namespace penstock {

enum class Op {
  kForward,
  kBackward,
  // To the next stage / from the previous one.
  kSendActivation,
  kRecvActivation,
  // To the previous stage / from the next one.
  kSendGradient,
  kRecvGradient,
  // Adds up the gradients within the data group and hands them to the parameter service.
  kReduceGradients,
  // Waits for the new version and takes its weights.
  kOptimizerStep,
};

struct Instruction {
  Op op = Op::kForward;
  // -1 for kReduceGradients and kOptimizerStep.
  int micro_batch = -1;
  // The other stage of a send or receive; -1 elsewhere.
  int peer_stage = -1;

  // "RecvActivation mb 3 from stage 0", "Forward mb 2", "OptimizerStep".
  std::string ToString() const;

  friend bool operator==(const Instruction&, const Instruction&) = default;
};

// For each stage, its list.
using Schedule = std::vector<std::vector<Instruction>>;

// "Forward".
const char* OpName(Op op);
bool IsSend(Op op);
bool IsRecv(Op op);
// Forward or backward.
bool IsCompute(Op op);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SCHEDULE_INSTRUCTION_H_
