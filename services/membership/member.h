// A member's side of its one stream to the coordinator (Membership.Join): what workers and shards use to be known.
//
// A Member says Hello, sends heartbeats with the newest cursor at the interval that the coordinator asked for, hands in
// reports and hands out commands. When the stream breaks, or the coordinator is away, it comes back by itself with the
// same incarnation, for as long as it takes, with a back-off between named limits.
//
//   Member::Options options;
//   options.coordinator_address = "127.0.0.1:7000";
//   options.info = info;                              // role, id, address, ...; incarnation 0: one is drawn
//   options.on_command = [&](const v1::MemberCommand& command) { runtime.Post(command); };
//   options.cursor = [&] { return runtime.cursor(); };
//   options.running = [&] { return runtime.running(); };
//   PENSTOCK_ASSIGN_OR_RETURN(auto member, Member::Start(std::move(options)));
//   member->Report(report);
//
// Reports are delivered at least once and in order: those that were handed to a stream within `resend_window` before
// it broke are sent again on the next one, after its Hello. So whoever receives them takes a report twice without harm.
// They wait in a queue of at most `reports_max` while the coordinator is away.
//
// Thread-safe. Heartbeats go out on a thread of the Member's own, so nothing that the process computes holds them up;
// commands are handed out one by one on another, so a slow on_command delays the next command and no heartbeat.
#ifndef PENSTOCK_SERVICES_MEMBERSHIP_MEMBER_H_
#define PENSTOCK_SERVICES_MEMBERSHIP_MEMBER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

class Member {
 public:
  struct Options {
    std::string coordinator_address;
    // `incarnation` 0 is replaced by a random one, `pid` 0 by the process's own, `host` that isn't set by this machine.
    v1::MemberInfo info;

    // Assignments and stops. Welcome is dealt with by the Member and handed out too. Never called after Stop().
    std::function<void(const v1::MemberCommand&)> on_command;
    // For the Hello: what the member is running; nothing when it is idle. May be empty. Must not block.
    std::function<std::optional<v1::RunningRank>()> running;
    // For heartbeats. May be empty. Must not block.
    std::function<v1::Cursor()> cursor;
    // The coordinator refused this incarnation for good (ABORTED: the id was taken by a newer process). The Member
    // doesn't come back after that; the process should end. May be empty. Must not call Stop().
    std::function<void(const absl::Status&)> on_refused;

    // Until the coordinator's Welcome says otherwise.
    absl::Duration heartbeat_interval = absl::Milliseconds(250);
    absl::Duration reconnect_delay = absl::Milliseconds(50);
    absl::Duration reconnect_delay_max = absl::Seconds(1);
    absl::Duration resend_window = absl::Seconds(5);
    size_t reports_max = 65536;
  };

  // INVALID_ARGUMENT for a missing address, id, role or on_command. Returns at once; connects in the background.
  static absl::StatusOr<std::unique_ptr<Member>> Start(Options options);
  // Stops.
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  // Queues a report; returns at once. RESOURCE_EXHAUSTED when the queue is full: the report is dropped.
  // ABORTED once the coordinator has refused this incarnation; CANCELLED after Stop().
  absl::Status Report(v1::MemberReport report);

  // Waits until no report is queued (all were handed to a stream). For a clean exit: so that a last RankStopped is out.
  bool Flush(absl::Duration timeout);
  // Waits until the coordinator's Welcome has come on the present stream.
  bool WaitConnected(absl::Duration timeout);
  bool connected() const;
  uint64_t incarnation() const;

  // Ends the stream and all threads. Returns when on_command is not running any more; don't call it from there.
  void Stop();

 private:
  struct Impl;
  explicit Member(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_MEMBERSHIP_MEMBER_H_
