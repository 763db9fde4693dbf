// How the workers of one epoch find each other: a small key-value store at the coordinator. One object serves one
// epoch.
//
// Thread-safe. Cancel ends every call, under way or later, at once.
#ifndef PENSTOCK_WORKER_COMM_RENDEZVOUS_H_
#define PENSTOCK_WORKER_COMM_RENDEZVOUS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;

  // Asks again while the store can't be reached, until `timeout`: DEADLINE_EXCEEDED after that; FAILED_PRECONDITION or
  // ABORTED when the epoch is over; CANCELLED after Cancel.
  virtual absl::Status Set(const std::string& key, const std::string& value, absl::Duration timeout) = 0;

  // Waits until every key is set, and answers with their values in the order of the keys. Errors as Set.
  virtual absl::StatusOr<std::vector<std::string>> Get(const std::vector<std::string>& keys,
                                                       absl::Duration timeout) = 0;

  virtual void Cancel() = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_RENDEZVOUS_H_
