#include "csrc/core/stage_timer.h"

namespace radixkv::detail {

constinit thread_local stage_times* recorded_stages = nullptr;

}  // namespace radixkv::detail
