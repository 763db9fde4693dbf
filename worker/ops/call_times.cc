#include "worker/ops/call_times.h"

#include "services/base/clock.h"

namespace penstock {

absl::Status CallTimes::Run(const OpContext& context, const SharedMeter& meter, double flops, double bytes,
                            absl::FunctionRef<absl::Status()> call) {
  if (context.stream != nullptr || std::this_thread::get_id() != owner_) return call();
  const OperationCall cost = {.flops = flops, .bytes = bytes};
  if (clock_ == nullptr) {
    const absl::Time begin = Clock::Real()->Monotonic();
    absl::Status status = call();
    OperationCall done = cost;
    done.seconds = absl::ToDoubleSeconds(Clock::Real()->Monotonic() - begin);
    (*meter)(done);
    return status;
  }
  Resolve();
  const bool marked = Add({});
  absl::Status status = call();
  if (marked) Add({.meter = meter, .call = cost});
  return status;
}

bool CallTimes::Add(const Mark& mark) {
  // One of a call's two may be missing where the device refuses: a begin without an end is the next one's.
  if (marks_.size() >= kCallMarksMax || !clock_->Mark()) return false;
  marks_.push_back(mark);
  return true;
}

void CallTimes::Resolve() {
  if (clock_ == nullptr) return;
  times_.clear();
  clock_->Take(&times_);
  for (const absl::Time time : times_) {
    Mark mark = std::move(marks_.front());
    marks_.pop_front();
    if (mark.meter == nullptr) {
      begun_ = time;
      continue;
    }
    mark.call.seconds = absl::ToDoubleSeconds(time - begun_);
    (*mark.meter)(mark.call);
  }
}

}  // namespace penstock
