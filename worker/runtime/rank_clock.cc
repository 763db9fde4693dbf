#include "worker/runtime/rank_clock.h"

#include <algorithm>

#include "services/base/clock.h"

namespace penstock {
namespace {

// Marks that the device may have passed before they are looked at within a step.
constexpr size_t kMarksBetweenLooks = 512;

}  // namespace

const char* ActivityName(Activity activity) {
  switch (activity) {
    case Activity::kCompute:
      return "compute";
    case Activity::kTensor:
      return "tensor";
    case Activity::kData:
      return "data";
    case Activity::kWaitActivation:
      return "wait_activation";
    case Activity::kWaitGradient:
      return "wait_gradient";
    case Activity::kWaitSend:
      return "wait_send";
    case Activity::kReduce:
      return "reduce";
    case Activity::kPush:
      return "push";
    case Activity::kCommitWait:
      return "commit_wait";
    case Activity::kPull:
      return "pull";
    case Activity::kUpdate:
      return "update";
    case Activity::kMirror:
      return "mirror";
  }
  return "unknown";
}

void RankClock::Switch(int activity) {
  current_ = activity;
  if (stream_ == nullptr) {
    Begin(activity, Clock::Real()->Monotonic());
  } else {
    Add({.kind = Mark::Kind::kSwitch, .activity = activity, .entry = {}, .timeline = nullptr});
  }
}

void RankClock::BeginInstruction(const TimelineEntry& entry, Timeline* timeline) {
  if (timeline == nullptr) return;
  Add({.kind = Mark::Kind::kBegin, .activity = kNone, .entry = entry, .timeline = timeline});
}

void RankClock::EndInstruction(Timeline* timeline) {
  if (timeline == nullptr) return;
  Add({.kind = Mark::Kind::kEnd, .activity = kNone, .entry = {}, .timeline = timeline});
}

void RankClock::Add(const Mark& mark) {
  if (stream_ == nullptr) {
    Passed(mark, Clock::Real()->Monotonic());
    return;
  }
  if (marks_.size() % kMarksBetweenLooks == kMarksBetweenLooks - 1) Resolve();
  if (marks_.size() < kClockMarksMax && stream_->Mark()) {
    marks_.push_back(mark);
  } else if (mark.kind == Mark::Kind::kSwitch && !marks_.empty() && marks_.back().kind == Mark::Kind::kSwitch) {
    marks_.back().activity = mark.activity;
  }
}

void RankClock::Resolve() {
  if (stream_ == nullptr) return;
  times_.clear();
  stream_->Take(&times_);
  for (const absl::Time time : times_) {
    Passed(marks_.front(), time);
    marks_.pop_front();
  }
}

void RankClock::Begin(int activity, absl::Time time) {
  if (running_ != kNone) seconds_[static_cast<size_t>(running_)] += absl::ToDoubleSeconds(time - since_);
  running_ = activity;
  since_ = time;
}

void RankClock::Passed(const Mark& mark, absl::Time time) {
  switch (mark.kind) {
    case Mark::Kind::kSwitch:
      Begin(mark.activity, time);
      return;
    case Mark::Kind::kBegin:
      instruction_ = mark.entry;
      instruction_.begin = time;
      return;
    case Mark::Kind::kEnd:
      instruction_.end = time;
      mark.timeline->Record(instruction_);
      return;
  }
}

double RankClock::BubbleRatio(double step_seconds) const {
  if (step_seconds <= 0) return 0;
  const double waiting =
      seconds(Activity::kWaitActivation) + seconds(Activity::kWaitGradient) + seconds(Activity::kWaitSend);
  return std::clamp(waiting / step_seconds, 0.0, 1.0);
}

}  // namespace penstock
