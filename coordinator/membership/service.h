// The server's side of the members' streams (Membership.Join). It only carries: what a member says goes to the
// listener, with the time at which it arrived; commands wait in a queue for each stream.
//
// Thread-safe. A member that doesn't read costs its own queue and nothing else: a stream with more than kCommandsMax
// commands waiting is cut, and the member comes back.
#ifndef PENSTOCK_COORDINATOR_MEMBERSHIP_SERVICE_H_
#define PENSTOCK_COORDINATOR_MEMBERSHIP_SERVICE_H_

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/base/clock.h"

namespace penstock {

// Commands that wait for one member.
inline constexpr size_t kCommandsMax = 256;
inline constexpr size_t kStreamsMax = 16384;

// Called on gRPC's threads; must not block. Of one stream in order, OnEnd last and exactly once.
class MembershipListener {
 public:
  virtual ~MembershipListener() = default;
  // `arrived`: on the monotonic clock.
  virtual void OnReport(uint64_t stream, v1::MemberReport report, absl::Time arrived) = 0;
  virtual void OnEnd(uint64_t stream, const std::string& reason) = 0;
};

// What the scheduler does to streams. Thread-safe; does nothing to a stream that is gone.
class MemberStreams {
 public:
  virtual ~MemberStreams() = default;
  virtual void Send(uint64_t stream, const v1::MemberCommand& command) = 0;
  // Ends it after what was sent before. `status` isn't OK: ABORTED keeps the process away, UNAVAILABLE lets it come
  // back.
  virtual void End(uint64_t stream, const absl::Status& status) = 0;
};

class MembershipService final : public v1::Membership::WithCallbackMethod_Join<v1::Membership::Service>,
                                public MemberStreams {
 public:
  // Both outlive the service.
  MembershipService(MembershipListener* listener, const Clock* clock) : listener_(listener), clock_(clock) {}
  ~MembershipService() override;

  grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand>* Join(grpc::CallbackServerContext* context) override;

  void Send(uint64_t stream, const v1::MemberCommand& command) override;
  void End(uint64_t stream, const absl::Status& status) override;
  // Ends all streams, and refuses new ones.
  void EndAll(const absl::Status& status);

 private:
  class Stream;
  void Forget(uint64_t stream);
  std::shared_ptr<Stream> Find(uint64_t stream);

  MembershipListener* const listener_;
  const Clock* const clock_;

  std::mutex mutex_;
  std::condition_variable empty_;
  std::map<uint64_t, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_stream_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_MEMBERSHIP_SERVICE_H_
