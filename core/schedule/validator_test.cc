#include "core/schedule/validator.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/schedule/schedule.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr std::array kTraining = {ScheduleKind::kGpipe, ScheduleKind::k1F1B};

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// An oracle of its own, for lists that hold the right instructions in some order: plays the stages by brute force with
// sends that wait for their receiver, and checks what each pass needs from what really arrived.
class Oracle {
 public:
  explicit Oracle(const Schedule& schedule) : schedule_(schedule), position_(schedule.size(), 0) {}

  bool Runs() {
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t a = 0; a < schedule_.size(); ++a) moved |= StepAlone(a);
      for (size_t a = 0; a + 1 < schedule_.size(); ++a) moved |= StepPair(a, a + 1) || StepPair(a + 1, a);
      if (broken_) return false;
    }
    for (size_t stage = 0; stage < schedule_.size(); ++stage) {
      if (position_[stage] != schedule_[stage].size()) return false;
    }
    return true;
  }

 private:
  const Instruction* At(size_t stage) const {
    return position_[stage] < schedule_[stage].size() ? &schedule_[stage][position_[stage]] : nullptr;
  }
  void Need(bool condition) { broken_ |= !condition; }
  bool Has(size_t stage, Op op, int mb) const { return happened_.count({static_cast<int>(stage), op, mb}) > 0; }
  void Mark(size_t stage, Op op, int mb) {
    happened_.insert({static_cast<int>(stage), op, mb});
    ++position_[stage];
  }

  bool StepAlone(size_t stage) {
    const Instruction* i = At(stage);
    if (i == nullptr || IsSend(i->op) || IsRecv(i->op)) return false;
    const bool first = stage == 0;
    const bool last = stage + 1 == schedule_.size();
    const int mb = i->micro_batch;
    if (i->op == Op::kForward && !first) Need(Has(stage, Op::kRecvActivation, mb));
    if (i->op == Op::kBackward) {
      Need(Has(stage, Op::kForward, mb) && (last || Has(stage, Op::kRecvGradient, mb)));
      Need(mb == 0 || Has(stage, Op::kBackward, mb - 1));
    }
    if (i->op == Op::kReduceGradients || i->op == Op::kOptimizerStep) {
      for (const Instruction& other : schedule_[stage]) {
        if (other.op == Op::kBackward) Need(Has(stage, Op::kBackward, other.micro_batch));
      }
    }
    if (i->op == Op::kOptimizerStep) Need(position_[stage] + 1 == schedule_[stage].size());
    Mark(stage, i->op, mb);
    return true;
  }

  bool StepPair(size_t from, size_t to) {
    const Instruction* send = At(from);
    const Instruction* recv = At(to);
    if (send == nullptr || recv == nullptr || send->micro_batch != recv->micro_batch) return false;
    const bool activation = send->op == Op::kSendActivation && recv->op == Op::kRecvActivation && from < to;
    const bool gradient = send->op == Op::kSendGradient && recv->op == Op::kRecvGradient && from > to;
    if (!activation && !gradient) return false;
    Need(Has(from, activation ? Op::kForward : Op::kBackward, send->micro_batch));
    const Op send_op = send->op;
    const Op recv_op = recv->op;
    const int mb = send->micro_batch;
    Mark(from, send_op, mb);
    Mark(to, recv_op, mb);
    return true;
  }

  const Schedule& schedule_;
  std::vector<size_t> position_;
  std::set<std::tuple<int, Op, int>> happened_;
  bool broken_ = false;
};

TEST(ValidatorTest, AcceptsWhatTheBuilderBuilds) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int micro_batches = 1; micro_batches <= 12; ++micro_batches) {
      for (const ScheduleKind kind : kTraining) {
        const Schedule schedule = *BuildSchedule(kind, stages, micro_batches);
        const absl::Status status = ValidateSchedule(schedule, micro_batches);
        EXPECT_TRUE(status.ok()) << ScheduleKindName(kind) << " " << stages << " x " << micro_batches << ": " << status;
        EXPECT_TRUE(Oracle(schedule).Runs());
      }
      const Schedule forward = *BuildSchedule(ScheduleKind::kForwardOnly, stages, micro_batches);
      EXPECT_TRUE(ValidateSchedule(forward, micro_batches, {.activations_max = {}, .forward_only = true}).ok());
      EXPECT_FALSE(ValidateSchedule(forward, micro_batches).ok());
    }
  }
}

TEST(ValidatorTest, RefusesEveryDroppedAndEveryDoubledInstruction) {
  for (const ScheduleKind kind : kTraining) {
    const Schedule sound = *BuildSchedule(kind, 3, 4);
    for (size_t stage = 0; stage < sound.size(); ++stage) {
      for (size_t at = 0; at < sound[stage].size(); ++at) {
        Schedule dropped = sound;
        dropped[stage].erase(dropped[stage].begin() + static_cast<long>(at));
        EXPECT_FALSE(ValidateSchedule(dropped, 4).ok()) << stage << " " << at;
        for (size_t to = 0; to <= sound[stage].size(); ++to) {
          Schedule doubled = sound;
          doubled[stage].insert(doubled[stage].begin() + static_cast<long>(to), sound[stage][at]);
          EXPECT_FALSE(ValidateSchedule(doubled, 4).ok()) << stage << " " << at << " to " << to;
        }
      }
    }
  }
}

TEST(ValidatorTest, JudgesEverySwapAsTheOracleDoes) {
  int refused = 0;
  int accepted = 0;
  for (const ScheduleKind kind : kTraining) {
    const Schedule sound = *BuildSchedule(kind, 3, 4);
    for (size_t stage = 0; stage < sound.size(); ++stage) {
      for (size_t a = 0; a < sound[stage].size(); ++a) {
        for (size_t b = a + 1; b < sound[stage].size(); ++b) {
          Schedule swapped = sound;
          std::swap(swapped[stage][a], swapped[stage][b]);
          const absl::Status status = ValidateSchedule(swapped, 4);
          EXPECT_EQ(status.ok(), Oracle(swapped).Runs())
              << ScheduleKindName(kind) << " stage " << stage << " " << a << " <-> " << b << ": " << status;
          ++(status.ok() ? accepted : refused);
        }
      }
    }
  }
  // Nearly all are wrong; a few (a forward pass before an unrelated send, for one) are harmless.
  EXPECT_GT(refused, 20 * accepted);
}

TEST(ValidatorTest, RefusesWrongPeersAndMicroBatches) {
  const Schedule sound = *BuildSchedule(ScheduleKind::k1F1B, 3, 4);
  for (size_t stage = 0; stage < sound.size(); ++stage) {
    for (size_t at = 0; at < sound[stage].size(); ++at) {
      for (const int delta : {-100, -1, 1, 100}) {
        Schedule peer = sound;
        peer[stage][at].peer_stage += delta;
        if (IsSend(sound[stage][at].op) || IsRecv(sound[stage][at].op)) {
          EXPECT_FALSE(ValidateSchedule(peer, 4).ok());
        }
        Schedule micro_batch = sound;
        micro_batch[stage][at].micro_batch += delta;
        EXPECT_FALSE(ValidateSchedule(micro_batch, 4).ok());
      }
    }
  }
}

// The textbook order (gradient out, then activation in) works with sends that never wait, and only with those.
TEST(ValidatorTest, FindsTheDeadlockOfSendsThatWait) {
  Schedule schedule = *BuildSchedule(ScheduleKind::k1F1B, 2, 3);
  const auto recv = std::find(schedule[1].begin(), schedule[1].end(), Instruction{Op::kRecvActivation, 1, 0});
  ASSERT_NE(recv, schedule[1].end());
  std::iter_swap(recv, recv + 1);
  const absl::Status status = ValidateSchedule(schedule, 3);
  EXPECT_EQ(
      Message(status),
      "stage 0, instruction 3 (SendActivation mb 1 to stage 1): deadlock with sends that wait for their receiver; "
      "stage 1 waits at instruction 3 (SendGradient mb 0 to stage 0)");
}

TEST(ValidatorTest, NamesStageInstructionAndReason) {
  Schedule schedule = *BuildSchedule(ScheduleKind::kGpipe, 2, 2);
  std::swap(schedule[1][0], schedule[1][1]);
  EXPECT_EQ(Message(ValidateSchedule(schedule, 2)),
            "stage 1, instruction 0 (Forward mb 0): comes before RecvActivation mb 0");
  schedule = *BuildSchedule(ScheduleKind::kGpipe, 2, 2);
  schedule[0].pop_back();
  EXPECT_EQ(Message(ValidateSchedule(schedule, 2)), "stage 0: OptimizerStep is missing");
}

TEST(ValidatorTest, HoldsTheActivationLimit) {
  const Schedule gpipe = *BuildSchedule(ScheduleKind::kGpipe, 2, 4);
  EXPECT_EQ(Message(ValidateSchedule(gpipe, 4, {.activations_max = {4, 3}})),
            "stage 1: 4 micro-batches have activations in flight; the limit is 3");
  const Schedule one_f1b = *BuildSchedule(ScheduleKind::k1F1B, 2, 4);
  EXPECT_TRUE(ValidateSchedule(one_f1b, 4, {.activations_max = {2, 1}}).ok());
  EXPECT_FALSE(ValidateSchedule(one_f1b, 4, {.activations_max = {1, 1}}).ok());
  EXPECT_FALSE(ValidateSchedule(one_f1b, 4, {.activations_max = {2}}).ok());
}

TEST(ValidatorTest, RefusesNothing) {
  EXPECT_FALSE(ValidateSchedule({}, 1).ok());
  EXPECT_FALSE(ValidateSchedule(*BuildSchedule(ScheduleKind::kGpipe, 1, 1), 0).ok());
}

}  // namespace
}  // namespace penstock
