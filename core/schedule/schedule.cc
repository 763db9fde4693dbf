#include "core/schedule/schedule.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

// The list of one stage under construction. Ends of the pipeline have nothing to send to or receive from.
class StageBuilder {
 public:
  StageBuilder(int stage, int stages) : stage_(stage), first_(stage == 0), last_(stage == stages - 1) {}

  void RecvActivation(int mb) {
    if (!first_) list_.push_back({Op::kRecvActivation, mb, stage_ - 1});
  }
  void SendActivation(int mb) {
    if (!last_) list_.push_back({Op::kSendActivation, mb, stage_ + 1});
  }
  void RecvGradient(int mb) {
    if (!last_) list_.push_back({Op::kRecvGradient, mb, stage_ + 1});
  }
  void SendGradient(int mb) {
    if (!first_) list_.push_back({Op::kSendGradient, mb, stage_ - 1});
  }
  void Forward(int mb) { list_.push_back({Op::kForward, mb, -1}); }
  void Backward(int mb) { list_.push_back({Op::kBackward, mb, -1}); }
  void Update() {
    list_.push_back({Op::kReduceGradients, -1, -1});
    list_.push_back({Op::kOptimizerStep, -1, -1});
  }

  void WholeForward(int mb) {
    RecvActivation(mb);
    Forward(mb);
    SendActivation(mb);
  }
  void WholeBackward(int mb) {
    RecvGradient(mb);
    Backward(mb);
    SendGradient(mb);
  }

  std::vector<Instruction> Finish() && { return std::move(list_); }

 private:
  int stage_;
  bool first_;
  bool last_;
  std::vector<Instruction> list_;
};

void BuildGpipeStage(int micro_batches, StageBuilder* builder) {
  for (int mb = 0; mb < micro_batches; ++mb) builder->WholeForward(mb);
  for (int mb = 0; mb < micro_batches; ++mb) builder->WholeBackward(mb);
  builder->Update();
}

void Build1F1BStage(int stage, int stages, int micro_batches, StageBuilder* builder) {
  const int warmup = std::min(stages - 1 - stage, micro_batches);
  const int steady = micro_batches - warmup;
  for (int mb = 0; mb < warmup; ++mb) builder->WholeForward(mb);
  if (steady > 0) builder->RecvActivation(warmup);
  for (int mb = 0; mb < steady; ++mb) {
    builder->Forward(warmup + mb);
    builder->SendActivation(warmup + mb);
    builder->RecvGradient(mb);
    builder->Backward(mb);
    // The next activation before this gradient: the stage above sends it before it asks for the gradient, so with the
    // two the other way round and sends that wait for their receiver, both stages would wait for ever. The stage above
    // needs that forward pass done before its backward pass anyway, so nothing is lost.
    if (mb + 1 < steady) builder->RecvActivation(warmup + mb + 1);
    builder->SendGradient(mb);
  }
  for (int mb = steady; mb < micro_batches; ++mb) builder->WholeBackward(mb);
  builder->Update();
}

}  // namespace

const char* ScheduleKindName(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kGpipe:
      return "gpipe";
    case ScheduleKind::k1F1B:
      return "1f1b";
    case ScheduleKind::kForwardOnly:
      return "forward-only";
  }
  return "unknown";
}

absl::StatusOr<Schedule> BuildSchedule(ScheduleKind kind, int stages, int micro_batches) {
  if (stages < 1 || micro_batches < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a schedule needs at least 1 stage and 1 micro-batch; asked for ",
                                                   stages, " stages and ", micro_batches, " micro-batches"));
  }
  Schedule schedule;
  for (int stage = 0; stage < stages; ++stage) {
    StageBuilder builder(stage, stages);
    switch (kind) {
      case ScheduleKind::kGpipe:
        BuildGpipeStage(micro_batches, &builder);
        break;
      case ScheduleKind::k1F1B:
        Build1F1BStage(stage, stages, micro_batches, &builder);
        break;
      case ScheduleKind::kForwardOnly:
        for (int mb = 0; mb < micro_batches; ++mb) builder.WholeForward(mb);
        break;
    }
    schedule.push_back(std::move(builder).Finish());
  }
  return schedule;
}

int PeakActivations(const Schedule& schedule, int stage) {
  const std::vector<Instruction>& list = schedule.at(static_cast<size_t>(stage));
  const auto count = [&](Op op) {
    return std::count_if(list.begin(), list.end(), [op](const Instruction& i) { return i.op == op; });
  };
  if (count(Op::kBackward) == 0) return count(Op::kForward) > 0 ? 1 : 0;
  int held = 0;
  int peak = 0;
  for (const Instruction& instruction : list) {
    if (instruction.op == Op::kForward) peak = std::max(peak, ++held);
    if (instruction.op == Op::kBackward) --held;
  }
  return peak;
}

}  // namespace penstock
