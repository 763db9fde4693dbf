// Makes OpenMP's waiting threads sleep instead of spin.
//
// libgomp's threads spin for milliseconds before they sleep. Where processes share cores, as on one machine with
// several workers, a thread that spins holds up the one that it waits for: steps take ten times as long. libgomp reads
// OMP_WAIT_POLICY once, before main, so a process has to start again to set it for itself.
#ifndef PENSTOCK_WORKER_OPS_CPU_PASSIVE_THREADS_H_
#define PENSTOCK_WORKER_OPS_CPU_PASSIVE_THREADS_H_

namespace penstock {

// First thing in main: unless the environment has OMP_WAIT_POLICY or GOMP_SPINCOUNT already, sets OMP_WAIT_POLICY to
// passive and executes this program anew, with the same arguments and process id. Returns where there is nothing to do
// or that fails.
void MakeWaitingThreadsSleep(char** argv);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CPU_PASSIVE_THREADS_H_
