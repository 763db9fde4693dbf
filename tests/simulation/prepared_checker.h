// Checks what "prepared" promises (invariant 3): a step is committed only after every shard has prepared it; a prepared
// shard gives the step up only for a decision under a newer epoch; and when the run is over nothing is left undecided.
#pragma once

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class PreparedChecker {
 public:
  PreparedChecker(Violations& violations, int shards) : violations_(violations), shards_(shards) {}

  // What an event on a shard may have done to its prepared step.
  enum class Cause {
    kDecide,  // of `epoch`
    kGone,    // the process crashed, or the state was closed or opened anew
    kOther,
  };

  // After each event. `step`: the prepared step; nullopt when none is.
  void OnEvent(int shard, uint64_t lineage, uint64_t sealed_epoch, uint64_t committed, std::optional<uint64_t> step,
               Cause cause, uint64_t epoch) {
    std::optional<Held>& held = held_[shard];
    if (held.has_value() && cause != Cause::kGone && committed < held->step && step != held->step) {
      if (cause != Cause::kDecide || epoch <= held->epoch) {
        violations_.Add("prepared",
                        absl::StrCat("shard ", shard, " gave up step ", held->step, ", prepared under epoch ",
                                     held->epoch, ", without a decision of a newer epoch"));
      }
    }
    if (!step.has_value() || cause == Cause::kGone) {
      held.reset();
      return;
    }
    if (!held.has_value() || held->step != *step) {
      held = Held{*step, sealed_epoch};
      furthest_[{lineage, shard}] = *step;
    }
  }

  void OnApplied(int shard, uint64_t lineage, uint64_t step) {
    for (int other = 0; other < shards_; ++other) {
      const auto found = furthest_.find({lineage, other});
      if (found != furthest_.end() && found->second >= step) continue;
      violations_.Add("prepared", absl::StrCat("shard ", shard, " committed step ", step, ", which shard ", other,
                                               " has never prepared"));
    }
  }

  void AtEnd() {
    for (const auto& [shard, held] : held_) {
      if (!held.has_value()) continue;
      violations_.Add("prepared",
                      absl::StrCat("step ", held->step, " is left prepared and undecided on shard ", shard));
    }
  }

 private:
  struct Held {
    uint64_t step = 0;
    uint64_t epoch = 0;
  };

  Violations& violations_;
  const int shards_;
  std::map<int, std::optional<Held>> held_;
  // The furthest step ever prepared, by lineage and shard.
  std::map<std::pair<uint64_t, int>, uint64_t> furthest_;
};

}  // namespace penstock::simulation
