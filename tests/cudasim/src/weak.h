// The weak-memory mode (CUDASIM_WEAK=1; README.md describes the model): one object per launch keeps
// the recent stores to global memory and decides which of them each load sees.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exec.h"

namespace cudasim {

// What is known of each agent's past: agent -> epoch, sparse and sorted.
class Clock {
 public:
  uint32_t at(uint32_t agent) const;
  void raise(uint32_t agent, uint32_t epoch);
  void join(const Clock& other);
  void clear() { known_.clear(); }

 private:
  std::vector<std::pair<uint32_t, uint32_t>> known_;
};
using ClockPtr = std::shared_ptr<const Clock>;  // null: nothing

// Agents are warps: the lanes of one see and order memory as a single thread would.
class WeakMemory {
 public:
  explicit WeakMemory(uint64_t seed);
  uint32_t addAgent(uint64_t block);

  // Between the loads of one instruction and those of another: lanes that read the same bytes in
  // one see the same.
  void nextInstruction() { picks_.clear(); }
  // Accesses to n bytes at addr, which lie in one aligned cell of 16; `memory` is where they are.
  // The caller has checked them.
  void load(const Warp& w, const Instr& in, uint64_t addr, unsigned n, const uint8_t* memory,
            uint8_t* value);
  void store(const Warp& w, const Instr& in, uint64_t addr, unsigned n, uint8_t* memory,
             const uint8_t* value);
  // A read-modify-write: `begin` leaves the old bytes in `value`; `end` takes the new ones, or, if
  // a comparison failed and nothing was written, only ends it.
  struct Rmw {
    uint32_t cell;
    int position;
  };
  Rmw begin(const Warp& w, const Instr& in, uint64_t addr, unsigned n, const uint8_t* memory,
            uint8_t* value);
  void end(Rmw r, const Warp& w, const Instr& in, uint64_t addr, unsigned n, uint8_t* memory,
           const uint8_t* value, bool wrote);

  void fence(uint32_t agent, Order order, bool wide);
  void barrier(const Block& b, uint32_t warps);
  // Through an object outside global memory: shared memory, an mbarrier, a cluster's barrier.
  void release(uint32_t agent, const void* object);
  void acquire(uint32_t agent, const void* object);
  void forgetObjects(const uint8_t* begin, const uint8_t* end);  // their memory gets a new owner

  uint64_t staleLoads() const { return staleLoads_; }
  uint64_t lateStores() const { return lateStores_; }

 private:
  static constexpr int kBase = -1;  // the position below all messages

  struct Agent {
    uint64_t block;
    uint32_t epoch = 1;                  // rises with each release
    Clock seen;                          // what happened before
    Clock pendingWide, pendingCta;       // what an acquiring fence would add to it
    ClockPtr releasedWide, releasedCta;  // what it was at the last releasing fence
  };
  struct Message {  // a store
    uint8_t value[16];
    uint8_t offset, size;
    bool strong, wide;
    bool rmw;  // nothing may come between it and what it read
    uint32_t agent, epoch;
    ClockPtr releasedWide, releasedCta;                  // what those that read it may acquire
    std::vector<std::pair<uint32_t, uint32_t>> readers;  // agents, and their epochs then
  };
  struct Cell {
    uint64_t address = 0;
    uint8_t base[16];
    ClockPtr baseReleased;          // by messages that have become part of the base
    std::vector<Message> messages;  // in coherence order
  };
  struct Pick {  // what a lane of this instruction has read
    uint64_t address;
    unsigned size;
    uint8_t value[16];
  };
  struct Page {
    uint32_t cell[256] = {};  // index, 0: none
  };
  struct Range {  // within a cell
    unsigned offset, size;
    bool overlaps(const Message& m) const {
      return offset < unsigned(m.offset + m.size) && m.offset < offset + size;
    }
    bool equals(const Message& m) const { return offset == m.offset && size == m.size; }
  };

  uint64_t random();
  bool chance(unsigned of256) { return (random() >> 40 & 255) < of256; }

  Page* page(uint64_t addr);
  uint32_t find(uint64_t addr);
  uint32_t findOrCreate(uint64_t addr, const uint8_t* memory);
  bool evict();
  void dropOldest(Cell& c, size_t count);

  bool knows(uint32_t agent, uint32_t other, uint32_t epoch) const;
  int newest(const Cell& c, Range r) const;
  int oldest(const Cell& c, Range r, uint32_t agent) const;
  int older(const Cell& c, Range r, int first, int last, bool write);
  void bytesAt(const Cell& c, Range r, int position, uint8_t* value) const;
  int observe(Cell& c, Range r, int position, uint32_t agent, const Instr& in);
  void insert(Cell& c, Range r, int after, uint32_t agent, const Instr& in, const uint8_t* value,
              bool rmw);

  void acquireFrom(Agent& a, const ClockPtr& released, const Instr& in, bool sameBlock);
  void synchronise(Agent& a, const Message& m, const Instr& in);
  ClockPtr snapshot(Agent& a, uint32_t agent);
  void newEpoch(Agent& a, uint32_t agent) { a.seen.raise(agent, ++a.epoch); }

  uint64_t rng_;
  unsigned staleChance_, lateChance_;  // of 256 accesses that have a choice
  uint64_t staleLoads_ = 0, lateStores_ = 0;
  std::vector<Agent> agents_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  uint64_t lastPage_ = ~0ull;
  Page* last_ = nullptr;
  std::deque<Cell> cells_;
  std::vector<Pick> picks_;
  std::deque<uint32_t> byAge_;  // cells in use, oldest first
  std::map<const void*, Clock> objects_;
  Clock fencesWide_;  // what sequentially consistent fences have seen
  std::unordered_map<uint64_t, Clock> fencesOfBlock_;
};

// What memory instructions call in this mode, for all lanes in `mask`; `a` and `p` are as resolve()
// leaves them, `buffer` has kWeakStride bytes per lane. Before an instruction: the bytes each lane
// reads from global memory go to the buffer and p points there. After it: what it left there is
// stored.
constexpr unsigned kWeakStride = 32;
void weakLoad(Warp& w, const Instr& in, uint32_t mask, uint8_t** p, const uint64_t* a,
              unsigned bytes, uint8_t* buffer);
void weakStoreBegin(Warp& w, const Instr& in, uint32_t mask, uint8_t** p, const uint64_t* a,
                    uint8_t* buffer);
void weakStoreEnd(Warp& w, const Instr& in, uint32_t mask, const uint64_t* a, unsigned bytes,
                  const uint8_t* buffer);
// One lane's read-modify-write: f(bytes) changes them and returns whether it wrote.
template <class F>
void weakRmw(Warp& w, const Instr& in, uint64_t addr, unsigned bytes, uint8_t* memory, F f) {
  uint8_t value[16];
  auto r = w.launch->weak->begin(w, in, addr, bytes, memory, value);
  bool wrote = f(value);
  w.launch->weak->end(r, w, in, addr, bytes, memory, value, wrote);
}
// Stores of a whole range by something other than an instruction's lanes (bulk copies).
void weakWrite(Warp& w, uint64_t addr, uint64_t n, const uint8_t* value);
bool weakIsGlobal(const Instr& in, uint64_t addr);
bool weakIsShared(const Instr& in, uint64_t addr);
// A strong access to an object in shared memory, ordered as an acquire and a release.
void weakObject(Warp& w, const void* object);

}  // namespace cudasim
