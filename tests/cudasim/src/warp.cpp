// Warp divergence: which lanes run next, branches, instructions that wait for other lanes.
#include <algorithm>

#include "checks.h"
#include "exec.h"
#include "report.h"
#include "weak.h"

namespace cudasim {
namespace {

constexpr int64_t kGroupSlice = 10000;  // instructions before other divergent lanes get a turn
constexpr int64_t kRotateSlice = 1000;

}  // namespace

bool Warp::runnable() const {
  for (auto& g : groups)
    if (g.st == St::Run) return true;
  return false;
}

// Chooses the runnable group in the deepest frame with the lowest pc (so that diverged lanes meet
// again), merging groups that have reached the same instruction. `rotate` picks the one that has
// waited longest instead, which lets intra-warp producers and consumers make progress.
int Warp::pick(bool rotate, uint32_t& nextMin, bool& others) {
  int best = -1;
  for (size_t i = 0; i < groups.size(); ++i) {
    Group& g = groups[i];
    if (g.st != St::Run) continue;
    if (best < 0) {
      best = int(i);
      continue;
    }
    Group& b = groups[size_t(best)];
    bool better = rotate ? g.stamp < b.stamp
                         : g.frame->depth > b.frame->depth ||
                               (g.frame->depth == b.frame->depth && g.pc < b.pc);
    if (better) best = int(i);
  }
  if (best < 0) return -1;
  nextMin = UINT32_MAX;
  others = false;
  for (size_t i = 0; i < groups.size();) {
    Group& b = groups[size_t(best)];
    Group& g = groups[i];
    if (int(i) == best || g.st != St::Run) {
      ++i;
      continue;
    }
    if (g.frame == b.frame && g.pc == b.pc) {
      b.mask |= g.mask;
      groups.erase(groups.begin() + long(i));
      if (int(i) < best) --best;
      continue;
    }
    others = true;
    if (g.frame == b.frame && g.pc > b.pc) nextMin = std::min(nextMin, g.pc);
    ++i;
  }
  groups[size_t(best)].stamp = ++clock + (uint64_t(1) << 40);
  if (rotate) nextMin = UINT32_MAX;
  return best;
}

Warp::Result Warp::run(int64_t& budget) {
  LaunchStats* st = launch->stats;
  if (naps) {
    --naps;
    --budget;
    return Result::Yielded;
  }
  while (live) {
    uint32_t nextMin;
    bool others;
    bool rotate = diverged >= kGroupSlice;
    if (rotate) diverged = 0;
    int gi = pick(rotate, nextMin, others);
    if (gi < 0) return Result::Blocked;
    frame = groups[size_t(gi)].frame;
    regs = frame->regs;
    cpool = frame->code->cpool.data();
    const Instr* code = frame->code->ins.data();
    uint32_t cur = groups[size_t(gi)].pc, mask = groups[size_t(gi)].mask;
    int64_t slice = others ? (rotate ? kRotateSlice : kGroupSlice - diverged) : budget;
    if (slice > budget) slice = budget;
    int64_t start = slice;
    bool ended = false, yield = false;
    while (slice > 0) {
      const Instr& in = code[cur];
      uint32_t m = mask;
      if (in.guard != kNoRow) m &= in.guardNeg ? ~pred(in.guard) : pred(in.guard);
      pc = cur;
      --slice;
      if (st) {
        ++st->warpInstr;
        auto n = uint64_t(__builtin_popcount(m));
        st->threadInstr += n;
        st->mix[size_t(in.cls)] += n;
      }
      if (in.kind == Kind::Plain) {
        if (m) in.fn(*this, in, m);
        ++cur;
      } else if (in.kind == Kind::Bra) {
        uint32_t stay = mask & ~m;
        if (!stay) {
          cur = uint32_t(in.imm);
        } else if (!m) {
          ++cur;
        } else {
          if (st) ++st->divergentBranches;
          auto target = uint32_t(in.imm);
          uint32_t next = cur + 1;
          if (target == next) {
            cur = next;
            continue;
          }
          bool takenFirst = target < next;
          uint32_t other = takenFirst ? next : target;
          spawn(frame, other, takenFirst ? stay : m);
          groups.back().stamp = ++clock;
          mask = takenFirst ? m : stay;
          cur = takenFirst ? target : next;
          groups[size_t(gi)].mask = mask;
          nextMin = std::min(nextMin, other);
          if (!others) {
            others = true;
            if (slice > kGroupSlice) {
              start -= slice - kGroupSlice;
              slice = kGroupSlice;
            }
          }
        }
      } else if (in.kind == Kind::Yield) {
        yielded = false;
        if (m) in.fn(*this, in, m);
        ++cur;
        if (m && yielded) {
          yield = true;
          break;
        }
      } else {
        if (!m) {
          ++cur;
        } else {
          groups[size_t(gi)].pc = cur;
          if (m != mask) {  // predicated off: those lanes simply go on
            spawn(frame, cur + 1, mask & ~m);
            groups[size_t(gi)].mask = m;
          }
          control(gi, in, m);
          ended = true;
          break;
        }
      }
      if (cur >= nextMin) break;
    }
    budget -= std::max<int64_t>(start - slice, 1);
    launch->clock += uint64_t(std::max<int64_t>(start - slice, 1));
    if (!ended) groups[size_t(gi)].pc = cur;
    // Lanes left behind by a long-running group get a turn now and then.
    if (!others)
      diverged = 0;
    else if (!rotate)
      diverged = yield ? kGroupSlice : diverged + (start - slice);
    if (!live) break;
    if (yield && (!others || launch->weak)) return Result::Yielded;
    naps = 0;  // the other lanes do not sleep
    if (budget <= 0) return Result::Quantum;
  }
  return Result::Done;
}

void Warp::control(int gi, const Instr& in, uint32_t m) {
  switch (in.kind) {
    case Kind::BrxIdx: {
      const uint32_t* idx = src<uint32_t>(in.a);
      uint32_t rest = m;
      bool first = true;
      Frame* f = frame;
      while (rest) {
        uint32_t i = idx[__builtin_ctz(rest)], same = 0;
        lanes(rest, [&](int l) {
          if (idx[l] == i) same |= 1u << l;
        });
        if (i >= uint64_t(in.imm))
          fault(*this, 719, __builtin_ctz(same), "brx.idx index out of range");
        if (first) {
          groups[size_t(gi)].pc = uint32_t(in.v[i]);
          groups[size_t(gi)].mask = same;
          first = false;
        } else
          spawn(f, uint32_t(in.v[i]), same);
        rest &= ~same;
      }
      return;
    }
    case Kind::Call:
      doCall(gi, in, m);
      return;
    case Kind::Ret:
      if (frame->parent) {
        doRet(gi, m);
        return;
      }
      [[fallthrough]];
    case Kind::Exit:
      groups.erase(groups.begin() + gi);
      exitLanes(m);
      return;
    case Kind::Sync:
    case Kind::WarpBar:
      doSync(gi, in, m);
      return;
    case Kind::Bar: {
      Group& g = groups[size_t(gi)];
      bool wait = in.u1 != 1;
      if (wait) {
        g.st = St::Bar;
        g.bar = int(src<uint32_t>(in.a)[__builtin_ctz(m)] & 15);
      } else
        g.pc++;
      block->arrive(*this, m, in);
      return;
    }
    case Kind::ClusterWait: {
      Group& g = groups[size_t(gi)];
      bool ready = true;
      lanes(m, [&](int l) { ready &= block->cluster->phase != clusterPhase[size_t(l)]; });
      if (ready) {
        g.pc++;
        if (launch->hooks) raceBlockBarrier(*block);
        if (launch->weak) launch->weak->acquire(agent, block->cluster.get());
      } else
        g.st = St::Cluster;
      return;
    }
    case Kind::Trap:
      fault(*this, 719, __builtin_ctz(m), "trap instruction executed");
    default:
      return;
  }
}

// Instructions with a member mask run once every live lane they name has arrived.
void Warp::doSync(int gi, const Instr& in, uint32_t m) {
  Frame* f = frame;
  uint32_t at = groups[size_t(gi)].pc;
  // Join lanes already waiting at this very instruction.
  for (size_t i = 0; i < groups.size();) {
    Group& g = groups[i];
    if (int(i) != gi && g.st == St::Sync && g.frame == f && g.pc == at) {
      m |= g.mask;
      groups.erase(groups.begin() + long(i));
      if (int(i) < gi) --gi;
    } else {
      ++i;
    }
  }
  const uint32_t* mm = src<uint32_t>(in.e);
  uint32_t done = 0, rest = m;
  while (rest) {
    uint32_t M = mm[__builtin_ctz(rest)], same = 0;
    lanes(rest, [&](int l) {
      if (mm[l] == M) same |= 1u << l;
    });
    rest &= ~same;
    uint32_t need = M & live;
    bool ready = (need & ~same) == 0;
    if (!ready && in.kind == Kind::WarpBar) {  // others may wait in a duplicate of the barrier
      uint32_t there = same;
      auto joins = [&](const Group& g) {
        if (g.st != St::Sync) return false;
        const Instr& o = g.frame->code->ins[g.pc];
        if (o.kind != Kind::WarpBar) return false;
        int32_t row = o.e;
        auto* r = reinterpret_cast<const uint32_t*>(row >= 0 ? g.frame->regs + row
                                                             : g.frame->code->cpool.data() + ~row);
        return r[__builtin_ctz(g.mask)] == M;
      };
      for (auto& g : groups)
        if (joins(g)) there |= g.mask;
      if ((need & ~there) == 0) {
        ready = true;
        for (auto& g : groups)
          if (joins(g)) {
            g.st = St::Run;
            g.pc++;
          }
      }
    }
    if (!ready) continue;
    ++syncClock;
    if (in.fn) in.fn(*this, in, same);
    done |= same;
  }
  Group& g = groups[size_t(gi)];
  if (done) {
    g.mask = done;
    g.pc = at + 1;
    if (m & ~done) spawn(f, at, m & ~done, St::Sync);
  } else {
    g.mask = m;
    g.st = St::Sync;
  }
}

void Warp::exitLanes(uint32_t mask) {
  completeCpAsync(mask, UINT32_MAX);
  live &= ~mask;
  for (auto& g : groups)
    if (g.st == St::Sync) g.st = St::Run;  // fewer lanes to wait for
  if (block->cluster) {
    block->cluster->liveThreads -= uint32_t(__builtin_popcount(mask));
    releaseCluster(*block->cluster);
  }
  block->onExit(*this);
}

}  // namespace cudasim
