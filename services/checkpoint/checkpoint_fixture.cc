#include "services/checkpoint/checkpoint_fixture.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/model/test_gpt2.h"
#include "services/checkpoint/writer.h"

namespace penstock {

v1::JobSpec SmallJob() {
  v1::JobSpec spec;
  spec.set_name("small");
  *spec.mutable_model() =
      TestGpt2({.layers = 2, .hidden = 96, .heads = 3, .seq_length = 16, .vocab_size = 256, .mlp_hidden = 384});
  spec.mutable_training()->set_steps(200);
  spec.mutable_training()->set_global_batch_size(32);
  spec.mutable_training()->set_seed(1);
  spec.mutable_optimizer()->set_type(v1::OptimizerSpec::TYPE_ADAMW);
  spec.mutable_checkpoint()->set_directory("/checkpoints");
  return spec;
}

ParameterTable SmallTable() {
  auto table = ParameterTable::Create(SmallJob().model());
  PENSTOCK_CHECK(table.ok());
  // Tests count on several pieces with a short one at the end.
  PENSTOCK_CHECK(table->piece_count() > 2 && table->size() % kPieceElements != 0);
  return *std::move(table);
}

SmallState::SmallState(uint32_t seed) {
  const auto size = static_cast<size_t>(SmallTable().size());
  for (size_t c = 0; c < of.size(); ++c) {
    of[c].resize(size);
    for (size_t i = 0; i < size; ++i) {
      of[c][i] = static_cast<float>(seed) + static_cast<float>(c) / 4 + static_cast<float>(i) * 0x1p-24f;
    }
  }
}

std::vector<v1::PieceDigest> SmallState::Pieces() const {
  return DigestPieces(SmallTable().range(), of[0], of[1], of[2]);
}

Manifest SmallManifest(uint64_t step, const SmallState& state) {
  auto manifest = MakeManifest(SmallJob(), step, step * 32, SmallTable().size(), state.Pieces());
  PENSTOCK_CHECK(manifest.ok());
  return *std::move(manifest);
}

absl::StatusOr<std::string> SaveSmallCheckpoint(Blobs& blobs, const std::string& directory, uint64_t step,
                                                const SmallState& state, int shards) {
  const ParameterTable table = SmallTable();
  PENSTOCK_ASSIGN_OR_RETURN(const std::string partial, PrepareCheckpoint(blobs, directory, step, table));
  const int64_t part = (table.size() + shards - 1) / shards;
  for (int64_t begin = 0; begin < table.size(); begin += part) {
    PENSTOCK_ASSIGN_OR_RETURN(const auto writer, CheckpointWriter::Open(blobs, partial, table));
    const auto count = static_cast<size_t>(std::min(part, table.size() - begin));
    for (const StateClass state_class : kAllStateClasses) {
      PENSTOCK_RETURN_IF_ERROR(
          writer->WriteRange(state_class, begin, state[state_class].subspan(static_cast<size_t>(begin), count)));
    }
    PENSTOCK_RETURN_IF_ERROR(writer->Sync());
  }
  return FinishCheckpoint(blobs, partial, SmallManifest(step, state));
}

}  // namespace penstock
