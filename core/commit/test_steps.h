// Step messages for the tests of this folder.
#pragma once

#include <cstdint>
#include <vector>

#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

inline v1::StepInputs TestInputs(uint64_t step, uint64_t batch = 8) {
  v1::StepInputs inputs;
  inputs.set_loss_sum(100.0 + static_cast<double>(step));
  inputs.set_target_count(32);
  v1::SampleRange* samples = inputs.add_samples();
  samples->set_begin((step - 1) * batch);
  samples->set_end(step * batch);
  return inputs;
}

inline v1::PreparedStep TestPrepared(uint64_t step, const std::vector<double>& sums) {
  v1::PreparedStep prepared;
  prepared.set_step(step);
  *prepared.mutable_inputs() = TestInputs(step);
  for (const double sum : sums) prepared.add_piece_square_sums(sum);
  return prepared;
}

inline v1::OptimizerSpec TestOptimizer(double grad_clip = 1.0) {
  v1::OptimizerSpec optimizer;
  optimizer.set_type(v1::OptimizerSpec::TYPE_ADAMW);
  optimizer.set_learning_rate(0.01);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_epsilon(1e-8);
  optimizer.set_weight_decay(0.1);
  optimizer.set_grad_clip(grad_clip);
  optimizer.mutable_schedule()->set_type(v1::LearningRateSchedule::TYPE_CONSTANT);
  return optimizer;
}

}  // namespace penstock
