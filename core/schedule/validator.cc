#include "core/schedule/validator.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/schedule/schedule.h"

namespace penstock {
namespace {

absl::Status Wrong(size_t stage, size_t position, const Instruction& instruction, const std::string& what) {
  return absl::FailedPreconditionError(
      absl::StrCat("stage ", stage, ", instruction ", position, " (", instruction.ToString(), "): ", what));
}

// Checks one stage's list by itself: completeness, order and activation limit.
class StageChecker {
 public:
  StageChecker(size_t stage, size_t stages, int micro_batches, bool forward_only)
      : stage_(stage), stages_(stages), micro_batches_(micro_batches), forward_only_(forward_only) {}

  absl::Status Check(const std::vector<Instruction>& list) {
    for (size_t position = 0; position < list.size(); ++position) {
      const Instruction& instruction = list[position];
      std::string what = CheckPlace(instruction);
      if (what.empty() && !done_.insert(Key(instruction.op, instruction.micro_batch)).second) {
        what = "stands in the list a second time";
      }
      if (what.empty()) what = CheckOrder(instruction);
      if (!what.empty()) return Wrong(stage_, position, instruction, what);
    }
    return CheckComplete();
  }

 private:
  using Key = std::pair<Op, int>;

  bool first() const { return stage_ == 0; }
  bool last() const { return stage_ + 1 == stages_; }
  bool Done(Op op, int micro_batch) const { return done_.count(Key(op, micro_batch)) > 0; }

  // The operations that this stage has for each micro-batch.
  std::vector<Op> MicroBatchOps() const {
    std::vector<Op> ops;
    if (!first()) ops.push_back(Op::kRecvActivation);
    ops.push_back(Op::kForward);
    if (!last()) ops.push_back(Op::kSendActivation);
    if (forward_only_) return ops;
    if (!last()) ops.push_back(Op::kRecvGradient);
    ops.push_back(Op::kBackward);
    if (!first()) ops.push_back(Op::kSendGradient);
    return ops;
  }
  std::vector<Op> StepOps() const {
    if (forward_only_) return {};
    return {Op::kReduceGradients, Op::kOptimizerStep};
  }
  int Peer(Op op) const {
    const int stage = static_cast<int>(stage_);
    if (op == Op::kRecvActivation || op == Op::kSendGradient) return stage - 1;
    if (op == Op::kSendActivation || op == Op::kRecvGradient) return stage + 1;
    return -1;
  }

  // Whether the instruction belongs into this stage's list at all; empty when it does.
  std::string CheckPlace(const Instruction& instruction) const {
    const std::vector<Op> step_ops = StepOps();
    if (std::find(step_ops.begin(), step_ops.end(), instruction.op) != step_ops.end()) {
      return instruction.micro_batch == -1 ? "" : "is of the whole step and takes no micro-batch";
    }
    const std::vector<Op> ops = MicroBatchOps();
    if (std::find(ops.begin(), ops.end(), instruction.op) == ops.end()) {
      return absl::StrCat("has no place on stage ", stage_, " of ", stages_,
                          forward_only_ ? " in a schedule of forward passes alone" : "");
    }
    if (instruction.micro_batch < 0 || instruction.micro_batch >= micro_batches_) {
      return absl::StrCat("its micro-batch must be in [0, ", micro_batches_, ")");
    }
    if (instruction.peer_stage != Peer(instruction.op)) {
      return absl::StrCat("its peer must be stage ", Peer(instruction.op));
    }
    return "";
  }

  // Whether everything that must come before has come; empty when it has.
  std::string CheckOrder(const Instruction& instruction) const {
    const int mb = instruction.micro_batch;
    const auto needs = [&](Op op) -> std::string {
      return Done(op, mb) ? "" : absl::StrCat("comes before ", OpName(op), " mb ", mb);
    };
    switch (instruction.op) {
      case Op::kForward:
        return first() ? "" : needs(Op::kRecvActivation);
      case Op::kSendActivation:
        return needs(Op::kForward);
      case Op::kBackward: {
        std::string what = needs(Op::kForward);
        if (what.empty() && !last()) what = needs(Op::kRecvGradient);
        if (what.empty() && mb > 0 && !Done(Op::kBackward, mb - 1)) {
          what = absl::StrCat("comes before Backward mb ", mb - 1, "; backward passes go in micro-batch order");
        }
        return what;
      }
      case Op::kSendGradient:
        return needs(Op::kBackward);
      case Op::kReduceGradients:
        for (int each = 0; each < micro_batches_; ++each) {
          if (!Done(Op::kBackward, each)) return absl::StrCat("comes before Backward mb ", each);
        }
        return "";
      case Op::kOptimizerStep:
        if (!Done(Op::kReduceGradients, -1)) return "comes before ReduceGradients";
        return AfterAllSends();
      case Op::kRecvActivation:
      case Op::kRecvGradient:
        return Done(Op::kOptimizerStep, -1) ? "comes after OptimizerStep" : "";
    }
    return "has an unknown operation";
  }

  // The update overwrites what the sends may still read from, and ends the step.
  std::string AfterAllSends() const {
    for (int mb = 0; mb < micro_batches_; ++mb) {
      if (!first() && !Done(Op::kSendGradient, mb)) return absl::StrCat("comes before SendGradient mb ", mb);
      if (!last() && !Done(Op::kSendActivation, mb)) return absl::StrCat("comes before SendActivation mb ", mb);
    }
    return "";
  }

  absl::Status CheckComplete() const {
    const auto missing = [&](const Instruction& instruction) {
      return absl::FailedPreconditionError(absl::StrCat("stage ", stage_, ": ", instruction.ToString(), " is missing"));
    };
    for (int mb = 0; mb < micro_batches_; ++mb) {
      for (const Op op : MicroBatchOps()) {
        if (!Done(op, mb)) return missing({op, mb, Peer(op)});
      }
    }
    for (const Op op : StepOps()) {
      if (!Done(op, -1)) return missing({op, -1, -1});
    }
    return absl::OkStatus();
  }

  const size_t stage_;
  const size_t stages_;
  const int micro_batches_;
  const bool forward_only_;
  std::set<Key> done_;
};

// Runs the lists against each other until they end or nobody can go on. `rendezvous`: a send ends only together with
// its receive. Otherwise it ends at once, and messages of one kind between two stages arrive in the order they were
// sent. Either way the outcome doesn't depend on who goes first: a stage that can go on stays able to.
absl::Status CheckDeadlock(const Schedule& schedule, bool rendezvous) {
  std::vector<size_t> next(schedule.size(), 0);
  // Sent and not yet received: (from, to, is activation) -> micro-batches in order.
  std::map<std::tuple<size_t, size_t, bool>, std::vector<int>> sent;
  std::map<std::tuple<size_t, size_t, bool>, size_t> received;
  const auto is_activation = [](Op op) { return op == Op::kSendActivation || op == Op::kRecvActivation; };

  // Moves `stage` on by one instruction where it can.
  const auto advance = [&](size_t stage) {
    if (next[stage] == schedule[stage].size()) return false;
    const Instruction& instruction = schedule[stage][next[stage]];
    const size_t peer = static_cast<size_t>(instruction.peer_stage);
    if (IsSend(instruction.op)) {
      if (rendezvous) {
        if (next[peer] == schedule[peer].size()) return false;
        const Instruction& other = schedule[peer][next[peer]];
        if (!IsRecv(other.op) || is_activation(other.op) != is_activation(instruction.op) ||
            other.micro_batch != instruction.micro_batch || other.peer_stage != static_cast<int>(stage)) {
          return false;
        }
        ++next[peer];
      } else {
        sent[{stage, peer, is_activation(instruction.op)}].push_back(instruction.micro_batch);
      }
    } else if (IsRecv(instruction.op)) {
      if (rendezvous) return false;  // its send moves both
      const std::tuple<size_t, size_t, bool> channel{peer, stage, is_activation(instruction.op)};
      const std::vector<int>& queue = sent[channel];
      size_t& taken = received[channel];
      if (taken == queue.size() || queue[taken] != instruction.micro_batch) return false;
      ++taken;
    }
    ++next[stage];
    return true;
  };

  bool moved = true;
  while (moved) {
    moved = false;
    for (size_t stage = 0; stage < schedule.size(); ++stage) {
      while (advance(stage)) moved = true;
    }
  }
  for (size_t stage = 0; stage < schedule.size(); ++stage) {
    if (next[stage] == schedule[stage].size()) continue;
    std::string others;
    for (size_t other = 0; other < schedule.size(); ++other) {
      if (other == stage || next[other] == schedule[other].size()) continue;
      absl::StrAppend(&others, others.empty() ? "; stage " : ", stage ", other, " waits at instruction ", next[other],
                      " (", schedule[other][next[other]].ToString(), ")");
    }
    return Wrong(
        stage, next[stage], schedule[stage][next[stage]],
        absl::StrCat("deadlock with sends that ", rendezvous ? "wait for their receiver" : "never wait", others));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSchedule(const Schedule& schedule, int micro_batches, const ScheduleLimits& limits) {
  if (schedule.empty()) return absl::FailedPreconditionError("the schedule has no stages");
  if (micro_batches < 1) return absl::FailedPreconditionError("the schedule has no micro-batches");
  if (!limits.activations_max.empty() && limits.activations_max.size() != schedule.size()) {
    return absl::FailedPreconditionError(absl::StrCat("activation limits are given for ", limits.activations_max.size(),
                                                      " stages; the schedule has ", schedule.size()));
  }
  for (size_t stage = 0; stage < schedule.size(); ++stage) {
    StageChecker checker(stage, schedule.size(), micro_batches, limits.forward_only);
    PENSTOCK_RETURN_IF_ERROR(checker.Check(schedule[stage]));
    if (limits.activations_max.empty()) continue;
    const int peak = PeakActivations(schedule, static_cast<int>(stage));
    if (peak > limits.activations_max[stage]) {
      return absl::FailedPreconditionError(absl::StrCat("stage ", stage, ": ", peak,
                                                        " micro-batches have activations in flight; the limit is ",
                                                        limits.activations_max[stage]));
    }
  }
  PENSTOCK_RETURN_IF_ERROR(CheckDeadlock(schedule, /*rendezvous=*/false));
  return CheckDeadlock(schedule, /*rendezvous=*/true);
}

}  // namespace penstock
