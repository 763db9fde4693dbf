#include "services/membership/fake_coordinator.h"

#include <algorithm>
#include <chrono>

namespace penstock {

bool FakeCoordinator::Serve(int port) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  return server_ != nullptr && port_ != 0;
}

void FakeCoordinator::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

void FakeCoordinator::BreakStreams() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (grpc::ServerContext* context : contexts_) context->TryCancel();
}

void FakeCoordinator::RefuseWith(grpc::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  refusal_ = std::move(status);
}

void FakeCoordinator::StaySilent(bool silent) {
  std::lock_guard<std::mutex> lock(mutex_);
  silent_ = silent;
}

bool FakeCoordinator::Send(const v1::MemberCommand& command) {
  std::lock_guard<std::mutex> lock(mutex_);
  return newest_ != nullptr && newest_->Write(command);
}

bool FakeCoordinator::WaitFor(const std::function<bool(const Reports&)>& condition) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return condition(reports_); });
}

FakeCoordinator::Reports FakeCoordinator::reports() {
  std::lock_guard<std::mutex> lock(mutex_);
  return reports_;
}

bool FakeCoordinator::WaitForGoodbye() {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [this] { return goodbyes_ > 0; });
}

grpc::Status FakeCoordinator::Join(grpc::ServerContext* context, Stream* stream) {
  v1::MemberReport report;
  if (!stream->Read(&report)) return grpc::Status::OK;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reports_.push_back(report);
    changed_.notify_all();
    if (!refusal_.ok()) return refusal_;
    contexts_.push_back(context);
    newest_ = stream;
    if (!silent_) {
      v1::MemberCommand welcome;
      welcome.mutable_welcome()->mutable_lease()->set_seconds(2);
      welcome.mutable_welcome()->mutable_heartbeat_interval()->set_nanos(
          static_cast<int32_t>(absl::ToInt64Nanoseconds(heartbeat_interval)));
      stream->Write(welcome);
    }
  }
  while (stream->Read(&report)) {
    std::lock_guard<std::mutex> lock(mutex_);
    reports_.push_back(report);
    changed_.notify_all();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (!context->IsCancelled()) ++goodbyes_;
  contexts_.erase(std::find(contexts_.begin(), contexts_.end(), context));
  if (newest_ == stream) newest_ = nullptr;
  changed_.notify_all();
  return grpc::Status::OK;
}

}  // namespace penstock
