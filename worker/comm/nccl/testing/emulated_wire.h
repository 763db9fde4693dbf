// Frames between the ranks of an emulated communicator, in any number of processes of one machine: every rank has a
// connection to a switch, which is a thread in the process that made the communicator's id.
#ifndef PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_WIRE_H_
#define PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace penstock::nccl_emulator {

enum class FrameKind : uint32_t {
  kHello,    // to the switch: number is the communicator's size
  kStart,    // from the switch: all ranks are there
  kConnect,  // number: a Link
  kReady,    // a receive that waits: number is its place among those from that peer
  kData,     // its message
  kPart,     // what a rank adds to a collective: number is its place among them
  kGone,     // `from` has gone
};

struct FrameHeader {
  FrameKind kind = FrameKind::kHello;
  int32_t from = 0;
  int32_t to = 0;
  uint32_t signature = 0;  // of a collective: its sort, type, operation and root
  uint64_t number = 0;
  uint64_t bytes = 0;       // of the operation
  uint64_t body_bytes = 0;  // that follow
};

struct Frame {
  FrameHeader header;
  std::vector<std::byte> body;
};

// Starts a switch and returns its port; 0 where that fails. It ends when its ranks have gone.
uint16_t StartSwitch();

// A rank's connection. Send is thread-safe.
class Wire {
 public:
  // `on_frame` is called by a thread of the object, for each frame; and with kGone from -1 when the switch has gone.
  Wire(uint16_t port, int rank, int size, std::function<void(Frame)> on_frame);
  // Ends the connection; no call of on_frame is under way afterwards.
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // A frame that can't be sent any more is dropped: what it was for is lost, too.
  void Send(FrameHeader header, const std::byte* body);

 private:
  const int rank_;
  int socket_ = -1;
  std::mutex mutex_;  // of sending
  std::thread reader_;
};

}  // namespace penstock::nccl_emulator

#endif  // PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_WIRE_H_
