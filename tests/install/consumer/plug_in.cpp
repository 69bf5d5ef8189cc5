// A plug-in that embeds the installed package, and offers nothing of it to others.
#include "radixkv/kv_cache.h"

extern "C" __attribute__((visibility("default"))) long plug_in_free_blocks() {
  const auto cache = radixkv::kv_cache::create({.blocks = 8, .block_tokens = 16});
  return cache.ok() ? cache->statistics().blocks_free : -1;
}
