// What a rank's time goes to, by kind, and when its instructions ran.
//
// The time is that of whoever computes. On the CPU that is the rank's thread. A device's host runs ahead and knows
// nothing of it, so there a change of activity is a mark in the device's stream: what the stream spends between two
// marks, computing or waiting for a message, belongs to the activity that the first one began; and what the host does
// meanwhile takes no time unless the stream runs dry. Marks are passed later than they are made, so a step's seconds
// end, and begin, with what the device had passed when Resolve was called: the next step's hold the rest.
//
//   RankClock::Scope computing(clock, Activity::kCompute);
//
// Thread-safety: none; the rank's thread.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_CLOCK_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_CLOCK_H_

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "services/telemetry/timeline.h"
#include "worker/ops/stream_clock.h"

namespace penstock {

enum class Activity {
  kCompute,
  kTensor,          // exchanging with the tensor group inside of a layer
  kData,            // reading samples
  kWaitActivation,  // for the previous stage
  kWaitGradient,    // for the next stage
  kWaitSend,        // for a neighbour to take a message
  kReduce,
  kPush,
  kCommitWait,  // the leader's prepare and commit
  kPull,        // waiting for the new version and taking it
  kUpdate,      // the norm, the update and the new weights' way, where the ranks update themselves
  kMirror,      // for the parameter service to follow
};
inline constexpr int kActivities = 12;
// The value of the metric's label: "wait_activation".
const char* ActivityName(Activity activity);

// Marks that the device hasn't passed. Beyond, changes of activity are merged.
inline constexpr size_t kClockMarksMax = 16384;

class RankClock {
 public:
  // Time inside of a scope is its activity's; of a scope inside of another, the inner one's alone.
  class Scope {
   public:
    Scope(RankClock& clock, Activity activity) : clock_(clock), outer_(clock.current_) {
      clock_.Switch(static_cast<int>(activity));
    }
    ~Scope() { clock_.Switch(outer_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    RankClock& clock_;
    const int outer_;
  };

  // From now on times are the stream's; null: the host's. Outside of scopes.
  void Bind(std::unique_ptr<StreamClock> stream) { stream_ = std::move(stream); }

  // Around an instruction: `entry`, with its times, goes to the timeline, which may be null, when both are known.
  void BeginInstruction(const TimelineEntry& entry, Timeline* timeline);
  void EndInstruction(Timeline* timeline);

  // Takes in what the device has passed by now.
  void Resolve();
  // Forgets the seconds so far; what the device is at is counted from here on.
  void Reset() { seconds_.fill(0); }
  double seconds(Activity activity) const { return seconds_[static_cast<int>(activity)]; }
  // Share of `step_seconds` spent waiting for neighbours in the pipeline, 0 to 1.
  double BubbleRatio(double step_seconds) const;

 private:
  static constexpr int kNone = -1;
  struct Mark {
    enum class Kind { kSwitch, kBegin, kEnd };
    Kind kind = Kind::kSwitch;
    int activity = kNone;  // of a switch: what begins
    TimelineEntry entry;   // of a beginning
    Timeline* timeline = nullptr;
  };

  void Switch(int activity);
  void Add(const Mark& mark);
  void Begin(int activity, absl::Time time);
  // What a mark means, at its time.
  void Passed(const Mark& mark, absl::Time time);

  std::unique_ptr<StreamClock> stream_;
  // Made and not passed, in order; the stream's clock has the same ones.
  std::deque<Mark> marks_;
  std::vector<absl::Time> times_;

  // Of the host.
  int current_ = kNone;
  // Of whoever computes: what it is at, and since when.
  int running_ = kNone;
  absl::Time since_;
  TimelineEntry instruction_;
  std::array<double, kActivities> seconds_{};
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_CLOCK_H_
