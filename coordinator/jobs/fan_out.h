// One request to each shard of a job, asked again where it failed for a reason that may pass, and one answer when all
// have answered or one has failed for good.
//
// Lives in the event loop, like whoever starts it: `send`, `on_wait` and `done` are called there. Kept alive by its own
// timers and calls; Cancel() makes sure that `done` isn't called any more.
#ifndef PENSTOCK_COORDINATOR_JOBS_FAN_OUT_H_
#define PENSTOCK_COORDINATOR_JOBS_FAN_OUT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "coordinator/jobs/event_loop.h"
#include "core/commit/backoff.h"
#include "services/base/clock.h"

namespace penstock {

template <typename Response>
class FanOut : public std::enable_shared_from_this<FanOut<Response>> {
 public:
  // Answers on any thread, once.
  using Reply = std::function<void(absl::StatusOr<Response>)>;
  struct Options {
    Loop* loop = nullptr;
    const Clock* clock = nullptr;
    // For messages.
    std::vector<std::string> shards;
    std::function<void(size_t shard, Reply reply)> send;
    // Attempts with each shard; 0: until it answers.
    int attempts_max = 0;
    std::function<bool(const absl::Status&)> is_transient = IsTransient;
    // A shard that fails for good counts as one that has answered with nothing.
    bool best_effort = false;
    BackoffOptions backoff;
    // May be empty. "params-1 (UNAVAILABLE: connection refused)": those that haven't answered, once one has failed.
    std::function<void(const std::string&)> on_wait;
    // The answers in shard order.
    std::function<void(absl::StatusOr<std::vector<Response>>)> done;
  };

  static std::shared_ptr<FanOut> Start(Options options) {
    std::shared_ptr<FanOut> fan_out(new FanOut(std::move(options)));
    for (size_t shard = 0; shard < fan_out->shards_.size(); ++shard) fan_out->Send(shard);
    if (fan_out->shards_.empty()) fan_out->End(std::vector<Response>());
    return fan_out;
  }

  void Cancel() { ended_ = true; }

 private:
  struct Shard {
    bool answered = false;
    int attempts = 0;
    Backoff backoff;
    absl::Status last_error;
    Response response;
  };

  explicit FanOut(Options options) : options_(std::move(options)), shards_(options_.shards.size()) {
    for (Shard& shard : shards_) shard.backoff = Backoff(options_.backoff);
  }

  void Send(size_t shard) {
    if (ended_) return;
    ++shards_[shard].attempts;
    options_.send(shard, [self = this->shared_from_this(), shard](absl::StatusOr<Response> reply) {
      self->options_.loop->Post([self, shard, reply = std::move(reply)] { self->OnReply(shard, reply); });
    });
  }

  void OnReply(size_t index, const absl::StatusOr<Response>& reply) {
    Shard& shard = shards_[index];
    if (ended_ || shard.answered) return;
    if (reply.ok()) {
      shard.response = *reply;
      shard.answered = true;
    } else if (options_.is_transient(reply.status()) &&
               (options_.attempts_max == 0 || shard.attempts < options_.attempts_max)) {
      shard.last_error = reply.status();
      options_.loop->PostAt(options_.clock->Monotonic() + shard.backoff.Next(),
                            [self = this->shared_from_this(), index] { self->Send(index); });
      if (options_.on_wait) options_.on_wait(WaitingFor());
      return;
    } else if (options_.best_effort) {
      shard.answered = true;
    } else {
      End(reply.status());
      return;
    }
    std::vector<Response> responses;
    for (const Shard& other : shards_) {
      if (!other.answered) return;
      responses.push_back(other.response);
    }
    End(std::move(responses));
  }

  std::string WaitingFor() const {
    std::string text;
    for (size_t shard = 0; shard < shards_.size(); ++shard) {
      if (shards_[shard].answered) continue;
      absl::StrAppend(&text, text.empty() ? "" : ", ", options_.shards[shard]);
      if (!shards_[shard].last_error.ok()) absl::StrAppend(&text, " (", shards_[shard].last_error.ToString(), ")");
    }
    return text;
  }

  void End(absl::StatusOr<std::vector<Response>> result) {
    ended_ = true;
    options_.done(std::move(result));
  }

  const Options options_;
  std::vector<Shard> shards_;
  bool ended_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_FAN_OUT_H_
