// Simulated processes and the network between them.
//
// A Node is a process: it lives, crashes (its life number grows; everything that was meant for the old life is lost)
// and may be paused (what happens to it waits until it is resumed: a process that was stopped and wakes up with old
// commands).
//
// The network delays, and while faults are on loses and duplicates what it carries; a message to a node in another
// partition group is lost. As over TCP, nothing that was sent to one life reaches the next one. Two shapes:
//   Send: one way, no order, no notice of loss.
//   Call: a remote procedure call. The caller always gets one answer, if only UNAVAILABLE or DEADLINE_EXCEEDED; the
//   request
//         may have taken effect all the same, even twice.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/sim_random.h"

namespace penstock::simulation {

struct Node {
  std::string name;
  bool alive = true;
  bool paused = false;
  uint64_t life = 1;
  int partition = 0;
  std::vector<std::function<void()>> deferred;
};

class Network {
 public:
  struct Faults {
    double loss = 0;
    double duplication = 0;
    absl::Duration delay_min = absl::Microseconds(200);
    absl::Duration delay_max = absl::Milliseconds(3);
    // Share of the messages that are much later than the others.
    double straggling = 0;
  };

  Network(Scheduler& scheduler, SimRandom& random) : scheduler_(scheduler), random_(random) {}

  Faults& faults() { return faults_; }
  Scheduler& scheduler() { return scheduler_; }
  SimRandom& random() { return random_; }
  absl::Time now() const { return scheduler_.now(); }

  void Crash(Node& node) {
    node.alive = false;
    node.paused = false;
    ++node.life;
    node.deferred.clear();
  }
  void Restart(Node& node) { node.alive = true; }
  void Resume(Node& node);

  // Runs `run` in the node if it still lives the given life; later if it is paused.
  void RunIn(Node& node, uint64_t life, std::function<void()> run);
  // A timer of the node.
  void After(Node& node, absl::Duration delay, std::function<void()> run);

  bool Connected(const Node& a, const Node& b) const { return a.partition == b.partition; }
  void Send(Node& from, Node& to, std::function<void()> deliver);

  template <typename Reply>
  using Answer = std::function<void(absl::StatusOr<Reply>)>;

  // `serve` runs at `to` with the function that answers; it may keep that and answer later.
  template <typename Reply>
  void Call(Node& from, Node& to, absl::Duration timeout, std::function<void(Answer<Reply>)> serve, Answer<Reply> done);

 private:
  absl::Duration Delay();

  Scheduler& scheduler_;
  SimRandom& random_;
  Faults faults_;
};

template <typename Reply>
void Network::Call(Node& from, Node& to, absl::Duration timeout, std::function<void(Answer<Reply>)> serve,
                   Answer<Reply> done) {
  // The caller's end of the call, alive until its one answer.
  auto waiting = std::make_shared<Answer<Reply>>(std::move(done));
  const uint64_t from_life = from.life;
  auto finish = [this, &from, from_life, waiting](absl::StatusOr<Reply> reply) {
    RunIn(from, from_life, [waiting, reply = std::move(reply)] {
      if (Answer<Reply> answer = std::exchange(*waiting, nullptr); answer) answer(reply);
    });
  };
  scheduler_.After(timeout, [finish] { finish(absl::DeadlineExceededError("no answer in time")); });
  if (!to.alive) {
    scheduler_.After(Delay(), [finish] { finish(absl::UnavailableError("connection refused")); });
    return;
  }
  const uint64_t to_life = to.life;
  const int copies = random_.Chance(faults_.duplication) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    if (!Connected(from, to) || random_.Chance(faults_.loss)) continue;
    scheduler_.After(Delay(), [this, &from, &to, to_life, serve, finish] {
      if (!to.alive || to.life != to_life) {
        scheduler_.After(Delay(), [finish] { finish(absl::UnavailableError("connection reset")); });
        return;
      }
      RunIn(to, to_life, [this, &from, &to, serve, finish] {
        serve([this, &from, &to, finish](absl::StatusOr<Reply> reply) {
          if (!Connected(from, to) || random_.Chance(faults_.loss)) return;
          scheduler_.After(Delay(), [finish, reply = std::move(reply)] { finish(reply); });
        });
      });
    });
  }
}

}  // namespace penstock::simulation
