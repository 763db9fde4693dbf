// Rendezvous over gRPC. A waiting call occupies no thread. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_SERVICE_H_
#define PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_SERVICE_H_

#include "coordinator/server/rendezvous_table.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"

namespace penstock {

class RendezvousService final : public v1::Rendezvous::CallbackService {
 public:
  // The table outlives the service.
  explicit RendezvousService(RendezvousTable* table) : table_(table) {}

  grpc::ServerUnaryReactor* SetValue(grpc::CallbackServerContext* context, const v1::SetValueRequest* request,
                                     v1::SetValueResponse* response) override;
  grpc::ServerUnaryReactor* GetValues(grpc::CallbackServerContext* context, const v1::GetValuesRequest* request,
                                      v1::GetValuesResponse* response) override;

 private:
  RendezvousTable* const table_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_SERVICE_H_
