// What somebody may have meant who wrote a name that doesn't exist.
//
// Thread-safe: free functions without state.
#ifndef PENSTOCK_SERVICES_JOBFILE_SUGGEST_H_
#define PENSTOCK_SERVICES_JOBFILE_SUGGEST_H_

#include <string>
#include <vector>

namespace penstock {

// The candidate nearest to `name` (insertions, deletions, replacements and swaps of neighbours, case and '-' for '_'
// free), or empty when none is near.
std::string NearestName(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_SUGGEST_H_
