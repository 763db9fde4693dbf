// Predicts the time of a schedule under given costs: an event simulation with the cores of a host shared between its
// stages and with links of finite latency and bandwidth. Pure and deterministic; no clock.
//
// A stage stands for all its ranks, which run alike: its costs are those of the slowest one, and it loads the hosts of
// all of them.
#ifndef PENSTOCK_CORE_SCHEDULE_SIMULATOR_H_
#define PENSTOCK_CORE_SCHEDULE_SIMULATOR_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/schedule/instruction.h"

namespace penstock {

// What a stage's ranks keep busy on one host.
struct HostLoad {
  // Index into SimulationInput::host_cores.
  int host = 0;
  // During a forward or backward pass.
  double cores = 1;
  // During ReduceGradients and OptimizerStep.
  double exchange_cores = 0;
};

// Costs of one stage, for one micro-batch where it applies, when it has all the cores that it asks for.
struct StageCosts {
  double forward_seconds = 0;
  double backward_seconds = 0;
  double reduce_seconds = 0;
  double optimizer_seconds = 0;
  // Bytes handed to the next stage by a forward pass; the gradient that comes back has the same size.
  double boundary_bytes = 0;
  // Stages on one host share its cores; a stage goes as fast as its most crowded host lets it.
  std::vector<HostLoad> loads = {HostLoad{}};
  // To the next stage and back; the input's where it is 0 there.
  double link_latency_seconds = 0;
  double link_bytes_per_second = 0;
};

struct SimulationInput {
  // One for each stage.
  std::vector<StageCosts> stages;
  // Cores of each host; when more are asked for than there are, all passes on the host slow down alike. Empty: every
  // stage always gets what it asks for.
  std::vector<double> host_cores;
  // Between two neighbouring stages of which the first has no link of its own, each direction by itself; messages of
  // one direction follow one another.
  double link_latency_seconds = 0;
  // 0 means that bytes cost nothing.
  double link_bytes_per_second = 0;
};

struct InstructionTime {
  double begin_seconds = 0;
  double end_seconds = 0;
};

struct SimulationResult {
  double makespan_seconds = 0;
  // Share of all stages' time in which no instruction other than a send or receive is under way; 0 to 1.
  double bubble_ratio = 0;
  // For each stage, seconds in instructions other than sends and receives.
  std::vector<double> busy_seconds;
  // For each stage and instruction. A receive lasts from when the stage is ready for it until the data is there; a send
  // hands its message to the link and takes no time. An OptimizerStep that follows a ReduceGradients begins when every
  // stage has reduced: the update needs all gradients.
  std::vector<std::vector<InstructionTime>> times;
};

// INVALID_ARGUMENT for costs that are negative, not finite, or not as many as there are stages; FAILED_PRECONDITION for
// a schedule that gets stuck.
absl::StatusOr<SimulationResult> Simulate(const Schedule& schedule, const SimulationInput& input);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SCHEDULE_SIMULATOR_H_
