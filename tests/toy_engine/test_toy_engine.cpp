// A served model gives the same tokens and logits, bit for bit, as one without a cache.
#include "radixkv/host_executor.h"
#include "tests/toy_engine/conversations.h"

namespace radixkv::toy {
namespace {

class host_memory {
 public:
  explicit host_memory(const memory_layout& layout)
      : executor_(host_executor::create(layout).value()) {}

  status run(const step_plan& plan, std::span<logits_row> rows) {
    return executor_.run(plan, {.data = rows.data(),
                                .row_stride_bytes = sizeof(logits_row),
                                .rows = static_cast<std::int32_t>(rows.size()),
                                .type = logits_type::fp32});
  }
  void read(std::size_t plane, block_id block, std::uint32_t head, std::uint32_t /*tokens*/,
            std::span<float> out) {
    std::memcpy(out.data(), executor_.token_bytes(plane, block, head, 0).data(), out.size_bytes());
  }
  void write(std::size_t plane, block_id block, std::uint32_t head, std::uint32_t token,
             std::span<const float> in) {
    std::memcpy(executor_.token_bytes(plane, block, head, token).data(), in.data(),
                in.size_bytes());
  }
  void fail_next() { executor_.fail_operation(0); }

 private:
  host_executor executor_;
};

TEST(toy_engine, the_cache_changes_no_bit) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    const engine_options o{.running = 10, .requests = 400, .seed = seed};
    run_conversations<host_memory>({"NHD, 48 blocks of 4", false, false, 48, 4, o});
    run_conversations<host_memory>({"HND, 26 blocks of 8", true, false, 26, 8, o});
    run_conversations<host_memory>({"slab, 16 blocks of 16", false, true, 16, 16, o});
    run_conversations<host_memory>({"NHD, 192 blocks of 1", false, false, 192, 1, o});
    if (HasFatalFailure()) return;
  }
}

TEST(toy_engine, failed_plans_are_never_served) {
  const engine_options o{.running = 10, .requests = 500, .seed = 9, .failures = true};
  run_conversations<host_memory>({"HND, 48 blocks of 4", true, false, 48, 4, o});
  run_conversations<host_memory>({"NHD, 16 blocks of 16", false, false, 16, 16, o});
}

}  // namespace
}  // namespace radixkv::toy
