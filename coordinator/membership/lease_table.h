// Who is in the cluster: the leases of workers and shards. A pure state machine: what the streams say and the time go
// in, who is lost comes out. The server around it (service.h) owns the streams, which are numbers here.
//
// A member is one process: an id ("worker-2") and an incarnation. Its stream may break and come back within the lease;
// anything it says renews the lease. It is lost when the lease ends, when its stream has broken and its host says that the
// process is gone, or when another process says Hello with its id: the newest one has the place, and the older
// incarnation is refused for good. A lost member that comes back as the same process is a member again.
//
// Not thread-safe: a part of the scheduler, driven by its event loop. Times are on one monotonic axis.
#ifndef PENSTOCK_COORDINATOR_MEMBERSHIP_LEASE_TABLE_H_
#define PENSTOCK_COORDINATOR_MEMBERSHIP_LEASE_TABLE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// Members known at once, lost ones included.
inline constexpr size_t kMembersMax = 8192;
// Lost members that are still listed; the ones that were lost first are forgotten first.
inline constexpr size_t kLostMembersMax = 64;
// Incarnations that are remembered as refused.
inline constexpr size_t kRefusedIncarnationsMax = 4096;
inline constexpr size_t kMemberIdBytesMax = 128;
static_assert(kLostMembersMax < kMembersMax);

class LeaseTable {
 public:
  struct Member {
    v1::MemberInfo info;
    // 0: no stream now.
    uint64_t stream = 0;
    // When it last said something.
    absl::Time heard_at;
    bool lost = false;
    // Why its last stream ended; empty while it has one.
    std::string stream_end;
    // Of the last heartbeat.
    v1::Cursor cursor;
  };
  // A member that is no more.
  struct Lost {
    v1::MemberRole role = v1::MEMBER_ROLE_UNSPECIFIED;
    std::string id;
    uint64_t incarnation = 0;
    // "connection closed; lease expired after 2s".
    std::string reason;
    // What it last said that it was doing.
    v1::Cursor cursor;
    // The stream that a silent member still has: to be ended, so that the process says Hello again should it wake up.
    std::optional<uint64_t> stream;
  };
  struct Joined {
    // False: a stream of a process that was a member already.
    bool is_new = false;
    // The same process's older stream: nothing that it still says counts. To be ended.
    std::optional<uint64_t> superseded_stream;
    // The stream of the process whose place was taken: to be ended with ABORTED.
    std::optional<uint64_t> refused_stream;
    std::optional<Lost> lost;
  };

  explicit LeaseTable(absl::Duration lease) : lease_(lease) {}

  // ABORTED: this incarnation was replaced or evicted. INVALID_ARGUMENT: no id, role, incarnation or address.
  // ALREADY_EXISTS: a living member with another role has the id. RESOURCE_EXHAUSTED: too many members.
  absl::StatusOr<Joined> OnHello(uint64_t stream, const v1::MemberInfo& info, absl::Time now);
  // Whatever a stream said after its Hello. The member, or null when the stream isn't a member's (any more).
  const Member* OnHeard(uint64_t stream, absl::Time now);
  void OnCursor(uint64_t stream, const v1::Cursor& cursor);
  // `reason`: "connection closed". The living member that has no stream now, or null.
  const Member* OnStreamEnd(uint64_t stream, const std::string& reason);
  // Nobody listens any more where the process served. Lost, unless it has a stream (again) or is no member any more.
  std::optional<Lost> OnGone(const std::string& id, uint64_t incarnation);
  // The member is of no use any more: forgotten and refused from now on. Its stream, if it has one.
  std::optional<uint64_t> Evict(const std::string& id, uint64_t incarnation);
  // Those whose lease has ended.
  std::vector<Lost> OnTick(absl::Time now);
  absl::Time NextTick() const;

  // The living or lost member with this id, or null.
  const Member* Find(const std::string& id) const;
  // The living member with this id and incarnation, or null.
  const Member* FindLiving(const std::string& id, uint64_t incarnation) const;
  const std::map<std::string, Member>& members() const { return members_; }
  absl::Duration lease() const { return lease_; }

 private:
  using Process = std::pair<std::string, uint64_t>;

  Lost MakeLost(const Member& member, std::string reason) const;
  // A living member from now on lost.
  Lost Lose(Member& member, std::string reason);
  void Refuse(const Process& process);
  void ForgetLost();

  const absl::Duration lease_;
  std::map<std::string, Member> members_;
  // Id of the member of each living stream.
  std::map<uint64_t, std::string> streams_;
  // Ids of lost members, first lost first.
  std::deque<std::string> lost_;
  std::deque<Process> refused_;
};

// Before by number where ids differ in a number at the end: "params-2" before "params-10".
bool MemberIdLess(const std::string& a, const std::string& b);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_MEMBERSHIP_LEASE_TABLE_H_
