// What the communicator tests share: a backend to run them on, and ranks as threads.
#ifndef PENSTOCK_WORKER_COMM_COMM_TEST_UTIL_H_
#define PENSTOCK_WORKER_COMM_COMM_TEST_UTIL_H_

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/connector.h"

namespace penstock {

// Makes the connectors of one epoch's ranks.
using ConnectorFactory = std::function<std::vector<std::unique_ptr<Connector>>(int size, absl::Duration wait_timeout)>;

// Runs body(rank) on a thread for each rank and joins them.
inline void RunRanks(int size, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_COMM_TEST_UTIL_H_
