// The faults of a run, drawn from its seed: crashes and restarts of every role, paused processes that wake up with old
// plans, partitions, and times of a bad network. They stop at Options::faults_end, when everything heals.
#pragma once

#include "tests/simulation/world.h"

namespace penstock::simulation {

// Puts the run's faults on the clock.
void PlanFaults(World& world);

// One fault, now.
void Strike(World& world);

}  // namespace penstock::simulation
