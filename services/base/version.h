// The version of this build: what --version prints and penstock_build_info carries.
#ifndef PENSTOCK_SERVICES_BASE_VERSION_H_
#define PENSTOCK_SERVICES_BASE_VERSION_H_

namespace penstock {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_VERSION_H_
