// What the parts of ShardClient share. Not for others.
#ifndef PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_
#define PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_

#include <memory>
#include <string>

#include "protos/penstock/v1/parameter.grpc.pb.h"
#include "services/parameter/client.h"

namespace penstock {

struct ShardClient::Impl {
  // Constant after construction.
  std::string name;
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::ParameterShard::Stub> stub;

  // Names shard, address and method.
  absl::Status Convert(const grpc::Status& status, const char* method) const;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_CLIENT_INTERNAL_H_
