// What happens to a job before it is queued: defaults, paths, and everything that would stop it later, said at once.
//
// Reads files (the whole corpus, a checkpoint's manifest), so it runs on the caller's thread. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_SERVER_JOB_INTAKE_H_
#define PENSTOCK_COORDINATOR_SERVER_JOB_INTAKE_H_

#include <string>
#include <vector>

#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/storage/blobs.h"

namespace penstock {

class JobIntake {
 public:
  // Relative paths in jobs start at `root`. The blobs outlive the intake.
  JobIntake(std::string root, Blobs* blobs) : root_(std::move(root)), blobs_(blobs) {}

  const std::string& root() const { return root_; }

  // Fills in defaults and makes paths absolute. What is wrong; empty when the job may be queued. A checkpoint that is
  // damaged is not a violation: the job fails with the reason, or falls back, when it is opened.
  // `notes`, where it isn't null, gets what the job's owner should know all the same.
  std::vector<v1::JobViolation> Prepare(v1::JobSpec* spec, std::vector<std::string>* notes = nullptr) const;

 private:
  std::string Absolute(const std::string& path) const;
  std::vector<v1::JobViolation> CheckCheckpoint(const v1::JobSpec& spec) const;

  const std::string root_;
  Blobs* const blobs_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_JOB_INTAKE_H_
