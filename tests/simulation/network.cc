#include "tests/simulation/network.h"

namespace penstock::simulation {

absl::Duration Network::Delay() {
  absl::Duration delay = random_.Between(faults_.delay_min, faults_.delay_max);
  if (random_.Chance(faults_.straggling)) delay += random_.Between(absl::ZeroDuration(), absl::Seconds(3));
  return delay;
}

void Network::RunIn(Node& node, uint64_t life, std::function<void()> run) {
  if (!node.alive || node.life != life) return;
  if (node.paused) {
    node.deferred.push_back([this, &node, life, run = std::move(run)] { RunIn(node, life, run); });
  } else {
    run();
  }
}

void Network::Resume(Node& node) {
  node.paused = false;
  std::vector<std::function<void()>> deferred;
  deferred.swap(node.deferred);
  for (std::function<void()>& run : deferred) run();
}

void Network::After(Node& node, absl::Duration delay, std::function<void()> run) {
  scheduler_.After(delay, [this, &node, life = node.life, run = std::move(run)] { RunIn(node, life, run); });
}

void Network::Send(Node& from, Node& to, std::function<void()> deliver) {
  if (!to.alive || !Connected(from, to) || random_.Chance(faults_.loss)) return;
  scheduler_.After(Delay(), [this, &to, life = to.life, deliver = std::move(deliver)] { RunIn(to, life, deliver); });
}

}  // namespace penstock::simulation
