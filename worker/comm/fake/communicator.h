// Communicators between threads of one process, with the semantics of the real ones: a send moves data when the
// receiver has posted its buffer, a destroyed endpoint looks like a killed process, sizes are checked.
//
//   auto network = std::make_shared<FakeNetwork>(4);
//   std::unique_ptr<Communicator> comm = network->Join(rank, {.wait_timeout = absl::Seconds(5)});
#ifndef PENSTOCK_WORKER_COMM_FAKE_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_FAKE_COMMUNICATOR_H_

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/connector.h"

namespace penstock {

// Thread-safe.
class FakeNetwork : public std::enable_shared_from_this<FakeNetwork> {
 public:
  struct Options {
    absl::Duration wait_timeout = absl::Seconds(10);
  };

  explicit FakeNetwork(int size);

  int size() const { return size_; }
  // Each rank once.
  std::unique_ptr<Communicator> Join(int rank, Options options);
  // As if the rank's process had been killed: its peers' transfers with it fail, now and later.
  void Kill(int rank);

 private:
  friend class FakeCommunicator;
  friend class FakeTransfer;

  struct Message {
    const int from;
    const int to;
    const bool send;
    // Guarded by mutex_.
    absl::Span<const std::byte> source = {};
    absl::Span<std::byte> target = {};
    bool done = false;
    absl::Status status = {};
  };
  using Queue = std::deque<std::shared_ptr<Message>>;
  struct Lane {
    Queue sends;
    Queue receives;
  };

  void Post(Tag tag, const std::shared_ptr<Message>& message);
  absl::Status Wait(const Message& message, int self, absl::Duration timeout);
  void Abort(int rank, absl::Status reason);
  // Moves what both sides have posted in the lane. mutex_ is held.
  void Match(Lane& lane);
  // Ends all messages between `rank` and others. mutex_ is held.
  void CloseLocked(int rank);

  const int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::map<std::tuple<int, int, Tag>, Lane> lanes_;  // (from, to, tag)
  std::vector<bool> closed_;
  std::vector<absl::Status> aborted_;
};

// Waits until all ranks of the network have come, as a real connector does.
std::unique_ptr<Connector> MakeFakeConnector(std::shared_ptr<FakeNetwork> network, int rank,
                                             FakeNetwork::Options options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_FAKE_COMMUNICATOR_H_
