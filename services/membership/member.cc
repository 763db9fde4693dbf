#include "services/membership/member.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/base/host.h"
#include "services/base/log.h"
#include "services/rpc/channel.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Stream = grpc::ClientReaderWriter<v1::MemberReport, v1::MemberCommand>;

// Commands that wait for on_command. While it is full no command is read, and the coordinator's own queue fills.
constexpr size_t kCommandsMax = 1024;
// A stream without a Welcome is given up after this.
constexpr std::chrono::seconds kWelcomeMax(5);
// Stop() gives the coordinator so long to take what was sent, before the stream is cut.
constexpr std::chrono::milliseconds kCloseMax(300);
constexpr absl::Duration kHeartbeatIntervalMin = absl::Milliseconds(10);
constexpr absl::Duration kHeartbeatIntervalMax = absl::Seconds(60);

uint64_t RandomIncarnation() {
  std::random_device device;
  const uint64_t value = (static_cast<uint64_t>(device()) << 32) | device();
  return value == 0 ? 1 : value;
}

}  // namespace

struct Member::Impl {
  explicit Impl(Options member_options) : options(std::move(member_options)) {
    heartbeat_interval = options.heartbeat_interval;
    stub = v1::Membership::NewStub(CreateChannel(options.coordinator_address));
  }

  // What one stream needs; the reader thread and the writer share it.
  struct Connection {
    grpc::ClientContext context;
    std::unique_ptr<Stream> stream;
    // Guarded by the Impl's mutex.
    bool welcomed = false;
    bool ended = false;    // the reader has seen the stream's end
    bool closing = false;  // nothing is written any more
  };
  struct StreamEnd {
    absl::Status status;
    bool welcomed = false;
  };
  struct SentReport {
    v1::MemberReport report;
    SteadyClock::time_point time;
  };

  void RunStreams();
  StreamEnd RunStream();
  void ReadCommands(Connection& connection);
  bool WriteReports(Connection& connection);
  bool WriteNext(Connection& connection, SteadyClock::time_point& heartbeat_at);
  void CloseStream(Connection& connection, bool broken);
  v1::MemberReport MakeHello() const;
  v1::MemberReport MakeHeartbeat();
  void OnWelcome(Connection& connection, const v1::Welcome& welcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void RequeueSent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Refuse(const absl::Status& status);
  void DispatchCommands();
  void Stop();

  // Constant after construction.
  Options options;
  std::unique_ptr<v1::Membership::Stub> stub;
  std::thread stream_thread;
  std::thread dispatch_thread;

  // Used by the stream thread alone.
  uint64_t heartbeat_sequence = 0;

  std::mutex mutex;
  std::condition_variable changed;
  // Not handed to a stream yet.
  std::deque<v1::MemberReport> queue ABSL_GUARDED_BY(mutex);
  // Handed to the present stream, oldest first; only those of the last resend_window are kept.
  std::deque<SentReport> sent ABSL_GUARDED_BY(mutex);
  bool writing ABSL_GUARDED_BY(mutex) = false;
  std::deque<v1::MemberCommand> commands ABSL_GUARDED_BY(mutex);
  Connection* connection ABSL_GUARDED_BY(mutex) = nullptr;
  absl::Duration heartbeat_interval ABSL_GUARDED_BY(mutex);
  absl::Status refused ABSL_GUARDED_BY(mutex);
  bool stopping ABSL_GUARDED_BY(mutex) = false;
};

// ---- The stream: connect, write, come back ----

void Member::Impl::RunStreams() {
  absl::Duration delay = options.reconnect_delay;
  std::string last_error;
  while (true) {
    const StreamEnd end = RunStream();
    {
      std::lock_guard<std::mutex> lock(mutex);
      RequeueSent();
      if (stopping) return;
    }
    if (absl::IsAborted(end.status)) return Refuse(end.status);
    if (end.welcomed) delay = options.reconnect_delay;
    const std::string error(end.status.ToString());
    if (end.welcomed || error != last_error) {
      LogWarning("coordinator at {} is out of reach, trying again: {}", options.coordinator_address, error);
    }
    last_error = error;
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait_for(lock, absl::ToChronoNanoseconds(delay), [this] { return stopping; });
    if (stopping) return;
    delay = std::min(delay * 2, options.reconnect_delay_max);
  }
}

Member::Impl::StreamEnd Member::Impl::RunStream() {
  Connection here;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (stopping) return {absl::CancelledError("stopped"), false};
    connection = &here;
  }
  here.stream = stub->Join(&here.context);
  std::thread reader([&] { ReadCommands(here); });
  const bool intact = here.stream->Write(MakeHello()) && WriteReports(here);
  CloseStream(here, !intact);
  reader.join();
  const grpc::Status status = here.stream->Finish();
  std::lock_guard<std::mutex> lock(mutex);
  connection = nullptr;
  if (status.ok()) return {absl::UnavailableError("the coordinator ended the stream"), here.welcomed};
  return {ToAbslStatus(status), here.welcomed};
}

// Gives the coordinator time to take what was written, for a cancelled stream loses what the other side hasn't read;
// and time for its own last word to arrive, which a cancellation would cover (ABORTED).
void Member::Impl::CloseStream(Connection& here, bool broken) {
  std::unique_lock<std::mutex> lock(mutex);
  if (!broken && !here.ended) {
    lock.unlock();
    here.stream->WritesDone();
    lock.lock();
  }
  changed.wait_for(lock, kCloseMax, [&here] { return here.ended; });
  if (!here.ended) here.context.TryCancel();
  here.closing = true;
  changed.notify_all();
}

// False when the stream is broken; true when the member is stopped.
bool Member::Impl::WriteReports(Connection& here) {
  const SteadyClock::time_point started = SteadyClock::now();
  SteadyClock::time_point heartbeat_at = started;
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait_until(lock, heartbeat_at,
                         [&] { return here.ended || (stopping && queue.empty()) || !queue.empty(); });
      if (here.ended) return false;
      if (stopping && queue.empty()) return true;
      // A coordinator that takes the connection but says nothing is as good as away.
      if (!here.welcomed && SteadyClock::now() - started > kWelcomeMax) return true;
    }
    if (!WriteNext(here, heartbeat_at)) return false;
  }
}

// The heartbeat if it is due, else the next report. False when the stream is broken.
bool Member::Impl::WriteNext(Connection& here, SteadyClock::time_point& heartbeat_at) {
  const SteadyClock::time_point now = SteadyClock::now();
  if (now >= heartbeat_at) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      heartbeat_at = now + absl::ToChronoNanoseconds(heartbeat_interval);
    }
    return here.stream->Write(MakeHeartbeat());
  }
  v1::MemberReport report;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (queue.empty()) return true;
    report = std::move(queue.front());
    queue.pop_front();
    // Counts as sent from now on: whether a write that fails has arrived can't be known.
    const SteadyClock::time_point oldest = now - absl::ToChronoNanoseconds(options.resend_window);
    while (!sent.empty() && sent.front().time < oldest) sent.pop_front();
    sent.push_back({report, now});
    writing = true;
  }
  const bool written = here.stream->Write(report);
  {
    std::lock_guard<std::mutex> lock(mutex);
    writing = false;
  }
  changed.notify_all();
  return written;
}

v1::MemberReport Member::Impl::MakeHello() const {
  v1::MemberReport report;
  v1::Hello* hello = report.mutable_hello();
  *hello->mutable_info() = options.info;
  if (options.running) {
    if (std::optional<v1::RunningRank> running = options.running()) *hello->mutable_running() = *std::move(running);
  }
  return report;
}

v1::MemberReport Member::Impl::MakeHeartbeat() {
  v1::MemberReport report;
  report.mutable_heartbeat()->set_sequence(++heartbeat_sequence);
  if (options.cursor) *report.mutable_heartbeat()->mutable_cursor() = options.cursor();
  return report;
}

// What was sent in the last moments of a stream may not have arrived: it goes back to the front of the queue.
void Member::Impl::RequeueSent() {
  const SteadyClock::time_point oldest = SteadyClock::now() - absl::ToChronoNanoseconds(options.resend_window);
  while (!sent.empty() && sent.front().time < oldest) sent.pop_front();
  for (; !sent.empty(); sent.pop_back()) queue.push_front(std::move(sent.back().report));
}

void Member::Impl::Refuse(const absl::Status& status) {
  LogError("the coordinator refused this process for good: {}", status);
  {
    std::lock_guard<std::mutex> lock(mutex);
    refused = status;
    queue.clear();
  }
  changed.notify_all();
  if (options.on_refused) options.on_refused(status);
}

// ---- Commands: read, hand out ----

void Member::Impl::ReadCommands(Connection& here) {
  v1::MemberCommand command;
  while (here.stream->Read(&command)) {
    std::unique_lock<std::mutex> lock(mutex);
    if (command.has_welcome()) OnWelcome(here, command.welcome());
    changed.wait(lock, [&] { return here.closing || stopping || commands.size() < kCommandsMax; });
    if (here.closing || stopping) continue;  // reads on to the stream's end
    commands.push_back(std::move(command));
    changed.notify_all();
  }
  std::lock_guard<std::mutex> lock(mutex);
  here.ended = true;
  changed.notify_all();
}

void Member::Impl::OnWelcome(Connection& here, const v1::Welcome& welcome) {
  here.welcomed = true;
  if (welcome.has_heartbeat_interval()) {
    const absl::Duration asked =
        absl::Seconds(welcome.heartbeat_interval().seconds()) + absl::Nanoseconds(welcome.heartbeat_interval().nanos());
    heartbeat_interval = std::clamp(asked, kHeartbeatIntervalMin, kHeartbeatIntervalMax);
  }
}

void Member::Impl::DispatchCommands() {
  while (true) {
    v1::MemberCommand command;
    {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [this] { return stopping || !commands.empty(); });
      if (stopping) return;
      command = std::move(commands.front());
      commands.pop_front();
    }
    changed.notify_all();
    options.on_command(command);
  }
}

void Member::Impl::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    // A stream that was never welcomed may be stuck connecting.
    if (connection != nullptr && !connection->welcomed) connection->context.TryCancel();
  }
  changed.notify_all();
  // A write that is stuck (the coordinator's host vanished) ends when the stream is cut.
  {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait_for(lock, kCloseMax, [this] { return connection == nullptr; });
    if (connection != nullptr) connection->context.TryCancel();
  }
  if (stream_thread.joinable()) stream_thread.join();
  if (dispatch_thread.joinable()) dispatch_thread.join();
}

// ---- The public face ----

absl::StatusOr<std::unique_ptr<Member>> Member::Start(Options options) {
  if (options.coordinator_address.empty()) return absl::InvalidArgumentError("a member needs a coordinator's address");
  if (options.info.id().empty()) return absl::InvalidArgumentError("a member needs an id");
  if (options.info.role() == v1::MEMBER_ROLE_UNSPECIFIED) return absl::InvalidArgumentError("a member needs a role");
  if (!options.on_command) return absl::InvalidArgumentError("a member needs an on_command");
  if (options.info.incarnation() == 0) options.info.set_incarnation(RandomIncarnation());
  if (options.info.pid() == 0) options.info.set_pid(getpid());
  if (!options.info.has_host()) {
    const Host host = ThisHost();
    options.info.mutable_host()->set_id(host.id);
    options.info.mutable_host()->set_cores(static_cast<uint32_t>(host.cores));
    options.info.mutable_host()->set_memory_bytes(static_cast<uint64_t>(host.memory_bytes));
  }
  auto impl = std::make_unique<Impl>(std::move(options));
  Impl* running = impl.get();
  std::unique_ptr<Member> member(new Member(std::move(impl)));
  running->stream_thread = std::thread([running] { running->RunStreams(); });
  running->dispatch_thread = std::thread([running] { running->DispatchCommands(); });
  return member;
}

Member::Member(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Member::~Member() { Stop(); }
void Member::Stop() { impl_->Stop(); }

absl::Status Member::Report(v1::MemberReport report) {
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    if (!impl_->refused.ok()) return impl_->refused;
    if (impl_->stopping) return absl::CancelledError("the member was stopped");
    if (impl_->queue.size() >= impl_->options.reports_max) {
      return absl::ResourceExhaustedError(absl::StrCat("the coordinator is away and ", impl_->queue.size(),
                                                       " reports wait for it: no room for another"));
    }
    impl_->queue.push_back(std::move(report));
  }
  impl_->changed.notify_all();
  return absl::OkStatus();
}

bool Member::Flush(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(impl_->mutex);
  return impl_->changed.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                                 [this] { return impl_->queue.empty() && !impl_->writing; });
}

bool Member::WaitConnected(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(impl_->mutex);
  return impl_->changed.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                                 [this] { return impl_->connection != nullptr && impl_->connection->welcomed; });
}

bool Member::connected() const {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->connection != nullptr && impl_->connection->welcomed;
}

uint64_t Member::incarnation() const { return impl_->options.info.incarnation(); }

}  // namespace penstock
