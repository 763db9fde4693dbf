// What may stand in an override of the job file, for whoever is just typing one.
//
// Thread-safe: a free function without state.
#ifndef PENSTOCK_SERVICES_JOBFILE_COMPLETE_OVERRIDE_H_
#define PENSTOCK_SERVICES_JOBFILE_COMPLETE_OVERRIDE_H_

#include <string>
#include <vector>

namespace penstock {

// All that begins with `typed`, in the schema's order: the fields' paths up to the next message ("model." and
// "name="), and behind the "=" a field's values where the schema lists them ("model.family=gpt2").
std::vector<std::string> CompleteOverride(const std::string& typed);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_COMPLETE_OVERRIDE_H_
