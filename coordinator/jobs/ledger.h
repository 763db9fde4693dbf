// The samples that a job has consumed, counted from the ranges that its ranks report having read (never computed from
// the step number): so that a lost or repeated sample shows.
//
// A step is counted once all steps before it are known. Steps of equal, consecutive ranges, which is what a sound job
// has, are kept as one run, so a long job takes no more memory than a short one.
//
// Not thread-safe: a part of the job's runner. Pure.
#ifndef PENSTOCK_COORDINATOR_JOBS_LEDGER_H_
#define PENSTOCK_COORDINATOR_JOBS_LEDGER_H_

#include <cstdint>
#include <map>
#include <vector>

#include "protos/penstock/v1/step.pb.h"

namespace penstock {

class Ledger {
 public:
  struct Counts {
    // Distinct samples that were consumed, those before the job's own history included.
    uint64_t consumed = 0;
    // Beyond the first time.
    uint64_t repeated = 0;
    // Below the last one that was consumed.
    uint64_t skipped = 0;
  };

  Ledger() = default;
  // A history that goes on after version `start_step`, which has consumed samples [0, start_samples).
  Ledger(uint64_t start_step, uint64_t start_samples) : start_step_(start_step), start_samples_(start_samples) {}

  // A step that is known already, or isn't after start_step, changes nothing.
  void Add(const v1::StepRecord& record);
  // Forgets the steps after `step`.
  void Cut(uint64_t step);
  bool Has(uint64_t step) const;
  // The last step before the first one that isn't known.
  uint64_t contiguous_step() const;
  // Up to contiguous_step().
  Counts counts() const;

  uint64_t start_step() const { return start_step_; }
  uint64_t start_samples() const { return start_samples_; }

 private:
  // Steps [first, last]; step first + i has consumed [begin + i * size, begin + (i + 1) * size), unless `ranges` says
  // otherwise for a single step.
  struct Run {
    uint64_t last = 0;
    bool regular = false;
    uint64_t begin = 0;
    uint64_t size = 0;
    std::vector<v1::SampleRange> ranges;
  };
  using Runs = std::map<uint64_t, Run>;

  static bool Continues(uint64_t first, const Run& run, uint64_t next_first, const Run& next);
  // Joins the run with the one before it, where they are consecutive.
  Runs::iterator JoinWithPrevious(Runs::iterator run);

  uint64_t start_step_ = 0;
  uint64_t start_samples_ = 0;
  // By first step; no overlap.
  Runs runs_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_LEDGER_H_
