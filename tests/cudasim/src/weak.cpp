// The weak-memory mode's stores and loads.
#include "weak.h"

namespace cudasim {
namespace {

// Beyond these the oldest message of a cell, or the oldest cell, becomes visible to everyone.
constexpr size_t kMessages = 16, kReaders = 64, kCells = size_t(1) << 18;

ClockPtr joined(const ClockPtr& a, const ClockPtr& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto c = std::make_shared<Clock>(*a);
  c->join(*b);
  return c;
}

}  // namespace

WeakMemory::WeakMemory(uint64_t seed) : rng_(seed * 0x9E3779B97F4A7C15ull | 1) {
  for (int i = 0; i < 8; ++i) random();
  // Some bugs need a single old value among new ones, others many.
  static constexpr unsigned kChance[4] = {16, 64, 128, 224};
  staleChance_ = kChance[random() >> 40 & 3];
  lateChance_ = kChance[random() >> 40 & 3] / 4;
  cells_.emplace_back();  // index 0 means none
}

uint64_t WeakMemory::random() {
  rng_ ^= rng_ << 13;
  rng_ ^= rng_ >> 7;
  rng_ ^= rng_ << 17;
  return rng_;
}

WeakMemory::Page* WeakMemory::page(uint64_t addr) {
  if (addr >> 12 != lastPage_) {
    auto it = pages_.find(addr >> 12);
    lastPage_ = addr >> 12;
    last_ = it == pages_.end() ? nullptr : it->second.get();
  }
  return last_;
}
uint32_t WeakMemory::find(uint64_t addr) {
  const Page* p = page(addr);
  return p ? p->cell[addr >> 4 & 255] : 0;
}
uint32_t WeakMemory::findOrCreate(uint64_t addr, const uint8_t* memory) {
  if (uint32_t c = find(addr)) return c;
  uint32_t index;
  if (byAge_.size() >= kCells && evict()) {
    index = byAge_.back();
  } else {
    index = uint32_t(cells_.size());
    cells_.emplace_back();
    byAge_.push_back(index);
  }
  auto& p = pages_[addr >> 12];
  if (!p) p = std::make_unique<Page>();
  last_ = p.get();
  p->cell[addr >> 4 & 255] = index;
  Cell& c = cells_[index];
  c.address = addr & ~15ull;
  std::memcpy(c.base, memory - (addr & 15), 16);
  return index;
}
// Makes the oldest cell the youngest, empty, unless somebody may still acquire through it.
bool WeakMemory::evict() {
  uint32_t index = byAge_.front();
  byAge_.pop_front();
  byAge_.push_back(index);
  Cell& c = cells_[index];
  bool needed = c.baseReleased != nullptr;
  for (auto& m : c.messages) needed |= m.releasedCta || m.rmw;
  if (needed) return false;
  c.messages.clear();
  pages_.at(c.address >> 12)->cell[c.address >> 4 & 255] = 0;
  return true;
}
void WeakMemory::dropOldest(Cell& c, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const Message& m = c.messages[i];
    std::memcpy(c.base + m.offset, m.value, m.size);
    c.baseReleased = joined(c.baseReleased, m.releasedCta);
  }
  c.messages.erase(c.messages.begin(), c.messages.begin() + long(count));
}

bool WeakMemory::knows(uint32_t agent, uint32_t other, uint32_t epoch) const {
  return agent == other || agents_[agent].seen.at(other) >= epoch;
}
int WeakMemory::newest(const Cell& c, Range r) const {
  for (int i = int(c.messages.size()) - 1; i >= 0; --i)
    if (r.overlaps(c.messages[size_t(i)])) return i;
  return kBase;
}
// The oldest position that an agent may read at: that of the newest store that happened before, or
// that was read by something that happened before.
int WeakMemory::oldest(const Cell& c, Range r, uint32_t agent) const {
  for (int i = int(c.messages.size()) - 1; i >= 0; --i) {
    const Message& m = c.messages[size_t(i)];
    if (!r.overlaps(m)) continue;
    if (knows(agent, m.agent, m.epoch)) return i;
    for (auto& [reader, epoch] : m.readers)
      if (knows(agent, reader, epoch)) return i;
  }
  return kBase;
}
// A position in first ... last - 1, any with equal chance; `write`: something can be put after it.
// `last` if there is none.
int WeakMemory::older(const Cell& c, Range r, int first, int last, bool write) {
  int choice = last, choices = 0, next = last;
  for (int i = last - 1; i >= first; --i) {
    if (i != kBase && !r.overlaps(c.messages[size_t(i)])) continue;
    const Message& after = c.messages[size_t(next)];
    next = i;
    // With stores of different sizes the newest bytes would no longer be those in memory.
    if (write && !r.equals(after)) break;
    if (write && after.rmw) continue;
    if (random() % uint64_t(++choices) == 0) choice = i;
  }
  return choice;
}
void WeakMemory::bytesAt(const Cell& c, Range r, int position, uint8_t* value) const {
  uint8_t all[16];
  std::memcpy(all, c.base, 16);
  for (int i = 0; i <= position; ++i) {
    const Message& m = c.messages[size_t(i)];
    if (r.overlaps(m)) std::memcpy(all + m.offset, m.value, m.size);
  }
  std::memcpy(value, all + r.offset, r.size);
}

// The agent has read at `position`, which is returned, or where it has moved to.
int WeakMemory::observe(Cell& c, Range r, int position, uint32_t agent, const Instr& in) {
  Agent& a = agents_[agent];
  if (position == kBase) {
    acquireFrom(a, c.baseReleased, in, true);
    return kBase;
  }
  Message& top = c.messages[size_t(position)];
  bool covers = top.offset <= r.offset && unsigned(top.offset + top.size) >= r.offset + r.size;
  if (!covers) {  // bytes of older stores are among those read
    acquireFrom(a, c.baseReleased, in, true);
    for (int i = 0; i < position; ++i)
      if (r.overlaps(c.messages[size_t(i)])) synchronise(a, c.messages[size_t(i)], in);
  }
  synchronise(a, top, in);
  if (knows(agent, top.agent, top.epoch)) return position;
  for (auto& reader : top.readers)
    if (reader.first == agent) return position;
  top.readers.emplace_back(agent, a.epoch);
  if (top.readers.size() <= kReaders) return position;
  dropOldest(c, size_t(position) + 1);
  return kBase;
}
void WeakMemory::insert(Cell& c, Range r, int after, uint32_t agent, const Instr& in,
                        const uint8_t* value, bool rmw) {
  Agent& a = agents_[agent];
  Message m;
  std::memcpy(m.value, value, r.size);
  m.offset = uint8_t(r.offset);
  m.size = uint8_t(r.size);
  m.strong = in.order != Order::Weak;
  m.wide = in.wide;
  m.rmw = rmw;
  m.agent = agent;
  m.epoch = a.epoch;
  if (m.strong) {
    m.releasedCta = a.releasedCta;
    m.releasedWide = a.releasedWide;
    if (in.order == Order::Release || in.order == Order::AcqRel) {
      m.releasedCta = snapshot(a, agent);
      if (in.wide) m.releasedWide = m.releasedCta;
    }
    // A read-modify-write, like the next store of the agent that released, passes on what the store
    // before it releases.
    if (after == kBase) {
      if (rmw) {
        m.releasedCta = joined(m.releasedCta, c.baseReleased);
        m.releasedWide = joined(m.releasedWide, c.baseReleased);
      }
    } else if (const Message& p = c.messages[size_t(after)];
               p.strong && (rmw || p.agent == agent)) {
      m.releasedCta = joined(m.releasedCta, p.releasedCta);
      m.releasedWide = joined(m.releasedWide, p.releasedWide);
    }
  }
  c.messages.insert(c.messages.begin() + after + 1, std::move(m));
  if (c.messages.size() > kMessages) dropOldest(c, 1);
}

void WeakMemory::load(const Warp& w, const Instr& in, uint64_t addr, unsigned n,
                      const uint8_t* memory, uint8_t* value) {
  std::memcpy(value, memory, n);
  uint32_t index = find(addr);
  if (!index) return;
  Cell& c = cells_[index];
  Range r{unsigned(addr & 15), n};
  for (const Pick& p : picks_)
    if (p.address == addr && p.size == n) {
      std::memcpy(value, p.value, n);
      return;
    }
  int last = newest(c, r), at = last;
  if (last != kBase && chance(staleChance_)) {
    at = older(c, r, oldest(c, r, w.agent), last, false);
    if (at != last) {
      ++staleLoads_;
      bytesAt(c, r, at, value);
    }
  }
  observe(c, r, at, w.agent, in);
  picks_.push_back({addr, n, {}});
  std::memcpy(picks_.back().value, value, n);
}

void WeakMemory::store(const Warp& w, const Instr& in, uint64_t addr, unsigned n, uint8_t* memory,
                       const uint8_t* value) {
  Cell& c = cells_[findOrCreate(addr, memory)];
  Range r{unsigned(addr & 15), n};
  int last = newest(c, r), after = last;
  if (last != kBase && chance(lateChance_)) after = older(c, r, oldest(c, r, w.agent), last, true);
  if (after == last)
    std::memcpy(memory, value, n);
  else
    ++lateStores_;
  insert(c, r, after, w.agent, in, value, false);
}

WeakMemory::Rmw WeakMemory::begin(const Warp& w, const Instr& in, uint64_t addr, unsigned n,
                                  const uint8_t* memory, uint8_t* value) {
  std::memcpy(value, memory, n);
  uint32_t index = findOrCreate(addr, memory);
  Cell& c = cells_[index];
  Range r{unsigned(addr & 15), n};
  int last = newest(c, r), at = last;
  if (last != kBase && chance(lateChance_)) {
    at = older(c, r, oldest(c, r, w.agent), last, true);
    if (at != last) bytesAt(c, r, at, value);
  }
  return {index, observe(c, r, at, w.agent, in)};
}
void WeakMemory::end(Rmw rmw, const Warp& w, const Instr& in, uint64_t addr, unsigned n,
                     uint8_t* memory, const uint8_t* value, bool wrote) {
  if (!wrote) return;
  Cell& c = cells_[rmw.cell];
  Range r{unsigned(addr & 15), n};
  if (rmw.position == newest(c, r))
    std::memcpy(memory, value, n);
  else
    ++lateStores_;
  insert(c, r, rmw.position, w.agent, in, value, true);
}

}  // namespace cudasim
