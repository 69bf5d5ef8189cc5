// Thread blocks: their memory, barriers, and the turns of their warps.
#include "checks.h"
#include "config.h"
#include "exec.h"
#include "report.h"
#include "weak.h"

namespace cudasim {
namespace {

constexpr int64_t kWarpQuantum = 5000;

}  // namespace

void Block::init(Launch* l, uint64_t linearId, std::shared_ptr<ClusterState> c,
                 uint32_t rankInCluster) {
  launch = l;
  linear = linearId;
  rank = rankInCluster;
  cluster = std::move(c);
  smid = uint32_t(linearId % 132);
  id.x = uint32_t(linearId % l->grid.x);
  id.y = uint32_t(linearId / l->grid.x % l->grid.y);
  id.z = uint32_t(linearId / (uint64_t(l->grid.x) * l->grid.y));
  const Kernel& k = *l->kernel;
  sharedSize = k.reservedShared + k.staticShared;
  if (l->dynShared) sharedSize = k.dynSharedBase + l->dynShared;
  sharedStore.resize(sharedSize / 8 + 34);
  shared = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(sharedStore.data()) + 255) &
                                      ~uintptr_t(255));
  std::memset(shared, config().poison ? 0xCB : 0, sharedSize);
  std::memset(shared, 0, k.reservedShared);
  if (l->weak) l->weak->forgetObjects(shared, shared + sharedSize);
  nWarps = uint32_t((l->block.count() + kLanes - 1) / kLanes);
  liveWarps = nWarps;
  cursor = 0;
  bulk.clear();
  race.reset();
  bars.fill({});
  while (warps.size() < nWarps) warps.emplace_back();
  for (uint32_t i = 0; i < nWarps; ++i) warps[i].init(this, i);
  if (cluster) cluster->liveThreads += uint32_t(l->block.count());
}

void Block::arrive(Warp& w, uint32_t mask, const Instr& in) {
  int first = __builtin_ctz(mask);
  int id_ = int(w.src<uint32_t>(in.a)[first] & 15);
  BlockBarrier& b = bars[size_t(id_)];
  if (launch->stats) ++launch->stats->barriers;
  b.pending = true;
  b.count = in.b == kNoRow ? 0 : w.src<uint32_t>(in.b)[first];
  b.arrived[w.index] |= mask;
  if (launch->hooks) raceArrive(*this, w.index, id_);
  if (in.u1 >= 2) {  // bar.red
    uint32_t p = w.predVal(in.c);
    if (in.u2) p = ~p;
    p &= mask;
    b.popc += uint32_t(__builtin_popcount(p));
    if (p != mask) b.andFail = 1;
    if (p) b.orMask = 1;
  }
  checkBarrier(id_);
}

void Block::checkBarrier(int id_) {
  BlockBarrier& b = bars[size_t(id_)];
  if (!b.pending) return;
  if (b.count == 0) {
    for (uint32_t i = 0; i < nWarps; ++i)
      if (warps[i].live & ~b.arrived[i]) return;
  } else {
    uint32_t n = 0;
    for (uint32_t i = 0; i < nWarps; ++i) {
      if (!b.arrived[i]) continue;
      bool all = (warps[i].live & ~b.arrived[i]) == 0;
      n += all ? kLanes : uint32_t(__builtin_popcount(b.arrived[i]));
    }
    if (n < b.count) return;
  }
  uint32_t members = 0, waited = 0;
  for (uint32_t i = 0; i < nWarps; ++i) {
    if (!b.arrived[i]) continue;
    members |= 1u << i;
    Warp& w = warps[i];
    for (auto& g : w.groups) {
      if (g.st != St::Bar || g.bar != id_) continue;
      waited |= 1u << i;
      const Instr& in = g.frame->code->ins[g.pc];
      if (in.u1 >= 2) {
        uint8_t* r = g.frame->regs + in.d;
        if (in.u1 == 2)
          lanes(g.mask, [&](int l) { reinterpret_cast<uint32_t*>(r)[l] = b.popc; });
        else {
          bool v = in.u1 == 3 ? !b.andFail : b.orMask != 0;
          auto& p = *reinterpret_cast<uint32_t*>(r);
          p = v ? p | g.mask : p & ~g.mask;
        }
      }
      g.st = St::Run;
      g.pc++;
    }
    ++w.syncClock;
  }
  if (launch->hooks) {
    // Nobody waits for warps that have exited: what they did is done.
    uint32_t exited = 0;
    for (uint32_t i = 0; i < nWarps && b.count == 0; ++i)
      if (!warps[i].live) exited |= 1u << i;
    raceBarrier(*this, id_, waited, exited);
  }
  if (launch->weak) launch->weak->barrier(*this, members);
  b = BlockBarrier{};
}

void Block::onExit(Warp& w) {
  if (!w.live) --liveWarps;
  for (int i = 0; i < 16; ++i) checkBarrier(i);
  if (!liveWarps) flushBulk(0, true);
}

bool Block::runQuantum(int64_t quantum, bool& progressed) {
  int64_t left = quantum;
  bool random = launch->rng != 0;
  while (liveWarps && left > 0) {
    bool any = false, onlyYields = true;
    for (uint32_t n = 0; n < nWarps && left > 0 && liveWarps; ++n) {
      Warp& w = warps[(cursor + n) % nWarps];
      if (!w.live || !w.runnable()) continue;
      int64_t budget = launch->weak ? launch->anyLength(400)
                       : random     ? int64_t(launch->random() % 400 + 1)
                                    : kWarpQuantum;
      int64_t b0 = budget;
      auto r = w.run(budget);
      left -= b0 - budget;
      any = progressed = true;
      if (r != Warp::Result::Yielded)
        onlyYields = false;
      else if (launch->weak)
        left = 0;
    }
    if (random) cursor = uint32_t(launch->random() % nWarps);
    if (!any || onlyYields) break;
  }
  return liveWarps == 0;
}

}  // namespace cudasim
