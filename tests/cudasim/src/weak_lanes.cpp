// The weak-memory mode as memory instructions use it: all lanes of one at a time.
#include <algorithm>

#include "weak.h"

namespace cudasim {
namespace {

// Accesses of more than 16 bytes are several.
template <class F>
void eachCell(uint64_t addr, uint64_t n, F f) {
  for (uint64_t done = 0; done < n;) {
    auto part = unsigned(std::min<uint64_t>(n - done, 16 - ((addr + done) & 15)));
    f(addr + done, part, done);
    done += part;
  }
}

}  // namespace

bool weakIsGlobal(const Instr& in, uint64_t addr) {
  return (in.space == Space::Global || in.space == Space::Generic) && Memory::get().inArena(addr);
}

bool weakIsShared(const Instr& in, uint64_t addr) {
  return in.space == Space::Shared || in.space == Space::SharedCluster ||
         (in.space == Space::Generic && addr - Memory::get().sharedWindow < Memory::kWindow);
}

void weakObject(Warp& w, const void* object) {
  w.launch->weak->acquire(w.agent, object);
  w.launch->weak->release(w.agent, object);
}

void weakLoad(Warp& w, const Instr& in, uint32_t mask, uint8_t** p, const uint64_t* a,
              unsigned bytes, uint8_t* buffer) {
  w.launch->weak->nextInstruction();
  lanes(mask, [&](int l) {
    if (!weakIsGlobal(in, a[l])) {
      if (in.strong && weakIsShared(in, a[l])) weakObject(w, p[l]);
      return;
    }
    uint8_t* value = buffer + unsigned(l) * kWeakStride;
    eachCell(a[l], bytes, [&](uint64_t addr, unsigned n, uint64_t at) {
      w.launch->weak->load(w, in, addr, n, p[l] + at, value + at);
    });
    p[l] = value;
  });
}

void weakStoreBegin(Warp& w, const Instr& in, uint32_t mask, uint8_t** p, const uint64_t* a,
                    uint8_t* buffer) {
  lanes(mask, [&](int l) {
    if (weakIsGlobal(in, a[l]))
      p[l] = buffer + unsigned(l) * kWeakStride;
    else if (in.strong && weakIsShared(in, a[l]))
      weakObject(w, p[l]);
  });
}
void weakStoreEnd(Warp& w, const Instr& in, uint32_t mask, const uint64_t* a, unsigned bytes,
                  const uint8_t* buffer) {
  lanes(mask, [&](int l) {
    if (!weakIsGlobal(in, a[l])) return;
    const uint8_t* value = buffer + unsigned(l) * kWeakStride;
    uint8_t* memory = Memory::get().alias(a[l]);
    eachCell(a[l], bytes, [&](uint64_t addr, unsigned n, uint64_t at) {
      w.launch->weak->store(w, in, addr, n, memory + at, value + at);
    });
  });
}

void weakWrite(Warp& w, uint64_t addr, uint64_t n, const uint8_t* value) {
  static const Instr plain;
  uint8_t* memory = Memory::get().alias(addr);
  eachCell(addr, n, [&](uint64_t cell, unsigned part, uint64_t at) {
    w.launch->weak->store(w, plain, cell, part, memory + at, value + at);
  });
}

}  // namespace cudasim
