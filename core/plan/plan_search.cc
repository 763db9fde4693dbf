#include "core/plan/plan_search.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/plan/partition.h"
#include "core/plan/plan_reason.h"

namespace penstock {
namespace {

// A candidate whose quick estimate is so much above the best simulated time isn't simulated: estimates are no bounds,
// but they aren't that far off.
constexpr double kEstimateSlack = 1.3;
// A micro-batch beyond this many samples gains nothing and costs memory.
constexpr uint32_t kMicroBatchSearchedMax = 64;
// Hypothetical workers that a refusal tries.
constexpr int kMoreWorkersMax = 64;

struct Candidate {
  v1::JobSpec spec;
  double estimate_seconds = 0;
};

struct Scored {
  v1::JobSpec spec;
  Prediction prediction;

  double seconds() const { return prediction.plan.step_seconds(); }
  const v1::MeshDegrees& mesh() const { return prediction.plan.mesh(); }
};

std::vector<uint32_t> DivisorsUpTo(uint32_t value, uint64_t limit) {
  std::vector<uint32_t> divisors;
  for (uint32_t i = 1; i <= std::min<uint64_t>(value, limit); ++i) {
    if (value % i == 0) divisors.push_back(i);
  }
  return divisors;
}

std::vector<int> HostsOf(const ClusterProfile& cluster) {
  std::vector<int> hosts;
  for (const ClusterWorker& worker : cluster.workers) hosts.push_back(worker.host);
  return hosts;
}

class Search {
 public:
  // `spec` has parallel.plan AUTO: degrees, schedule and micro-batch size that it lacks are open.
  Search(const v1::JobSpec& spec, const ClusterProfile& cluster)
      : spec_(spec), cluster_(cluster), hosts_(HostsOf(cluster)) {}

  // Those that fit, in no order.
  absl::StatusOr<std::vector<Scored>> Run() {
    PENSTOCK_ASSIGN_OR_RETURN(table_, ParameterTable::Create(spec_.model()));
    std::vector<Candidate> candidates = Candidates();
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.estimate_seconds < b.estimate_seconds; });
    std::vector<Scored> fitting;
    double best = 0;
    int simulated = 0;
    for (Candidate& candidate : candidates) {
      if (best > 0 && (simulated >= kSimulatedMax || candidate.estimate_seconds > kEstimateSlack * kSlowest * best)) {
        break;
      }
      if (const std::vector<v1::JobViolation> violations = CheckJob(candidate.spec); !violations.empty()) {
        if (unsound_.empty()) unsound_ = absl::StrCat(violations[0].field(), ": ", violations[0].message());
        continue;
      }
      const absl::StatusOr<Mesh> mesh = MeshOf(candidate.spec);
      PENSTOCK_RETURN_IF_ERROR(mesh.status());
      PENSTOCK_ASSIGN_OR_RETURN(Prediction prediction, Predict(candidate.spec, cluster_, PlaceRanks(hosts_, *mesh)));
      if (prediction.short_of_memory >= 0) {
        NoteMissing(std::move(candidate.spec), std::move(prediction));
        continue;
      }
      ++simulated;
      const double seconds = prediction.plan.step_seconds();
      best = best > 0 ? std::min(best, seconds) : seconds;
      fitting.push_back({std::move(candidate.spec), std::move(prediction)});
    }
    return fitting;
  }

  // After Run without a result: the candidate that lacks the least memory, if there was one.
  const std::optional<Scored>& nearest() const { return nearest_; }
  // What CheckJob said of the first candidate that was unsound.
  const std::string& unsound() const { return unsound_; }

 private:
  // Slower ones are still of interest beside the best.
  static constexpr double kSlowest = 4;

  static double MissingBytes(const Prediction& prediction) {
    return prediction.short_bytes - prediction.short_available_bytes;
  }
  void NoteMissing(v1::JobSpec spec, Prediction prediction) {
    if (nearest_.has_value() && MissingBytes(nearest_->prediction) <= MissingBytes(prediction)) return;
    nearest_ = {std::move(spec), std::move(prediction)};
  }

  std::vector<Candidate> Candidates() const {
    const uint64_t workers = cluster_.workers.size();
    const v1::ParallelSpec& given = spec_.parallel();
    const auto one_or = [](bool fixed, uint32_t value, std::vector<uint32_t> open) {
      return fixed ? std::vector<uint32_t>{value} : std::move(open);
    };
    std::vector<uint32_t> stages;
    for (uint32_t i = 1; i <= std::min<uint64_t>(spec_.model().layers(), workers); ++i) stages.push_back(i);
    std::vector<Candidate> candidates;
    for (const uint32_t pipeline : one_or(given.has_pipeline(), given.pipeline(), stages)) {
      const auto cut = PartitionStages(*table_, static_cast<int>(pipeline));
      if (!cut.ok()) continue;
      for (const uint32_t data :
           one_or(given.has_data(), given.data(), DivisorsUpTo(spec_.training().global_batch_size(), workers))) {
        for (const uint32_t tensor :
             one_or(given.has_tensor(), given.tensor(), DivisorsUpTo(spec_.model().heads(), workers))) {
          if (uint64_t{pipeline} * data * tensor > workers) continue;
          AddMesh(*cut, pipeline, data, tensor, &candidates);
        }
      }
    }
    return candidates;
  }

  void AddMesh(const std::vector<BlockRange>& cut, uint32_t pipeline, uint32_t data, uint32_t tensor,
               std::vector<Candidate>* candidates) const {
    std::vector<v1::ParallelSpec::Schedule> schedules = {spec_.parallel().schedule()};
    if (schedules[0] == v1::ParallelSpec::SCHEDULE_UNSPECIFIED) {
      schedules = {v1::ParallelSpec::SCHEDULE_1F1B};
      if (pipeline > 1) schedules.push_back(v1::ParallelSpec::SCHEDULE_GPIPE);
    }
    const uint32_t batch = spec_.training().global_batch_size();
    std::vector<uint32_t> micro_batches = {spec_.training().micro_batch_size()};
    if (micro_batches[0] == 0) micro_batches = DivisorsUpTo(std::max(1u, batch / data), kMicroBatchSearchedMax);
    for (const v1::ParallelSpec::Schedule schedule : schedules) {
      for (const uint32_t micro_batch : micro_batches) {
        if (batch % (uint64_t{data} * micro_batch) != 0) continue;
        Candidate candidate{spec_, 0};
        v1::ParallelSpec* const parallel = candidate.spec.mutable_parallel();
        parallel->clear_plan();
        parallel->set_pipeline(pipeline);
        parallel->set_data(data);
        parallel->set_tensor(tensor);
        parallel->set_schedule(schedule);
        candidate.spec.mutable_training()->set_micro_batch_size(micro_batch);
        if (!Estimate(cut, &candidate)) continue;
        candidates->push_back(std::move(candidate));
      }
    }
  }

  // False for a mesh that can't be.
  bool Estimate(const std::vector<BlockRange>& cut, Candidate* candidate) const {
    const absl::StatusOr<Mesh> mesh = MeshOf(candidate->spec);
    if (!mesh.ok()) return false;
    const StepCosts costs = CostsOfStep(candidate->spec, *table_, cut, *mesh, cluster_, PlaceRanks(hosts_, *mesh));
    const double micro_batches = MicroBatches(candidate->spec);
    double slowest = 0;
    double exchange = 0;
    std::vector<double> core_seconds(cluster_.hosts.size(), 0);
    for (const StageCosts& stage : costs.simulation.stages) {
      const double pass = stage.forward_seconds + stage.backward_seconds;
      slowest = std::max(slowest, pass);
      exchange = std::max(exchange, stage.reduce_seconds + stage.optimizer_seconds);
      for (const HostLoad& load : stage.loads) {
        core_seconds[static_cast<size_t>(load.host)] += pass * micro_batches * load.cores;
      }
    }
    double seconds = (micro_batches + mesh->pipeline() - 1) * slowest;
    if (costs.mirror.has_value()) {
      for (const HostLoad& load : costs.mirror->loads) {
        core_seconds[static_cast<size_t>(load.host)] += costs.mirror->forward_seconds * load.cores;
      }
    }
    for (size_t host = 0; host < core_seconds.size(); ++host) {
      seconds = std::max(seconds, core_seconds[host] / cluster_.hosts[host].cores);
    }
    candidate->estimate_seconds = seconds + exchange;
    if (costs.mirror.has_value()) {
      candidate->estimate_seconds = std::max(candidate->estimate_seconds, costs.mirror->forward_seconds);
    }
    return true;
  }

  const v1::JobSpec& spec_;
  const ClusterProfile& cluster_;
  const std::vector<int> hosts_;
  absl::StatusOr<ParameterTable> table_ = absl::InternalError("not run yet");
  std::optional<Scored> nearest_;
  std::string unsound_;
};

// Of plans that are equally fast.
bool Simpler(const Scored& a, const Scored& b) {
  const auto key = [](const Scored& s) {
    const v1::MeshDegrees& mesh = s.mesh();
    return std::tuple(mesh.pipeline() * mesh.data() * mesh.tensor(), mesh.tensor(), mesh.pipeline(),
                      s.spec.parallel().schedule() != v1::ParallelSpec::SCHEDULE_1F1B, s.seconds());
  };
  return key(a) < key(b);
}

const Scored& Choose(const std::vector<Scored>& scored) {
  double best = scored[0].seconds();
  for (const Scored& each : scored) best = std::min(best, each.seconds());
  const Scored* chosen = nullptr;
  for (const Scored& each : scored) {
    if (each.seconds() <= best * kEquallyFast && (chosen == nullptr || Simpler(each, *chosen))) chosen = &each;
  }
  return *chosen;
}

std::string MeshText(const v1::MeshDegrees& mesh) {
  return absl::StrCat("pipeline ", mesh.pipeline(), " x data ", mesh.data(), " x tensor ", mesh.tensor());
}

// With everything open that a plan may choose, but the micro-batch size, which changes what is computed.
v1::JobSpec Opened(const v1::JobSpec& spec) {
  v1::JobSpec open = spec;
  open.mutable_parallel()->set_plan(v1::ParallelSpec::PLAN_AUTO);
  open.mutable_parallel()->clear_pipeline();
  open.mutable_parallel()->clear_data();
  open.mutable_parallel()->clear_tensor();
  open.mutable_parallel()->clear_schedule();
  return open;
}

// As the job was written, for the search: a mesh that is given is the only one.
v1::JobSpec Searchable(const v1::JobSpec& spec) {
  v1::JobSpec searchable = spec;
  searchable.mutable_parallel()->set_plan(v1::ParallelSpec::PLAN_AUTO);
  return searchable;
}

// Each new one like the first, on a host of its own like the first one's.
ClusterProfile WithMoreWorkers(ClusterProfile cluster, int more) {
  const ClusterHost host = cluster.hosts[static_cast<size_t>(cluster.workers[0].host)];
  for (int i = 0; i < more; ++i) {
    ClusterWorker worker = cluster.workers[0];
    worker.host = static_cast<int>(cluster.hosts.size());
    cluster.hosts.push_back(host);
    cluster.workers.push_back(std::move(worker));
  }
  return cluster;
}

bool Fits(const v1::JobSpec& spec, const ClusterProfile& cluster) {
  const auto found = Search(spec, cluster).Run();
  return found.ok() && !found->empty();
}

v1::JobSpec WithPlacement(v1::JobSpec spec, v1::ZeroSpec::Placement placement,
                          v1::ZeroSpec::Offload offload = v1::ZeroSpec::OFFLOAD_UNSPECIFIED) {
  v1::ZeroSpec* const zero = spec.mutable_parallel()->mutable_zero();
  zero->set_placement(placement);
  zero->clear_mirror();
  zero->clear_mirror_lag();
  zero->set_offload(offload);
  FillDefaults(&spec);
  return spec;
}

// The smallest change under which the job would fit: "; micro_batch_size 2 would fit". Empty when none was found.
std::string SmallestChange(const v1::JobSpec& spec, const ClusterProfile& cluster) {
  if (UpdatesLocally(spec) && OnGpus(spec) && !IsOffloaded(spec)) {
    v1::JobSpec offloaded = spec;
    offloaded.mutable_parallel()->mutable_zero()->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
    if (Fits(offloaded, cluster)) return "; parallel.zero.offload: host would fit";
  }
  if (UpdatesLocally(spec) && Fits(WithPlacement(spec, v1::ZeroSpec::PLACEMENT_SERVICE), cluster)) {
    return "; parallel.zero.placement: service would fit";
  }
  for (uint32_t size = spec.training().micro_batch_size() / 2; size > 0; size /= 2) {
    v1::JobSpec smaller = spec;
    smaller.mutable_training()->set_micro_batch_size(size);
    if (Fits(smaller, cluster)) return absl::StrCat("; training.micro_batch_size ", size, " would fit");
  }
  const auto others = Search(Opened(spec), cluster).Run();
  if (others.ok() && !others->empty()) return absl::StrCat("; ", MeshText(Choose(*others).mesh()), " would fit");
  // More workers help more or less steadily: the first power of two that does, then the fewest below it.
  const v1::JobSpec open = Opened(spec);
  int enough = 1;
  while (enough <= kMoreWorkersMax && !Fits(open, WithMoreWorkers(cluster, enough))) enough *= 2;
  if (enough <= kMoreWorkersMax) {
    int too_few = enough / 2;
    while (enough - too_few > 1) {
      const int middle = (enough + too_few) / 2;
      (Fits(open, WithMoreWorkers(cluster, middle)) ? enough : too_few) = middle;
    }
    const std::string& like = cluster.workers[0].id;
    return enough == 1 ? absl::StrCat("; one more worker on a machine like ", like, "'s would do")
                       : absl::StrCat("; ", enough, " more workers, each on a machine like ", like, "'s, would do");
  }
  return "; a smaller model.hidden, model.layers or model.seq_length would need less";
}

absl::Status RefuseMemory(const v1::JobSpec& spec, const ClusterProfile& cluster, const Prediction& prediction) {
  const v1::RankPlanBytes& rank = prediction.plan.ranks(prediction.short_of_memory);
  const bool gpu = OnGpus(spec);
  const char* const where = prediction.short_on_host ? " of its machine's memory" : gpu ? " of its GPU's memory" : "";
  return absl::ResourceExhaustedError(
      absl::StrCat("the job needs ", GigabytesText(prediction.short_bytes), where, " on stage ", rank.stage(), " (",
                   MeshText(prediction.plan.mesh()), "), and ", rank.worker_id(), " has ",
                   GigabytesText(prediction.short_available_bytes), " for it", SmallestChange(spec, cluster)));
}

v1::MeshPlan Explained(const Scored& scored, const ClusterProfile& cluster) {
  v1::MeshPlan plan = scored.prediction.plan;
  plan.set_reason(ReasonOf(scored.prediction, cluster));
  return plan;
}

// The best of each mesh, the fastest first, without the chosen one's.
std::vector<v1::MeshPlan> Alternatives(const std::vector<Scored>& scored, const v1::MeshDegrees& chosen, uint32_t count,
                                       const ClusterProfile& cluster) {
  std::map<std::tuple<uint32_t, uint32_t, uint32_t>, const Scored*> best;
  for (const Scored& each : scored) {
    const Scored*& of_mesh = best[{each.mesh().pipeline(), each.mesh().data(), each.mesh().tensor()}];
    if (of_mesh == nullptr || each.seconds() < of_mesh->seconds()) of_mesh = &each;
  }
  best.erase({chosen.pipeline(), chosen.data(), chosen.tensor()});
  std::vector<const Scored*> ordered;
  for (const auto& [mesh, each] : best) ordered.push_back(each);
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const Scored* a, const Scored* b) { return a->seconds() < b->seconds(); });
  if (ordered.size() > count) ordered.resize(count);
  std::vector<v1::MeshPlan> plans;
  for (const Scored* each : ordered) plans.push_back(Explained(*each, cluster));
  return plans;
}

absl::Status CheckWorkers(const v1::JobSpec& spec, const ClusterProfile& cluster) {
  if (cluster.workers.empty())
    return absl::FailedPreconditionError("no worker is registered, so nothing can be planned");
  const v1::ParallelSpec& parallel = spec.parallel();
  const uint64_t wanted =
      uint64_t{std::max(1u, parallel.pipeline())} * std::max(1u, parallel.data()) * std::max(1u, parallel.tensor());
  if (wanted <= cluster.workers.size()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the job wants ", wanted, " workers, but ", cluster.workers.size(),
                                                   cluster.workers.size() == 1 ? " is" : " are", " registered"));
}

// The placement is given.
absl::StatusOr<FoundPlan> SearchPlaced(const v1::JobSpec& spec, const ClusterProfile& cluster, uint32_t alternatives) {
  const v1::JobSpec searchable = Searchable(spec);
  Search search(searchable, cluster);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Scored> scored, search.Run());
  if (scored.empty()) {
    if (search.nearest().has_value()) return RefuseMemory(searchable, cluster, search.nearest()->prediction);
    return absl::InvalidArgumentError(
        absl::StrCat("no mesh of ", cluster.workers.size(), " workers is sound for this job",
                     search.unsound().empty() ? "" : absl::StrCat(": ", search.unsound())));
  }
  const Scored& chosen = Choose(scored);
  FoundPlan found{.spec = chosen.spec, .placement_reason = "", .plan = Explained(chosen, cluster), .alternatives = {}};
  if (alternatives == 0) return found;
  const uint32_t count = std::min(alternatives, kAlternativesMax);
  if (spec.parallel().plan() == v1::ParallelSpec::PLAN_AUTO) {
    found.alternatives = Alternatives(scored, chosen.mesh(), count, cluster);
    return found;
  }
  const v1::JobSpec open = Opened(spec);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Scored> others, Search(open, cluster).Run());
  found.alternatives = Alternatives(others, chosen.mesh(), count, cluster);
  return found;
}

}  // namespace

absl::StatusOr<FoundPlan> SearchPlan(const v1::JobSpec& spec, const ClusterProfile& cluster, uint32_t alternatives) {
  PENSTOCK_RETURN_IF_ERROR(CheckWorkers(spec, cluster));
  v1::JobSpec placed = spec;
  placed.mutable_parallel()->set_device(cluster.workers[0].gpu.empty() ? v1::ParallelSpec::DEVICE_CPU
                                                                       : v1::ParallelSpec::DEVICE_CUDA);
  if (spec.parallel().zero().placement() != v1::ZeroSpec::PLACEMENT_AUTO) {
    return SearchPlaced(placed, cluster, alternatives);
  }
  const v1::JobSpec service = WithPlacement(placed, v1::ZeroSpec::PLACEMENT_SERVICE);
  if (!OnGpus(placed)) {
    absl::StatusOr<FoundPlan> found = SearchPlaced(service, cluster, alternatives);
    if (found.ok()) found->placement_reason = "placement service: workers on CPUs keep no optimizer state";
    return found;
  }
  // The fastest way first.
  struct Way {
    v1::JobSpec spec;
    const char* reason;
  };
  const Way ways[] = {
      {WithPlacement(placed, v1::ZeroSpec::PLACEMENT_LOCAL),
       "placement local: the GPUs update the weights, and the service follows beside the steps"},
      {WithPlacement(placed, v1::ZeroSpec::PLACEMENT_LOCAL, v1::ZeroSpec::OFFLOAD_HOST),
       "placement local, offload host: with the optimizer's state the job doesn't fit the GPUs, but their hosts have "
       "room for it"},
      {service, "placement service: with the optimizer's state the job fits neither the GPUs nor their hosts"}};
  absl::StatusOr<FoundPlan> found = absl::UnknownError("no way was tried");
  for (const Way& way : ways) {
    found = SearchPlaced(way.spec, cluster, alternatives);
    if (found.ok()) found->placement_reason = way.reason;
    if (!absl::IsResourceExhausted(found.status())) break;
  }
  return found;
}

}  // namespace penstock
