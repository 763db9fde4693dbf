#include "worker/runtime/rank_progress.h"

#include "absl/strings/str_cat.h"

namespace penstock {

v1::Cursor RankProgress::cursor() const {
  v1::Cursor cursor;
  cursor.set_job_id(job_id_);
  cursor.set_epoch(epoch_);
  std::lock_guard<std::mutex> lock(mutex_);
  cursor.set_step(step_);
  cursor.set_instruction_index(in_list_ ? index_ : 0);
  cursor.set_collectives(collectives_);
  if (!in_list_) {
    cursor.set_instruction(activity_);
    return cursor;
  }
  std::string text = absl::StrCat(validation_ ? "validation: " : "", instruction_.ToString());
  if (*activity_ != '\0') absl::StrAppend(&text, " (", activity_, ")");
  cursor.set_instruction(text);
  return cursor;
}

}  // namespace penstock
