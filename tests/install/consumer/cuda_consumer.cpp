// Embeds the installed CUDA executor: runs an empty plan, or is told that there is no device.
#include <cstdio>

#include "radixkv/cuda_executor.h"

int main() {
  const radixkv::memory_layout layout = radixkv::layout_nhd(
      {.blocks = 8, .block_tokens = 16, .layers = 1, .heads = 1, .head_bytes = 64});
  auto executor = radixkv::cuda_executor::create(layout);
  if (!executor) {
    std::printf("create: %s\n", executor.error().message.c_str());
    return executor.error().code == radixkv::errc::device ? 0 : 1;
  }
  if (const radixkv::status done = executor->run(nullptr, {}); !done) {
    std::fprintf(stderr, "run: %s\n", done.error().message.c_str());
    return 1;
  }
  if (const radixkv::status done = executor->synchronize(); !done) {
    std::fprintf(stderr, "synchronize: %s\n", done.error().message.c_str());
    return 1;
  }
  std::printf("the installed CUDA executor works\n");
  return 0;
}
