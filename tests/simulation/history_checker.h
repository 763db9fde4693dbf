// Checks that there is one committed history (invariant 1): each shard commits step after step (of a published job,
// later and later ones); for a lineage (the states that were opened under one epoch) and a step all shards apply the
// same decision; and, the training being deterministic, it is the undisturbed run's decision in every lineage.
#pragma once

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/commit/decision.h"
#include "tests/simulation/training.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class HistoryChecker {
 public:
  HistoryChecker(Violations& violations, const Reference& reference, bool published)
      : violations_(violations), reference_(reference), published_(published) {}

  void OnOpened(int shard, uint64_t lineage, uint64_t step) { committed_[{lineage, shard}] = step; }

  void OnApplied(int shard, uint64_t lineage, const v1::StepDecision& decision) {
    const uint64_t step = decision.step();
    uint64_t& committed = committed_[{lineage, shard}];
    if (published_ ? step <= committed : step != committed + 1) {
      violations_.Add("history", absl::StrCat("shard ", shard, " applied step ", step, " to version ", committed));
    }
    committed = step;
    const auto [first, fresh] = decisions_.try_emplace({lineage, step}, decision);
    if (!fresh && !SameDecision(first->second, decision)) {
      violations_.Add("history", absl::StrCat("two decisions were applied for step ", step, " of lineage ", lineage));
    }
    if (step > reference_.steps() || !SameDecision(reference_.decision(step), decision)) {
      violations_.Add("history", absl::StrCat("shard ", shard, " applied a decision for step ", step,
                                              " that differs from the undisturbed run's"));
    }
  }

 private:
  Violations& violations_;
  const Reference& reference_;
  const bool published_;
  std::map<std::pair<uint64_t, int>, uint64_t> committed_;               // by lineage and shard
  std::map<std::pair<uint64_t, uint64_t>, v1::StepDecision> decisions_;  // by lineage and step
};

}  // namespace penstock::simulation
