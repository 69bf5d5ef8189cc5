// The weak-memory mode's happens-before order: clocks, fences, barriers.
#include <algorithm>

#include "weak.h"

namespace cudasim {

uint32_t Clock::at(uint32_t agent) const {
  auto it = std::lower_bound(known_.begin(), known_.end(), std::pair(agent, 0u));
  return it != known_.end() && it->first == agent ? it->second : 0;
}
void Clock::raise(uint32_t agent, uint32_t epoch) {
  auto it = std::lower_bound(known_.begin(), known_.end(), std::pair(agent, 0u));
  if (it != known_.end() && it->first == agent)
    it->second = std::max(it->second, epoch);
  else
    known_.insert(it, {agent, epoch});
}
void Clock::join(const Clock& other) {
  if (known_.empty() || other.known_.empty()) {
    if (known_.empty()) known_ = other.known_;
    return;
  }
  std::vector<std::pair<uint32_t, uint32_t>> all;
  all.reserve(known_.size() + other.known_.size());
  auto a = known_.begin();
  auto b = other.known_.begin();
  while (a != known_.end() && b != other.known_.end()) {
    if (a->first < b->first)
      all.push_back(*a++);
    else if (b->first < a->first)
      all.push_back(*b++);
    else {
      all.emplace_back(a->first, std::max(a->second, b->second));
      ++a;
      ++b;
    }
  }
  all.insert(all.end(), a, known_.end());
  all.insert(all.end(), b, other.known_.cend());
  known_.swap(all);
}

namespace {

bool acquires(Order o) { return o == Order::Acquire || o == Order::AcqRel || o == Order::Sc; }
bool releases(Order o) { return o == Order::Release || o == Order::AcqRel || o == Order::Sc; }

}  // namespace

uint32_t WeakMemory::addAgent(uint64_t block) {
  auto id = uint32_t(agents_.size());
  agents_.emplace_back();
  agents_.back().block = block;
  agents_.back().seen.raise(id, 1);
  return id;
}

ClockPtr WeakMemory::snapshot(Agent& a, uint32_t agent) {
  auto s = std::make_shared<const Clock>(a.seen);
  newEpoch(a, agent);
  return s;
}

// A strong read: acquires what was released, at once or with the next fence.
void WeakMemory::acquireFrom(Agent& a, const ClockPtr& released, const Instr& in, bool sameBlock) {
  if (!released || in.order == Order::Weak) return;
  if (acquires(in.order))
    a.seen.join(*released);
  else
    (sameBlock ? a.pendingCta : a.pendingWide).join(*released);
}
void WeakMemory::synchronise(Agent& a, const Message& m, const Instr& in) {
  bool sameBlock = agents_[m.agent].block == a.block;
  if (!m.strong || (!sameBlock && !(m.wide && in.wide))) return;
  acquireFrom(a, sameBlock ? m.releasedCta : m.releasedWide, in, sameBlock);
}

void WeakMemory::fence(uint32_t agent, Order order, bool wide) {
  Agent& a = agents_[agent];
  if (acquires(order)) {
    a.seen.join(a.pendingCta);
    a.pendingCta.clear();
    if (wide) {
      a.seen.join(a.pendingWide);
      a.pendingWide.clear();
    }
  }
  if (order == Order::Sc) {
    Clock& all = wide ? fencesWide_ : fencesOfBlock_[a.block];
    a.seen.join(all);
    all = a.seen;
  }
  if (releases(order)) {
    a.releasedCta = snapshot(a, agent);
    if (wide) a.releasedWide = a.releasedCta;
  }
}

void WeakMemory::barrier(const Block& b, uint32_t warps) {
  Clock all;
  for (uint32_t i = 0; i < b.nWarps; ++i)
    if (warps >> i & 1) all.join(agents_[b.warps[i].agent].seen);
  for (uint32_t i = 0; i < b.nWarps; ++i)
    if (warps >> i & 1) {
      Agent& a = agents_[b.warps[i].agent];
      a.seen = all;
      newEpoch(a, b.warps[i].agent);
    }
}

void WeakMemory::release(uint32_t agent, const void* object) {
  objects_[object].join(agents_[agent].seen);
  newEpoch(agents_[agent], agent);
}
void WeakMemory::acquire(uint32_t agent, const void* object) {
  auto it = objects_.find(object);
  if (it != objects_.end()) agents_[agent].seen.join(it->second);
}
void WeakMemory::forgetObjects(const uint8_t* begin, const uint8_t* end) {
  objects_.erase(objects_.lower_bound(begin), objects_.lower_bound(end));
}

}  // namespace cudasim
