#include "core/plan/cluster.h"

#include <algorithm>
#include <cstddef>

#include "core/base/status_macros.h"

namespace penstock {

bool HasGpu(const v1::MemberInfo& worker) { return worker.device().starts_with("cuda:"); }

std::string WorkerKind(const v1::MemberInfo& worker) {
  if (!HasGpu(worker)) return "CPU";
  const std::string& nccl = worker.device_info().nccl();
  return nccl.empty() ? "CUDA" : "CUDA with NCCL " + nccl;
}

bool MayRunOn(const v1::MemberInfo& worker, const v1::JobSpec& spec) {
  switch (spec.parallel().device()) {
    case v1::ParallelSpec::DEVICE_CPU:
      return !HasGpu(worker);
    case v1::ParallelSpec::DEVICE_CUDA:
      return HasGpu(worker);
    default:
      return true;
  }
}

const v1::WorkerRates& DefaultRates() {
  static const auto& rates = *[] {
    auto* const made = new v1::WorkerRates();
    for (const auto& [hidden, flops] : {std::pair<uint32_t, double>{64, 1.5e10}, {256, 4e10}, {768, 7e10}}) {
      v1::ComputeRates::LayerRate& layer = *made->mutable_fp32()->add_layers();
      layer.set_hidden(hidden);
      layer.set_forward_flops_per_second(flops);
      layer.set_backward_flops_per_second(flops);
      layer.set_attention_forward_flops_per_second(flops / 3);
      layer.set_attention_backward_flops_per_second(flops / 3);
    }
    made->mutable_fp32()->set_head_flops_per_second(6e10);
    made->set_memory_bytes_per_second(1e10);
    return made;
  }();
  return rates;
}

const v1::ComputeRates& RatesIn(DataType type, const v1::WorkerRates& rates) {
  if (rates.fp32().layers_size() == 0) return DefaultRates().fp32();
  return type == DataType::kBfloat16 && rates.bf16().layers_size() > 0 ? rates.bf16() : rates.fp32();
}

std::vector<int> PlaceRanks(const std::vector<int>& worker_hosts, const Mesh& mesh) {
  const size_t wanted = static_cast<size_t>(mesh.size());
  const size_t tensor = static_cast<size_t>(mesh.tensor());
  PENSTOCK_CHECK(worker_hosts.size() >= wanted);
  // Workers of each host; hosts in the order in which they are first offered.
  std::vector<int> order;
  std::vector<std::vector<int>> by_host;
  for (size_t worker = 0; worker < worker_hosts.size(); ++worker) {
    const auto found = std::find(order.begin(), order.end(), worker_hosts[worker]);
    if (found == order.end()) {
      order.push_back(worker_hosts[worker]);
      by_host.emplace_back();
      by_host.back().push_back(static_cast<int>(worker));
    } else {
      by_host[static_cast<size_t>(found - order.begin())].push_back(static_cast<int>(worker));
    }
  }
  std::vector<int> placed;
  std::vector<int> rest;
  for (const std::vector<int>& workers : by_host) {
    const size_t whole = std::min(workers.size() / tensor * tensor, wanted - placed.size());
    placed.insert(placed.end(), workers.begin(), workers.begin() + static_cast<ptrdiff_t>(whole));
    rest.insert(rest.end(), workers.begin() + static_cast<ptrdiff_t>(whole), workers.end());
  }
  // Groups that no host has room for.
  const size_t missing = wanted - placed.size();
  placed.insert(placed.end(), rest.begin(), rest.begin() + static_cast<ptrdiff_t>(missing));
  return placed;
}

}  // namespace penstock
