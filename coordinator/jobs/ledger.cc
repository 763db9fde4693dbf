#include "coordinator/jobs/ledger.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace penstock {

bool Ledger::Has(uint64_t step) const {
  auto after = runs_.upper_bound(step);
  return after != runs_.begin() && std::prev(after)->second.last >= step;
}

bool Ledger::Continues(uint64_t first, const Run& run, uint64_t next_first, const Run& next) {
  return run.regular && next.regular && next_first == run.last + 1 && next.size == run.size &&
         next.begin == run.begin + (run.last - first + 1) * run.size;
}

Ledger::Runs::iterator Ledger::JoinWithPrevious(Runs::iterator run) {
  if (run == runs_.begin()) return run;
  const auto previous = std::prev(run);
  if (!Continues(previous->first, previous->second, run->first, run->second)) return run;
  previous->second.last = run->second.last;
  runs_.erase(run);
  return previous;
}

void Ledger::Add(const v1::StepRecord& record) {
  const uint64_t step = record.step();
  if (step <= start_step_ || Has(step)) return;
  Run run;
  run.last = step;
  const auto& ranges = record.samples();
  if (ranges.size() == 1 && ranges[0].begin() < ranges[0].end()) {
    run.regular = true;
    run.begin = ranges[0].begin();
    run.size = ranges[0].end() - ranges[0].begin();
  } else {
    run.ranges.assign(ranges.begin(), ranges.end());
  }
  auto at = JoinWithPrevious(runs_.emplace(step, std::move(run)).first);
  if (const auto next = std::next(at); next != runs_.end()) JoinWithPrevious(next);
}

void Ledger::Cut(uint64_t step) {
  runs_.erase(runs_.upper_bound(step), runs_.end());
  if (!runs_.empty()) {
    Run& last = std::prev(runs_.end())->second;
    last.last = std::min(last.last, step);
  }
}

uint64_t Ledger::contiguous_step() const {
  uint64_t step = start_step_;
  for (const auto& [first, run] : runs_) {
    if (first != step + 1) break;
    step = run.last;
  }
  return step;
}

Ledger::Counts Ledger::counts() const {
  std::vector<std::pair<uint64_t, uint64_t>> intervals;
  if (start_samples_ > 0) intervals.emplace_back(0, start_samples_);
  uint64_t step = start_step_;
  for (const auto& [first, run] : runs_) {
    if (first != step + 1) break;
    step = run.last;
    if (run.regular) intervals.emplace_back(run.begin, run.begin + (run.last - first + 1) * run.size);
    for (const v1::SampleRange& range : run.ranges) {
      if (range.begin() < range.end()) intervals.emplace_back(range.begin(), range.end());
    }
  }
  std::sort(intervals.begin(), intervals.end());
  Counts counts;
  uint64_t reached = 0;
  for (const auto& [begin, end] : intervals) {
    if (begin > reached) counts.skipped += begin - reached;
    const uint64_t fresh = end > reached ? end - std::max(begin, reached) : 0;
    counts.consumed += fresh;
    counts.repeated += (end - begin) - fresh;
    reached = std::max(reached, end);
  }
  return counts;
}

}  // namespace penstock
