#include "coordinator/membership/lease_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

absl::Status CheckInfo(const v1::MemberInfo& info) {
  if (info.id().empty() || info.id().size() > kMemberIdBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a member's id has 1 to ", kMemberIdBytesMax, " bytes"));
  }
  if (info.role() != v1::MEMBER_ROLE_WORKER && info.role() != v1::MEMBER_ROLE_SHARD) {
    return absl::InvalidArgumentError(absl::StrCat(info.id(), ": a member is a worker or a shard"));
  }
  if (info.incarnation() == 0) return absl::InvalidArgumentError(absl::StrCat(info.id(), ": incarnation 0 is none"));
  if (info.address().empty()) return absl::InvalidArgumentError(absl::StrCat(info.id(), ": an address is missing"));
  return absl::OkStatus();
}

}  // namespace

LeaseTable::Lost LeaseTable::MakeLost(const Member& member, std::string reason) const {
  return {member.info.role(), member.info.id(), member.info.incarnation(),
          std::move(reason),  member.cursor,    std::nullopt};
}

void LeaseTable::Refuse(const Process& process) {
  refused_.push_back(process);
  if (refused_.size() > kRefusedIncarnationsMax) refused_.pop_front();
}

absl::StatusOr<LeaseTable::Joined> LeaseTable::OnHello(uint64_t stream, const v1::MemberInfo& info, absl::Time now) {
  PENSTOCK_RETURN_IF_ERROR(CheckInfo(info));
  if (std::find(refused_.begin(), refused_.end(), Process(info.id(), info.incarnation())) != refused_.end()) {
    return absl::AbortedError(absl::StrCat(info.id(), ": another process has taken this one's place"));
  }
  Joined joined;
  const auto found = members_.find(info.id());
  if (found == members_.end()) {
    if (members_.size() >= kMembersMax) {
      return absl::ResourceExhaustedError(absl::StrCat("the cluster has ", kMembersMax, " members already"));
    }
    joined.is_new = true;
  } else {
    Member& old = found->second;
    if (!old.lost && old.info.role() != info.role()) {
      return absl::AlreadyExistsError(absl::StrCat("the id ", info.id(), " belongs to a member with another role"));
    }
    joined.is_new = old.lost || old.info.incarnation() != info.incarnation();
    if (old.info.incarnation() == info.incarnation()) {
      if (old.stream != 0) joined.superseded_stream = old.stream;
    } else {
      Refuse({old.info.id(), old.info.incarnation()});
      if (old.stream != 0) joined.refused_stream = old.stream;
      if (!old.lost) {
        joined.lost = MakeLost(
            old, absl::StrCat("another process took its place (pid ", info.pid(), " after ", old.info.pid(), ")"));
      }
    }
    streams_.erase(old.stream);
    std::erase(lost_, info.id());
  }
  Member& member = members_[info.id()];
  if (joined.is_new) member.cursor.Clear();
  member.info = info;
  member.stream = stream;
  member.heard_at = now;
  member.lost = false;
  member.stream_end.clear();
  streams_[stream] = info.id();
  return joined;
}

const LeaseTable::Member* LeaseTable::OnHeard(uint64_t stream, absl::Time now) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return nullptr;
  Member& member = members_.at(found->second);
  // Reports are handed in one after the other, but the time is of their arrival.
  member.heard_at = std::max(member.heard_at, now);
  return &member;
}

void LeaseTable::OnCursor(uint64_t stream, const v1::Cursor& cursor) {
  const auto found = streams_.find(stream);
  if (found != streams_.end()) members_.at(found->second).cursor = cursor;
}

const LeaseTable::Member* LeaseTable::OnStreamEnd(uint64_t stream, const std::string& reason) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return nullptr;
  Member& member = members_.at(found->second);
  member.stream = 0;
  member.stream_end = reason;
  streams_.erase(found);
  return &member;
}

LeaseTable::Lost LeaseTable::Lose(Member& member, std::string reason) {
  Lost lost = MakeLost(member, std::move(reason));
  if (member.stream != 0) lost.stream = member.stream;
  streams_.erase(member.stream);
  member.stream = 0;
  member.lost = true;
  lost_.push_back(member.info.id());
  return lost;
}

std::optional<LeaseTable::Lost> LeaseTable::OnGone(const std::string& id, uint64_t incarnation) {
  if (const Member* const living = FindLiving(id, incarnation); living == nullptr || living->stream != 0) {
    return std::nullopt;
  }
  Member& member = members_.at(id);
  Lost lost = Lose(member, absl::StrCat(member.stream_end, "; nobody listens at ", member.info.address(), " any more"));
  ForgetLost();
  return lost;
}

std::optional<uint64_t> LeaseTable::Evict(const std::string& id, uint64_t incarnation) {
  const auto found = members_.find(id);
  if (found == members_.end() || found->second.info.incarnation() != incarnation) return std::nullopt;
  Refuse({id, incarnation});
  const uint64_t stream = found->second.stream;
  streams_.erase(stream);
  std::erase(lost_, id);
  members_.erase(found);
  return stream == 0 ? std::nullopt : std::optional<uint64_t>(stream);
}

std::vector<LeaseTable::Lost> LeaseTable::OnTick(absl::Time now) {
  std::vector<Lost> lost;
  for (auto& [id, member] : members_) {
    if (member.lost || now < member.heard_at + lease_) continue;
    lost.push_back(Lose(member, absl::StrCat(member.stream == 0 ? member.stream_end : "silent",
                                             "; lease expired after ", absl::FormatDuration(lease_))));
  }
  ForgetLost();
  return lost;
}

void LeaseTable::ForgetLost() {
  while (lost_.size() > kLostMembersMax) {
    members_.erase(lost_.front());
    lost_.pop_front();
  }
}

absl::Time LeaseTable::NextTick() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, member] : members_) {
    if (!member.lost) next = std::min(next, member.heard_at + lease_);
  }
  return next;
}

const LeaseTable::Member* LeaseTable::Find(const std::string& id) const {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : &found->second;
}

const LeaseTable::Member* LeaseTable::FindLiving(const std::string& id, uint64_t incarnation) const {
  const Member* const member = Find(id);
  return member != nullptr && !member->lost && member->info.incarnation() == incarnation ? member : nullptr;
}

bool MemberIdLess(const std::string& a, const std::string& b) {
  const auto split = [](const std::string& id) {
    size_t digits = id.size();
    while (digits > 0 && id.size() - digits < 18 && absl::ascii_isdigit(static_cast<unsigned char>(id[digits - 1]))) {
      --digits;
    }
    return std::pair(id.substr(0, digits), digits == id.size() ? uint64_t{0} : std::stoull(id.substr(digits)));
  };
  const auto key_a = split(a);
  const auto key_b = split(b);
  return key_a != key_b ? key_a < key_b : a < b;
}

}  // namespace penstock
