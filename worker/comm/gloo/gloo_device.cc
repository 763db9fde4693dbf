#include "worker/comm/gloo/gloo_device.h"

#include <gloo/transport/tcp/attr.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/tcp/loop.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Whether a socket can be bound to `host`. Gloo finds out too, but leaks the addresses and names its own source.
absl::Status CheckLocalHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::string problem;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    problem = gai_strerror(error);
  }
  bool bound = false;
  for (const addrinfo* entry = found; entry != nullptr && !bound; entry = entry->ai_next) {
    const int fd = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bound = fd >= 0 && bind(fd, entry->ai_addr, entry->ai_addrlen) == 0;
    if (!bound) problem = std::system_category().message(errno);
    if (fd >= 0) close(fd);
  }
  if (found != nullptr) freeaddrinfo(found);
  if (bound) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("can't listen on ", host, " for other workers: ", problem,
                                                 "; it must be a name or address of this machine"));
}

}  // namespace

// A descriptor of the loop's that becomes readable when there is something to do.
class GlooDevice::TaskQueue : public gloo::transport::tcp::Handler {
 public:
  // `wakeup` is an eventfd, which this owns.
  TaskQueue(gloo::transport::tcp::Device* device, int wakeup) : device_(device), wakeup_(wakeup) {
    device_->registerDescriptor(wakeup_, EPOLLIN, this);
  }
  ~TaskQueue() override {
    device_->unregisterDescriptor(wakeup_, this);
    close(wakeup_);
  }

  void Add(std::function<void()> task) {
    bool first = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      first = tasks_.empty();
      tasks_.push_back(std::move(task));
    }
    // Whoever found the queue filled knows that the loop has yet to take it.
    if (first) PENSTOCK_CHECK(eventfd_write(wakeup_, 1) == 0);
  }

  void handleEvents(int) override {
    eventfd_t count = 0;
    if (eventfd_read(wakeup_, &count) != 0) return;
    std::deque<std::function<void()>> tasks;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks.swap(tasks_);
    }
    for (; !tasks.empty(); tasks.pop_front()) tasks.front()();
  }

 private:
  gloo::transport::tcp::Device* const device_;
  const int wakeup_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<std::function<void()>> tasks_;
};

GlooDevice::GlooDevice(std::shared_ptr<gloo::transport::Device> device, std::unique_ptr<TaskQueue> tasks)
    : device_(std::move(device)), tasks_(std::move(tasks)) {}

GlooDevice::~GlooDevice() = default;

void GlooDevice::RunInLoop(std::function<void()> task) { tasks_->Add(std::move(task)); }

void GlooDevice::AwaitLoop() {
  absl::Notification ran;
  RunInLoop([&ran] { ran.Notify(); });
  ran.WaitForNotification();
}

absl::StatusOr<std::shared_ptr<GlooDevice>> GlooDevice::Create(const std::string& host) {
  PENSTOCK_RETURN_IF_ERROR(CheckLocalHost(host));
  // Gloo writes to sockets that a peer may have closed, and doesn't ask for an error in place of the signal.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    gloo::transport::tcp::attr attr;
    attr.hostname = host;
    const std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(attr);
    auto* const tcp = dynamic_cast<gloo::transport::tcp::Device*>(device.get());
    PENSTOCK_CHECK(tcp != nullptr);
    const int wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wakeup < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", std::system_category().message(errno)));
    }
    return std::shared_ptr<GlooDevice>(new GlooDevice(device, std::make_unique<TaskQueue>(tcp, wakeup)));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("can't listen on ", host, " for other workers: ", error.what()));
  }
}

}  // namespace penstock
