// The times of calls, for operation_times.cc and measured_operations.cc alone.
#ifndef PENSTOCK_WORKER_OPS_CALL_TIMES_H_
#define PENSTOCK_WORKER_OPS_CALL_TIMES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/ops/context.h"
#include "worker/ops/operation_times.h"
#include "worker/ops/stream_clock.h"

namespace penstock {

// Calls may end after their operation.
using SharedMeter = std::shared_ptr<const OperationMeter>;

// Marks that the device hasn't passed; beyond, calls aren't measured.
inline constexpr size_t kCallMarksMax = 8192;

// Thread-safety: Run from any thread; it measures on the one that made it.
class CallTimes {
 public:
  // `clock`: the default stream's; null where calls return when they are done.
  CallTimes(std::unique_ptr<StreamClock> clock, OperationMeters meters)
      : owner_(std::this_thread::get_id()), clock_(std::move(clock)), meters_(std::move(meters)) {}
  ~CallTimes() { Resolve(); }

  SharedMeter MeterOf(const std::string& name) const { return std::make_shared<const OperationMeter>(meters_(name)); }

  // `call`, which has this much to compute and to move.
  absl::Status Run(const OpContext& context, const SharedMeter& meter, double flops, double bytes,
                   absl::FunctionRef<absl::Status()> call);

 private:
  struct Mark {
    SharedMeter meter;  // null: the begin of a call
    OperationCall call;
  };

  bool Add(const Mark& mark);
  void Resolve();

  const std::thread::id owner_;
  const std::unique_ptr<StreamClock> clock_;
  const OperationMeters meters_;
  // Made and not passed, in order; the clock has the same ones.
  std::deque<Mark> marks_;
  std::vector<absl::Time> times_;
  absl::Time begun_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CALL_TIMES_H_
