// Follows a job on the terminal until it ends.
#ifndef PENSTOCK_SERVICES_CLIENT_FOLLOW_H_
#define PENSTOCK_SERVICES_CLIENT_FOLLOW_H_

#include <string>

#include "services/client/commands.h"

namespace penstock {

// Shows a progress line on standard error: rewritten in place on a terminal, else a new line every few seconds and at
// each change of state. At the end prints the job (a description, or JSON) on standard output. Returns the exit code:
// done only for a job that succeeded.
int FollowJob(const CommandContext& context, const std::string& job);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_FOLLOW_H_
