// Checks the ledger (invariant 5): the committed history, as the coordinator's store has it at the end, consists of
// every step once, and its sample ranges cover each sample exactly once.
#pragma once

#include <map>

#include "absl/strings/str_cat.h"
#include "protos/penstock/v1/step.pb.h"
#include "tests/simulation/training.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class SampleChecker {
 public:
  explicit SampleChecker(Violations& violations) : violations_(violations) {}

  // `history` by step.
  void AtEnd(const std::map<uint64_t, v1::StepRecord>& history, uint64_t steps) {
    uint64_t next_step = 1, next_sample = 0;
    for (const auto& [step, record] : history) {
      if (step != next_step || record.step() != step) {
        violations_.Add("samples", absl::StrCat("the history has step ", step, " where step ", next_step, " belongs"));
      }
      next_step = step + 1;
      for (const v1::SampleRange& range : record.samples()) {
        if (range.begin() != next_sample) {
          violations_.Add("samples", absl::StrCat("step ", step, " read samples from ", range.begin(), " on, but ",
                                                  next_sample, " were read before"));
        }
        next_sample = range.end();
      }
    }
    if (next_step != steps + 1 || next_sample != steps * kBatch) {
      violations_.Add("samples",
                      absl::StrCat("the history ends after step ", next_step - 1, " and sample ", next_sample));
    }
  }

 private:
  Violations& violations_;
};

}  // namespace penstock::simulation
