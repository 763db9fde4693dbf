#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/layout/shard_ranges.h"
#include "services/base/clock.h"
#include "services/parameter/client.h"
#include "services/parameter/limits.h"
#include "services/parameter/thread_pool.h"

namespace penstock {
namespace {

// A network slower than this isn't waited for.
constexpr double kBytesPerSecondMin = 8e6;
// A chunk that arrives damaged is sent again, but not for ever: the memory may be at fault, not the network.
constexpr int kDataLossMax = 3;

bool ShardIsAway(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) || absl::IsAborted(status);
}

// The part of a range that one shard has, or that is still to come.
PushRange PartOf(const PushRange& whole, const ElementRange& part) {
  PushRange result = whole;
  result.range = part;
  result.data += part.begin - whole.range.begin;
  return result;
}
PullRange PartOf(const PullRange& whole, const ElementRange& part) {
  PullRange result = whole;
  result.range = part;
  if (whole.rounded != nullptr) {
    result.rounded += part.begin - whole.range.begin;
  } else {
    result.data += part.begin - whole.range.begin;
  }
  return result;
}

template <typename Range>
uint64_t BytesOf(std::span<const Range> ranges) {
  uint64_t elements = 0;
  for (const Range& range : ranges) elements += range.range.size();
  return elements * sizeof(float);
}

}  // namespace

struct ParameterClient::Impl {
  Impl(Options client_options, ShardRanges shard_ranges)
      : options(std::move(client_options)),
        ranges(shard_ranges),
        pool(2 * static_cast<int>(options.shards.size() - 1)) {
    for (size_t i = 0; i < options.shards.size(); ++i) {
      shards.push_back(std::make_unique<ShardClient>(absl::StrCat("shard ", i), options.shards[i]));
    }
  }

  // One attempt, with its deadline; the calls of one operation share a group of their own.
  using Attempt = std::function<absl::Status(const CallOptions&)>;
  absl::Status Retry(CallGroup& group, absl::Duration attempt_timeout, absl::Time deadline, const Attempt& attempt);
  // Runs work(shard, part) for every shard that has a part in `requested`, side by side. The first that fails ends the
  // others.
  template <typename Range>
  absl::Status ForEachShard(std::span<const Range> requested,
                            const std::function<absl::Status(int, std::vector<Range>&, CallGroup&)>& work);
  template <typename Range>
  absl::StatusOr<std::vector<std::vector<Range>>> Cut(std::span<const Range> requested) const;

  // Constant after construction.
  const Options options;
  const ShardRanges ranges;
  std::vector<std::unique_ptr<ShardClient>> shards;

  // Self-synchronised. Two operations at a time have a thread for each shard.
  CallGroup group;
  ThreadPool pool;

  std::mutex mutex;
  // Of the operations under way.
  std::set<CallGroup*> operations ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<std::unique_ptr<ParameterClient>> ParameterClient::Create(Options options) {
  PENSTOCK_ASSIGN_OR_RETURN(const ShardRanges ranges, ShardRanges::Create(options.elements, options.shards.size()));
  return std::unique_ptr<ParameterClient>(new ParameterClient(std::make_unique<Impl>(std::move(options), ranges)));
}

ParameterClient::ParameterClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ParameterClient::~ParameterClient() {
  Cancel("the client is gone");
  impl_->shards.clear();  // waits for asynchronous calls, which use the group
}

int ParameterClient::shard_count() const { return static_cast<int>(impl_->shards.size()); }
ShardClient& ParameterClient::shard(int index) { return *impl_->shards[index]; }
CallGroup& ParameterClient::group() { return impl_->group; }

void ParameterClient::Cancel(const std::string& reason) {
  impl_->group.Cancel(reason);
  std::lock_guard<std::mutex> lock(impl_->mutex);
  for (CallGroup* operation : impl_->operations) operation->Cancel(reason);
}

template <typename Range>
absl::StatusOr<std::vector<std::vector<Range>>> ParameterClient::Impl::Cut(std::span<const Range> requested) const {
  std::vector<std::vector<Range>> parts(shards.size());
  for (const Range& range : requested) {
    if (range.range.empty()) continue;
    if (range.range.begin < 0 || range.range.end > ranges.elements()) {
      return absl::OutOfRangeError(
          absl::StrCat("elements ", range.range.ToString(), " aren't within the job's ", ranges.elements()));
    }
    for (const ShardPart& part : ranges.Cut(range.range)) {
      parts[part.shard].push_back(PartOf(range, part.range));
    }
  }
  return parts;
}

template <typename Range>
absl::Status ParameterClient::Impl::ForEachShard(
    std::span<const Range> requested, const std::function<absl::Status(int, std::vector<Range>&, CallGroup&)>& work) {
  PENSTOCK_ASSIGN_OR_RETURN(std::vector<std::vector<Range>> parts, Cut(requested));
  std::vector<int> asked;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].empty()) asked.push_back(static_cast<int>(i));
  }
  CallGroup operation;
  {
    std::lock_guard<std::mutex> lock(mutex);
    // Either Cancel() comes later and finds the operation here, or it came earlier and shows in the group.
    operations.insert(&operation);
  }
  if (group.cancelled()) operation.Cancel();
  std::mutex first_mutex;
  absl::Status first;
  pool.ParallelFor(asked.size(), [&](int64_t i) {
    const absl::Status status = work(asked[i], parts[asked[i]], operation);
    if (status.ok()) return;
    {
      std::lock_guard<std::mutex> lock(first_mutex);
      if (first.ok()) first = status;
    }
    operation.Cancel("another shard failed");
  });
  {
    std::lock_guard<std::mutex> lock(mutex);
    operations.erase(&operation);
  }
  return group.cancelled() ? group.status() : first;
}

absl::Status ParameterClient::Impl::Retry(CallGroup& operation, absl::Duration attempt_timeout, absl::Time deadline,
                                          const Attempt& attempt) {
  const Clock* clock = Clock::Real();
  absl::Duration delay = options.retry_delay;
  absl::Time away_since = absl::InfiniteFuture();
  int damaged = 0;
  while (true) {
    const absl::Time now = clock->Monotonic();
    CallOptions call;
    call.timeout = std::max(absl::Milliseconds(1), std::min(attempt_timeout, deadline - now));
    call.group = &operation;
    const absl::Status status = attempt(call);
    if (status.ok() || operation.cancelled()) return status;
    const absl::Time ended = clock->Monotonic();
    if (ended >= deadline) {
      return absl::Status(status.code(), absl::StrCat(status.message(), "; given up after ",
                                                      absl::FormatDuration(options.total_timeout)));
    }
    if (absl::IsDeadlineExceeded(status)) {
      // The shard lives and has nothing for us yet: ask again at once.
      away_since = absl::InfiniteFuture();
      continue;
    }
    const bool again = ShardIsAway(status) || (absl::IsDataLoss(status) && ++damaged < kDataLossMax);
    if (!again) return status;
    if (away_since == absl::InfiniteFuture()) {
      away_since = now;
      delay = options.retry_delay;
    }
    if (ended - away_since > options.unavailable_timeout) {
      return absl::Status(status.code(), absl::StrCat(status.message(), "; given up after ",
                                                      absl::FormatDuration(options.unavailable_timeout)));
    }
    if (operation.WaitCancelled(std::min(delay, deadline - ended))) return operation.status();
    delay = std::min(delay * 2, options.retry_delay_max);
  }
}

absl::Status ParameterClient::Push(uint64_t step, std::span<const PushRange> ranges) {
  const absl::Time deadline = Clock::Real()->Monotonic() + impl_->options.total_timeout;
  return impl_->ForEachShard<PushRange>(ranges, [&](int shard, std::vector<PushRange>& part, CallGroup& operation) {
    const absl::Duration transfer = absl::Seconds(static_cast<double>(BytesOf<PushRange>(part)) / kBytesPerSecondMin);
    return impl_->Retry(operation, impl_->options.attempt_timeout + transfer, deadline, [&](const CallOptions& call) {
      return impl_->shards[shard]->Push(impl_->options.job_id, impl_->options.epoch, step, part, call);
    });
  });
}

namespace {

// Drops the first `received` elements: they are in place.
void Advance(std::vector<PullRange>& ranges, uint64_t received) {
  size_t whole = 0;
  while (whole < ranges.size() && received >= static_cast<uint64_t>(ranges[whole].range.size())) {
    received -= ranges[whole++].range.size();
  }
  ranges.erase(ranges.begin(), ranges.begin() + whole);
  if (ranges.empty()) return;
  const ElementRange& first = ranges[0].range;
  ranges[0] = PartOf(ranges[0], {first.begin + static_cast<int64_t>(received), first.end});
}

}  // namespace

absl::Status ParameterClient::Pull(uint64_t version, std::span<const PullRange> ranges) {
  return Pull(version, ranges, impl_->options.total_timeout);
}

absl::Status ParameterClient::Pull(uint64_t version, std::span<const PullRange> ranges, absl::Duration total_timeout) {
  const absl::Time deadline = Clock::Real()->Monotonic() + total_timeout;
  return impl_->ForEachShard<PullRange>(ranges, [&](int shard, std::vector<PullRange>& part, CallGroup& operation) {
    const absl::Duration transfer = absl::Seconds(static_cast<double>(BytesOf<PullRange>(part)) / kBytesPerSecondMin);
    return impl_->Retry(
        operation, impl_->options.attempt_timeout + transfer, deadline, [&](const CallOptions& call) -> absl::Status {
          if (part.empty()) return absl::OkStatus();
          uint64_t received = 0;
          // One request holds a bounded number of ranges.
          const size_t asked = std::min<size_t>(part.size(), kPullRangesMax);
          const absl::Status status = impl_->shards[shard]->Pull(impl_->options.job_id, impl_->options.epoch, version,
                                                                 std::span(part).first(asked), call, &received);
          Advance(part, received);
          if (!status.ok() || part.empty()) return status;
          return absl::DeadlineExceededError("ranges are left to ask for");
        });
  });
}

absl::Status ParameterClient::AwaitVersion(uint64_t version, std::span<const ElementRange> ranges,
                                           absl::Duration total_timeout) {
  // One element of each shard: a pull of a version waits for its commit.
  std::map<int, float> values;
  std::vector<PullRange> probes;
  for (const ElementRange& range : ranges) {
    for (const ShardPart& part : impl_->ranges.Cut(range)) {
      const auto [value, first] = values.try_emplace(part.shard, 0.0f);
      if (first) probes.push_back({{part.range.begin, part.range.begin + 1}, &value->second});
    }
  }
  return Pull(version, probes, total_timeout);
}

}  // namespace penstock
