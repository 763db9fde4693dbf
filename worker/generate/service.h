// The Generator service of a worker: reads a checkpoint's weights and generates on this machine.
//
// One generation at a time, and only while the worker has no job; a job that comes goes first and ends it.
// Thread-safe.
#ifndef PENSTOCK_WORKER_GENERATE_SERVICE_H_
#define PENSTOCK_WORKER_GENERATE_SERVICE_H_

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "protos/penstock/v1/generate.grpc.pb.h"
#include "services/storage/blobs.h"

namespace penstock {

class GeneratorService final : public v1::Generator::Service {
 public:
  struct Options {
    std::string worker_id;
    int threads = 1;
    // Outlives the service.
    Blobs* blobs = nullptr;
    // Whether the worker has a job; asked before every pass over the weights.
    std::function<bool()> busy;
  };
  explicit GeneratorService(Options options) : options_(std::move(options)) {}

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;

 private:
  absl::Status Run(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                   grpc::ServerWriter<v1::GenerateResponse>& writer);

  const Options options_;
  std::atomic<bool> generating_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_GENERATE_SERVICE_H_
