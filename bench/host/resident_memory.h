// The memory that this program has.
#pragma once

namespace radixkv::bench {

// Reads a byte of every page of it. A virtual machine's host may have taken pages away that were
// not used for a while, and gives them back when they are touched, some microseconds each: that is
// neither a cache's miss nor anything that a program on a machine of its own would wait for.
void touch_resident_memory();

}  // namespace radixkv::bench
