// Builds a ParameterTable block by block. Internal to core/model: one function for each model family uses it.
#ifndef PENSTOCK_CORE_MODEL_TABLE_BUILDER_H_
#define PENSTOCK_CORE_MODEL_TABLE_BUILDER_H_

#include <string>
#include <vector>

#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

class TableBuilder {
 public:
  // Parameters that are added next belong to this block. The reference is valid until the next call.
  Block& BeginBlock(std::string name, BlockKind kind);
  // Adds a parameter behind all others. The reference is valid until the next call.
  Parameter& Add(std::string name, std::vector<int64_t> shape, SplitAxis split);
  // A weight matrix with normal initial values, decayed.
  Parameter& AddWeight(std::string name, std::vector<int64_t> shape, SplitAxis split, double init_std);
  // A bias, zero at first.
  Parameter& AddBias(std::string name, std::vector<int64_t> shape, SplitAxis split);
  // Weight and bias of a layer norm: "<prefix>.weight", "<prefix>.bias".
  void AddLayerNorm(const std::string& prefix, int64_t hidden);
  ParameterTable Finish() &&;

 private:
  ParameterTable table_;
};

// GPT-2. `model` has passed CheckModel.
ParameterTable BuildGpt2Table(const v1::ModelSpec& model);

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_TABLE_BUILDER_H_
