// Where a step's time goes: a backend that gives each operation's calls to a meter, with what they took and what they
// have to move and compute at least.
//
//   backend = MeasureOperations(std::move(backend), [&](const std::string& name) -> OperationMeter {
//     return [&, name](const OperationCall& call) { total[name] += call.seconds; };
//   });
//
// The time is that of whoever computes. On a device it lies between two marks in its stream, which the host doesn't
// wait for: a call becomes known some calls later, those of the last moments before the backend's end maybe never. On
// the CPU it is the host's clock.
//
// Only calls of the thread that made the backend, on its default stream, are measured; others go through. Meters are
// made with the operations and called on that thread.
#ifndef PENSTOCK_WORKER_OPS_OPERATION_TIMES_H_
#define PENSTOCK_WORKER_OPS_OPERATION_TIMES_H_

#include <functional>
#include <memory>
#include <string>

#include "worker/ops/backend.h"

namespace penstock {

struct OperationCall {
  double seconds = 0;
  double flops = 0;  // of matrix products, as their authors count them; 0 where there are none
  double bytes = 0;  // each input read once, each output written once
};

using OperationMeter = std::function<void(const OperationCall&)>;
// The meter of the operation with this name: "linear 768x3072 weight gradient". The same name may come again.
using OperationMeters = std::function<OperationMeter(const std::string& name)>;

std::unique_ptr<Backend> MeasureOperations(std::unique_ptr<Backend> backend, OperationMeters meters);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_OPERATION_TIMES_H_
