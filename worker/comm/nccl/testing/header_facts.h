// The two tables of header_facts.inc.
#ifndef PENSTOCK_WORKER_COMM_NCCL_TESTING_HEADER_FACTS_H_
#define PENSTOCK_WORKER_COMM_NCCL_TESTING_HEADER_FACTS_H_

#include <map>
#include <string>

namespace penstock::nccl_emulator {

using HeaderFacts = std::map<std::string, long long>;

HeaderFacts OurHeader();
HeaderFacts LibraryHeader();

}  // namespace penstock::nccl_emulator

#endif  // PENSTOCK_WORKER_COMM_NCCL_TESTING_HEADER_FACTS_H_
