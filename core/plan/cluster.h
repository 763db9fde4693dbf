// The cluster as the planner sees it: who computes where, how fast, and what is shared. Values; made from the members'
// registrations by the coordinator, by hand in tests.
#ifndef PENSTOCK_CORE_PLAN_CLUSTER_H_
#define PENSTOCK_CORE_PLAN_CLUSTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/data_type.h"
#include "core/mesh/mesh.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// A machine, whose members share its cores and memory.
struct ClusterHost {
  std::string id;
  double cores = 1;
  // For all its members together; 0 where it isn't known.
  int64_t memory_bytes = 0;
};

struct ClusterWorker {
  std::string id;
  // Index into ClusterProfile::hosts.
  int host = 0;
  int threads = 1;
  // The card's UUID, or "cuda:0"; workers of a host with the same one share the GPU and its memory. Empty: the CPU, and the host's memory.
  std::string gpu;
  // Of the GPU; 0 where it isn't known.
  int64_t gpu_bytes = 0;
  // Between the GPU and its host, the slower direction; 0 where it isn't known.
  double gpu_link_bytes_per_second = 0;
  // Without fp32's: DefaultRates().
  v1::WorkerRates rates;
};

// Measured against predicted, from the steps of earlier jobs: what costs are multiplied by.
struct CostCorrection {
  // Of forward and backward passes.
  double compute = 1;
  // Of everything else: sums, pushes, commits, pulls.
  double exchange = 1;
};

struct ClusterProfile {
  std::vector<ClusterHost> hosts;
  // In the order in which they are offered to jobs; of one kind, with GPUs or without.
  std::vector<ClusterWorker> workers;
  // Of each parameter shard its host.
  std::vector<int> shard_hosts;
  CostCorrection correction;
};

bool HasGpu(const v1::MemberInfo& worker);

// "CPU", or "CUDA with NCCL 2.28.9". The ranks of a job are of one kind: the same bits come from the same devices, and
// NCCL talks to its own version only.
std::string WorkerKind(const v1::MemberInfo& worker);

// Whether the job may run on the worker, as far as its device goes; an open one means any.
bool MayRunOn(const v1::MemberInfo& worker, const v1::JobSpec& spec);

// A worker whose rates nobody has measured: one core of a server of the year 2020. Only ratios between meshes can be
// believed then.
const v1::WorkerRates& DefaultRates();

// What a worker with these rates computes at in this precision; the default's where they are empty.
const v1::ComputeRates& RatesIn(DataType type, const v1::WorkerRates& rates);

// Puts the workers of `worker_hosts` (the host of each, in the order in which they are offered) on the ranks of a mesh
// of which they are enough: for each rank the index of its worker. Takes the earliest offered hosts first, whole tensor
// groups inside a host where there is room for them, and goes on from host to host in rank order, so that data groups
// stay close, too, and pipelines, which exchange least, cross between hosts. Deterministic.
std::vector<int> PlaceRanks(const std::vector<int>& worker_hosts, const Mesh& mesh);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_CLUSTER_H_
