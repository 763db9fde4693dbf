// Which of this machine's network interfaces has an address.
#ifndef PENSTOCK_WORKER_DEVICE_NETWORK_INTERFACE_H_
#define PENSTOCK_WORKER_DEVICE_NETWORK_INTERFACE_H_

#include <string>

namespace penstock {

// "eth0" for this machine's name or address; empty where none of the interfaces has it. Asks the resolver.
std::string NetworkInterfaceOf(const std::string& host);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_DEVICE_NETWORK_INTERFACE_H_
