// A member's stream to a coordinator: in order both ways, until it breaks; what is under way then is lost, and the
// member notices and comes back with a new one. The coordinator's end notices nothing: a paused coordinator that wakes
// up still sends its old commands, and they arrive.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "tests/simulation/network.h"

namespace penstock::simulation {

class Link : public std::enable_shared_from_this<Link> {
 public:
  // `on_broken` runs at the member's end.
  Link(Network& network, Node& member, Node& coordinator, std::function<void()> on_broken)
      : network_(network),
        member_(member),
        coordinator_(coordinator),
        member_life_(member.life),
        coordinator_life_(coordinator.life),
        on_broken_(std::move(on_broken)) {}

  bool broken() const { return broken_; }

  void Up(std::function<void()> deliver) {
    if (broken_) return;
    if (!coordinator_.alive || coordinator_.life != coordinator_life_ || Lost()) return Break();
    up_at_ = Later(up_at_);
    network_.scheduler().At(up_at_, [self = shared_from_this(), deliver = std::move(deliver)] {
      if (!self->broken_) self->network_.RunIn(self->coordinator_, self->coordinator_life_, deliver);
    });
  }
  void Down(std::function<void()> deliver) {
    if (Lost()) return Break();
    down_at_ = Later(down_at_);
    network_.scheduler().At(down_at_, [self = shared_from_this(), deliver = std::move(deliver)] {
      self->network_.RunIn(self->member_, self->member_life_, deliver);
    });
  }
  void Break() {
    if (broken_) return;
    broken_ = true;
    network_.scheduler().After(absl::Milliseconds(20), [self = shared_from_this()] {
      self->network_.RunIn(self->member_, self->member_life_, self->on_broken_);
    });
  }

 private:
  // A stream rides on a connection that repeats what is lost: it breaks much less often than a datagram is dropped.
  bool Lost() {
    return !network_.Connected(member_, coordinator_) || network_.random().Chance(network_.faults().loss / 10);
  }
  absl::Time Later(absl::Time last) {
    const absl::Time arrival =
        network_.now() + network_.random().Between(network_.faults().delay_min, network_.faults().delay_max);
    return arrival > last ? arrival : last + absl::Nanoseconds(1);
  }

  Network& network_;
  Node& member_;
  Node& coordinator_;
  const uint64_t member_life_;
  const uint64_t coordinator_life_;
  const std::function<void()> on_broken_;
  bool broken_ = false;
  absl::Time up_at_ = absl::InfinitePast();
  absl::Time down_at_ = absl::InfinitePast();
};

}  // namespace penstock::simulation
