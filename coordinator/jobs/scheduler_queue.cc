// Who gets which workers: all or nothing, the oldest job first.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/scheduler.h"
#include "core/plan/cluster.h"
#include "core/plan/job_facts.h"

namespace penstock {

void Scheduler::ScheduleSoon() {
  if (scheduling_soon_) return;
  scheduling_soon_ = true;
  environment_.loop->Post([this] {
    scheduling_soon_ = false;
    Schedule();
    ShowMembers();
  });
}

int Scheduler::RegisteredWorkers() const {
  return static_cast<int>(std::count_if(leases_.members().begin(), leases_.members().end(), [](const auto& entry) {
    return !entry.second.lost && entry.second.info.role() == v1::MEMBER_ROLE_WORKER;
  }));
}

int Scheduler::LargestKind(const v1::JobSpec& spec) const {
  std::map<std::string, int> kinds;
  int largest = 0;
  for (const auto& [id, member] : leases_.members()) {
    if (member.lost || member.info.role() != v1::MEMBER_ROLE_WORKER || !MayRunOn(member.info, spec)) continue;
    largest = std::max(largest, ++kinds[WorkerKind(member.info)]);
  }
  return largest;
}

std::vector<WorkerRef> Scheduler::IdleWorkers() const {
  std::set<std::string> held;
  for (const auto& runner : runners_) {
    for (const WorkerRef& worker : runner->machine().gang().workers()) held.insert(worker.id);
  }
  std::vector<WorkerRef> idle;
  for (const auto& [id, member] : leases_.members()) {
    if (member.lost || member.stream == 0 || member.info.role() != v1::MEMBER_ROLE_WORKER) continue;
    if (held.contains(id) || strays_.contains(id)) continue;
    idle.push_back({id, member.info.incarnation()});
  }
  std::sort(idle.begin(), idle.end(), [](const WorkerRef& a, const WorkerRef& b) { return MemberIdLess(a.id, b.id); });
  return idle;
}

// "2 of 4 registered are busy with job first, 1 with job second".
std::string Scheduler::BusyDetail(const JobRunner& waiting) const {
  std::string text;
  for (const auto& runner : runners_) {
    const int held = runner->machine().gang().held();
    if (runner.get() == &waiting || held == 0) continue;
    if (text.empty()) {
      text = absl::StrCat(held, " of ", RegisteredWorkers(), " registered ", held == 1 ? "is" : "are",
                          " busy with job ", runner->spec().name());
    } else {
      absl::StrAppend(&text, ", ", held, " with job ", runner->spec().name());
    }
  }
  return text;
}

// A job whose name an earlier one had waits until that one has let go of its shards, workers and checkpoint folder.
bool Scheduler::OlderOfSameName(const JobRunner& runner) const {
  for (const auto& other : runners_) {
    if (other.get() == &runner) return false;
    if (other->spec().name() == runner.spec().name()) return true;
  }
  return false;
}

// Takes waiting workers from younger jobs, if that is enough for this one. They come back as idle ones.
bool Scheduler::YieldFor(size_t index, size_t wanted, size_t idle) {
  const auto free_of = [](const JobRunner& runner) -> size_t {
    if (runner.machine().WorkersWanted() == 0) return 0;
    const Gang& gang = runner.machine().gang();
    size_t free = 0;
    for (int rank = 0; rank < gang.ranks(); ++rank) {
      if (gang.slot(rank).has_value() && gang.slot(rank)->member == Gang::Member::kFree) ++free;
    }
    return free;
  };
  size_t available = idle;
  for (size_t younger = index + 1; younger < runners_.size(); ++younger) available += free_of(*runners_[younger]);
  if (available < wanted) return false;
  const Runners runners = runners_;
  for (size_t younger = runners.size() - 1; younger > index && idle < wanted; --younger) {
    const size_t free = free_of(*runners[younger]);
    if (free == 0) continue;
    runners[younger]->OnYieldWorkers();
    idle += free;
  }
  return true;
}

// As many idle workers as the job wants, for its free ranks in order. A whole gang is placed host by host; what
// replaces lost workers is taken as it comes.
std::vector<WorkerRef> Scheduler::ChooseWorkers(const JobRunner& runner, const std::vector<WorkerRef>& idle) const {
  const size_t wanted = static_cast<size_t>(runner.machine().WorkersWanted());
  if (wanted != static_cast<size_t>(runner.mesh().size())) {
    return {idle.begin(), idle.begin() + static_cast<ptrdiff_t>(wanted)};
  }
  std::map<std::string, int> hosts;
  std::vector<int> host_of;
  for (const WorkerRef& worker : idle) {
    const std::optional<v1::MemberInfo> info = FindWorker(worker);
    const std::string host = info.has_value() && !info->host().id().empty() ? info->host().id() : worker.id;
    host_of.push_back(hosts.emplace(host, static_cast<int>(hosts.size())).first->second);
  }
  std::vector<WorkerRef> chosen;
  for (const int index : PlaceRanks(host_of, runner.mesh())) chosen.push_back(idle[static_cast<size_t>(index)]);
  return chosen;
}

// Of `idle` those that are of the kind (WorkerKind) that the job has already, or else of the first one that it may have
// and that has enough.
std::vector<WorkerRef> Scheduler::OfOneKind(const JobRunner& runner, const std::vector<WorkerRef>& idle,
                                            std::string* kinds) const {
  const auto kind_of = [this](const WorkerRef& worker) {
    const std::optional<v1::MemberInfo> info = FindWorker(worker);
    return info.has_value() ? WorkerKind(*info) : "";
  };
  const auto fits = [&](const WorkerRef& worker) {
    const std::optional<v1::MemberInfo> info = FindWorker(worker);
    return info.has_value() && MayRunOn(*info, runner.spec());
  };
  std::vector<std::pair<std::string, std::vector<WorkerRef>>> groups;
  for (const WorkerRef& worker : idle) {
    const std::string kind = kind_of(worker);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& entry) { return entry.first == kind; });
    if (group == groups.end()) group = groups.insert(groups.end(), {kind, {}});
    group->second.push_back(worker);
  }
  kinds->clear();
  for (const auto& [kind, workers] : groups) {
    absl::StrAppend(kinds, kinds->empty() ? "" : ", ", workers.size(), " ", kind);
  }
  const std::vector<WorkerRef> held = runner.machine().gang().workers();
  const std::string held_kind = held.empty() ? "" : kind_of(held.front());
  for (const auto& [kind, workers] : groups) {
    if (!held_kind.empty()
            ? kind == held_kind
            : fits(workers.front()) && workers.size() >= static_cast<size_t>(runner.machine().WorkersWanted())) {
      return workers;
    }
  }
  return {};
}

void Scheduler::OfferOrExplain(size_t index, std::vector<WorkerRef>* idle, std::string* ahead) {
  const std::shared_ptr<JobRunner> runner = runners_[index];
  const size_t wanted = static_cast<size_t>(runner->machine().WorkersWanted());
  if (wanted == 0) return;
  const int registered = RegisteredWorkers();
  const int idle_now = static_cast<int>(idle->size());
  // One that can't run at all for now holds up nobody.
  const bool could_run = LargestKind(runner->spec()) >= runner->machine().gang().ranks();
  if (OlderOfSameName(*runner)) {
    runner->OnWorkersShort(registered, idle_now, "an earlier job of this name is still being cleaned up");
    return;
  }
  if (!ahead->empty()) {
    runner->OnWorkersShort(registered, idle_now, absl::StrCat("job ", *ahead, " is ahead in the queue"));
    return;
  }
  if (idle->size() >= wanted || YieldFor(index, wanted, idle->size())) {
    if (idle->size() < wanted) {
      // Nobody overtakes it while what others have yielded comes back.
      *ahead = runner->spec().name();
      ScheduleSoon();
      return;
    }
    std::string kinds;
    const std::vector<WorkerRef> alike = OfOneKind(*runner, *idle, &kinds);
    if (alike.size() < wanted) {
      runner->OnWorkersShort(
          registered, idle_now,
          absl::StrCat(OnGpus(runner->spec()) ? "GPUs of" : "all of", " one kind, and idle are ", kinds));
      if (could_run) *ahead = runner->spec().name();
      return;
    }
    const std::vector<WorkerRef> offered = ChooseWorkers(*runner, alike);
    std::erase_if(*idle, [&](const WorkerRef& worker) {
      return std::find(offered.begin(), offered.end(), worker) != offered.end();
    });
    runner->OnWorkersOffered(offered);
    return;
  }
  runner->OnWorkersShort(registered, idle_now, could_run ? BusyDetail(*runner) : "");
  if (could_run) *ahead = runner->spec().name();
}

void Scheduler::Schedule() {
  std::vector<WorkerRef> idle = IdleWorkers();
  std::string ahead;
  for (size_t index = 0; index < runners_.size(); ++index) OfferOrExplain(index, &idle, &ahead);
}

}  // namespace penstock
