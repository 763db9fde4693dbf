// The workers that a job holds: which rank each one has, and whether it is free to be assigned. All or nothing: a job
// runs with all its ranks or none.
//
// Not thread-safe: a part of JobMachine. Pure bookkeeping.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace penstock {

// One life of a worker process.
struct WorkerRef {
  std::string id;
  uint64_t incarnation = 0;

  friend bool operator==(const WorkerRef&, const WorkerRef&) = default;
};

class Gang {
 public:
  enum class Member {
    // Held, and holding nothing of the job: free to be assigned.
    kFree,
    // Has been sent an assignment of `epoch`.
    kAssigned,
    // As kAssigned, and has said that it is ready.
    kReady,
    // Told to stop; holds what it had until it says RankStopped or is lost.
    kStopping,
  };
  struct Slot {
    WorkerRef worker;
    Member member = Member::kFree;
    // Of the last assignment.
    uint64_t epoch = 0;
    // While kStopping: when to say so again, and when to give the worker up.
    absl::Time resend_at = absl::InfiniteFuture();
    absl::Time evict_at = absl::InfiniteFuture();
  };

  explicit Gang(int ranks) : slots_(ranks) {}

  int ranks() const { return static_cast<int>(slots_.size()); }
  int held() const;
  int missing() const { return ranks() - held(); }
  // Whether every rank has a worker, in the given state.
  bool AllAre(Member member) const;
  // Whether no held worker is in another state than kFree.
  bool NoneBusy() const;

  // The rank of a worker, by process life.
  std::optional<int> RankOf(const WorkerRef& worker) const;
  const std::optional<Slot>& slot(int rank) const { return slots_[rank]; }
  // Puts free workers on the ranks that have none, in rank order. Needs workers.size() <= missing().
  void Add(const std::vector<WorkerRef>& workers);
  // Puts a worker that was found running on its rank. False when the rank is taken by another worker.
  bool Adopt(int rank, const WorkerRef& worker, uint64_t epoch);
  void Set(int rank, Member member);
  void Stop(int rank, absl::Time resend_at, absl::Time evict_at);
  void Assign(uint64_t epoch);
  void Remove(int rank) { slots_[rank].reset(); }
  std::vector<WorkerRef> workers() const;

 private:
  std::vector<std::optional<Slot>> slots_;
};

}  // namespace penstock
