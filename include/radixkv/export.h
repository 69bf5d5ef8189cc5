#pragma once

// Marks what a shared radixkv library makes visible; everything else is hidden.
#define RADIXKV_EXPORT __attribute__((visibility("default")))
