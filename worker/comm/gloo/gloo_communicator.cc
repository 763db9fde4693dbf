#include "worker/comm/gloo/gloo_communicator.h"

#include <gloo/transport/device.h>
#include <gloo/transport/pair.h>

#include <chrono>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "worker/comm/gloo/gloo_context.h"

namespace penstock {
namespace {

class GlooCommunicator : public Communicator {
 public:
  GlooCommunicator(std::shared_ptr<GlooMesh> mesh, int rank, int size)
      : mesh_(std::move(mesh)), rank_(rank), size_(size) {}

  ~GlooCommunicator() override {
    // What was sent last may be on its way still. A mesh that has failed answers at once.
    mesh_->Flush().IgnoreError();
    mesh_->Fail(absl::CancelledError("the communicator was destroyed")).IgnoreError();
    mesh_->Close();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::StatusOr<std::shared_ptr<Transfer>> StartSend(int peer, Tag tag, absl::Span<const std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountSent(data.size());
    // Gloo's buffers serve both directions and so aren't const; a send only reads.
    return GlooTransfer::Start(mesh_, /*send=*/true, peer, tag, const_cast<std::byte*>(data.data()), data.size());
  }

  absl::StatusOr<std::shared_ptr<Transfer>> StartRecv(int peer, Tag tag, absl::Span<std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountReceived(data.size());
    return GlooTransfer::Start(mesh_, /*send=*/false, peer, tag, data.data(), data.size());
  }

  void Abort(absl::Status reason) override { mesh_->Fail(std::move(reason)).IgnoreError(); }

 private:
  const std::shared_ptr<GlooMesh> mesh_;
  const int rank_;
  const int size_;
};

std::string Key(int rank) { return absl::StrCat("gloo/rank/", rank); }

// What a rank publishes: for each peer in rank order, the address of the pair that waits for that peer, each one as a
// 2-byte length and its bytes.
std::string EncodeAddresses(const std::vector<std::vector<char>>& addresses) {
  std::string encoded;
  for (const std::vector<char>& address : addresses) {
    encoded.push_back(static_cast<char>(address.size() & 0xff));
    encoded.push_back(static_cast<char>(address.size() >> 8));
    encoded.append(address.data(), address.size());
  }
  return encoded;
}

absl::StatusOr<std::vector<char>> DecodeAddress(const std::string& encoded, int index) {
  size_t at = 0;
  for (int i = 0;; ++i) {
    if (at + 2 > encoded.size()) break;
    const size_t length = static_cast<uint8_t>(encoded[at]) | static_cast<size_t>(static_cast<uint8_t>(encoded[at + 1]))
                                                                  << 8;
    at += 2;
    if (length > encoded.size() - at) break;
    if (i == index) return std::vector<char>(encoded.begin() + at, encoded.begin() + at + length);
    at += length;
  }
  return absl::DataLossError("a peer published damaged addresses");
}

class GlooConnector : public Connector {
 public:
  explicit GlooConnector(GlooConnectorOptions options) : options_(std::move(options)) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Connect() override {
    const absl::Time deadline = Clock::Real()->Monotonic() + options_.connect_timeout;
    absl::Status status = CreatePairs();
    if (status.ok()) status = ConnectPairs(deadline);
    absl::Status aborted = AbortReason();
    if (!aborted.ok()) status = std::move(aborted);
    if (!status.ok()) {
      if (mesh_ != nullptr) mesh_->Close();
      return status;
    }
    return std::make_unique<GlooCommunicator>(mesh_, options_.rank, options_.size);
  }

  void Abort(absl::Status reason) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (aborted_.ok()) aborted_ = std::move(reason);
    }
    options_.rendezvous->Cancel();
    // A connect that waits ends when its pair is closed. Afterwards it does nothing: the mesh is the communicator's.
    std::shared_ptr<GlooMesh> connecting;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      connecting = connecting_;
    }
    if (connecting != nullptr) connecting->Close();
  }

 private:
  absl::Status AbortReason() {
    std::lock_guard<std::mutex> lock(mutex_);
    return aborted_;
  }

  absl::Status CreatePairs() {
    try {
      std::shared_ptr<gloo::transport::Context> context =
          options_.device->device()->createContext(options_.rank, options_.size);
      // Gloo waits five times this long for a connection.
      context->setTimeout(
          std::chrono::milliseconds(std::max<int64_t>(1, absl::ToInt64Milliseconds(options_.connect_timeout / 5))));
      mesh_ = std::make_shared<GlooMesh>(options_.device, context, options_.names, options_.wait_timeout);
      for (int i = 0; i < options_.size; ++i) {
        if (i == options_.rank) {
          addresses_.emplace_back();
          continue;
        }
        addresses_.push_back(context->createPair(i)->address().bytes());
      }
    } catch (const std::exception& error) {
      return absl::UnavailableError(absl::StrCat("listening for peers: ", GlooMessage(error)));
    }
    return absl::OkStatus();
  }

  absl::Status ConnectPairs(absl::Time deadline) {
    PENSTOCK_RETURN_IF_ERROR(options_.rendezvous->Set(Key(options_.rank), EncodeAddresses(addresses_),
                                                      deadline - Clock::Real()->Monotonic()));
    std::vector<std::string> keys;
    for (int i = 0; i < options_.size; ++i) keys.push_back(Key(i));
    absl::StatusOr<std::vector<std::string>> values =
        options_.rendezvous->Get(keys, deadline - Clock::Real()->Monotonic());
    if (absl::IsDeadlineExceeded(values.status())) return Missing();
    PENSTOCK_RETURN_IF_ERROR(values.status());

    {
      std::lock_guard<std::mutex> lock(mutex_);
      PENSTOCK_RETURN_IF_ERROR(aborted_);
      connecting_ = mesh_;
    }
    absl::Status status;
    for (int i = 0; i < options_.size && status.ok(); ++i) {
      if (i != options_.rank) status = ConnectPair(i, (*values)[i]);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    connecting_ = nullptr;
    PENSTOCK_RETURN_IF_ERROR(aborted_);
    return status;
  }

  absl::Status ConnectPair(int peer, const std::string& published) {
    PENSTOCK_RETURN_IF_ERROR(AbortReason());
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<char> address, DecodeAddress(published, options_.rank));
    try {
      mesh_->context().getPair(peer)->connect(address);
    } catch (const std::exception& error) {
      return WithPeer(
          absl::UnavailableError(absl::StrCat("can't connect to ", mesh_->Name(peer), ": ", GlooMessage(error))), peer);
    }
    return absl::OkStatus();
  }

  // Which ranks haven't published their addresses.
  absl::Status Missing() {
    std::vector<std::string> missing;
    int first = -1;
    for (int i = 0; i < options_.size; ++i) {
      if (options_.rendezvous->Get({Key(i)}, absl::Milliseconds(200)).ok()) continue;
      if (first < 0) first = i;
      missing.push_back(mesh_->Name(i));
    }
    const std::string names = missing.empty() ? "some ranks" : absl::StrJoin(missing, ", ");
    absl::Status status = absl::DeadlineExceededError(absl::StrCat(
        names, " didn't come within ", absl::FormatDuration(options_.connect_timeout), " of the epoch's start"));
    return first >= 0 ? WithPeer(std::move(status), first) : status;
  }

  const GlooConnectorOptions options_;
  // Of the connecting thread.
  std::shared_ptr<GlooMesh> mesh_;
  std::vector<std::vector<char>> addresses_;

  std::mutex mutex_;
  // Guarded by mutex_.
  absl::Status aborted_;
  std::shared_ptr<GlooMesh> connecting_;
};

}  // namespace

std::unique_ptr<Connector> MakeGlooConnector(GlooConnectorOptions options) {
  return std::make_unique<GlooConnector>(std::move(options));
}

}  // namespace penstock
