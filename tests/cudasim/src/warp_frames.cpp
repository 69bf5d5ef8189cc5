// A warp's call frames: registers with their special values, calls, returns.
#include <algorithm>

#include "exec.h"
#include "weak.h"

namespace cudasim {

void Warp::init(Block* b, uint32_t idx) {
  block = b;
  launch = b->launch;
  index = idx;
  uint64_t threads = launch->block.count();
  uint32_t n = uint32_t(std::min<uint64_t>(kLanes, threads - uint64_t(idx) * kLanes));
  full = live = n == kLanes ? kAll : (1u << n) - 1;
  groups.clear();
  // The block before leaves its frames: to clear their registers took most of a short block's time.
  freeFrames.clear();
  for (Frame& f : frames) freeFrames.push_back(&f);
  cpAsync.clear();
  cpGroup.fill(0);
  clusterPhase.fill(0);
  clock = 0;
  diverged = 0;
  ccFlags = 0;
  syncClock = 1;
  if (launch->weak) agent = launch->weak->addAgent(b->linear);
  Kernel& k = *launch->kernel;
  localCap = k.hasCalls ? std::max<uint32_t>(16384, k.localBytes * 4) : k.localBytes;
  local.assign(size_t(localCap) * kLanes, 0);
  spawn(pushFrame(k.code, nullptr, 0, full), 0, full);
}

void Warp::laneId(int lane, Dim& t) const {
  uint64_t i = uint64_t(index) * kLanes + uint64_t(lane);
  t.x = uint32_t(i % launch->block.x);
  t.y = uint32_t(i / launch->block.x % launch->block.y);
  t.z = uint32_t(i / (uint64_t(launch->block.x) * launch->block.y));
}

Frame* Warp::pushFrame(const Code* c, Frame* parent, uint32_t retPc, uint32_t mask) {
  Frame* f;
  if (!freeFrames.empty()) {
    f = freeFrames.back();
    freeFrames.pop_back();
  } else {
    frames.emplace_back();
    f = &frames.back();
  }
  f->code = c;
  f->parent = parent;
  f->retPc = retPc;
  f->depth = parent ? parent->depth + 1 : 0;
  f->lanes = mask;
  f->localBase = parent ? parent->localBase + (parent->code->fn->localSize + 15) / 16 * 16 : 0;
  if (f->localBase + c->fn->localSize > localCap) {
    frame = parent;
    fault(*this, 719, __builtin_ctz(mask), "device call stack overflow");
  }
  // Rows are 64-byte aligned so that lane loops use aligned vectors.
  f->store.resize(c->regBytes / 8 + 8);
  f->regs = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(f->store.data()) + 63) &
                                       ~uintptr_t(63));
  f->params.assign(size_t(c->frameParams) * kLanes, 0);
  const Launch& L = *launch;
  const Block& B = *block;
  for (auto& s : c->specials) {
    bool wide = s.id & 256;
    for (int l = 0; l < kLanes; ++l) {
      Dim t;
      laneId(l, t);
      uint64_t v = 0;
      Dim cl = L.cluster;
      switch (s.id & 255) {
        case kTidX:
          v = t.x;
          break;
        case kTidY:
          v = t.y;
          break;
        case kTidZ:
          v = t.z;
          break;
        case kNtidX:
          v = L.block.x;
          break;
        case kNtidY:
          v = L.block.y;
          break;
        case kNtidZ:
          v = L.block.z;
          break;
        case kCtaX:
          v = B.id.x;
          break;
        case kCtaY:
          v = B.id.y;
          break;
        case kCtaZ:
          v = B.id.z;
          break;
        case kNctaX:
          v = L.grid.x;
          break;
        case kNctaY:
          v = L.grid.y;
          break;
        case kNctaZ:
          v = L.grid.z;
          break;
        case kLaneId:
          v = uint64_t(l);
          break;
        case kWarpId:
          v = index;
          break;
        case kNWarpId:
          v = B.nWarps;
          break;
        case kSmId:
          v = B.smid;
          break;
        case kNSmId:
          v = 132;
          break;
        case kGridId:
          v = L.gridId;
          break;
        case kMaskEq:
          v = 1u << l;
          break;
        case kMaskLt:
          v = (1u << l) - 1;
          break;
        case kMaskLe:
          v = (2ull << l) - 1;
          break;
        case kMaskGt:
          v = ~uint32_t((2ull << l) - 1);
          break;
        case kMaskGe:
          v = ~((1u << l) - 1);
          break;
        case kDynSmem:
          v = L.dynShared;
          break;
        case kTotalSmem:
          v = B.sharedSize - L.kernel->reservedShared;
          break;
        case kAggrSmem:
          v = B.sharedSize;
          break;
        case kRsvEnd:
          v = kReservedShared;
          break;
        case kRsvSecond:
          v = kReservedShared / 2;
          break;
        case kClusterIdX:
          v = B.id.x / cl.x;
          break;
        case kClusterIdY:
          v = B.id.y / cl.y;
          break;
        case kClusterIdZ:
          v = B.id.z / cl.z;
          break;
        case kNClusterX:
          v = L.grid.x / cl.x;
          break;
        case kNClusterY:
          v = L.grid.y / cl.y;
          break;
        case kNClusterZ:
          v = L.grid.z / cl.z;
          break;
        case kClCtaX:
          v = B.id.x % cl.x;
          break;
        case kClCtaY:
          v = B.id.y % cl.y;
          break;
        case kClCtaZ:
          v = B.id.z % cl.z;
          break;
        case kClNctaX:
          v = cl.x;
          break;
        case kClNctaY:
          v = cl.y;
          break;
        case kClNctaZ:
          v = cl.z;
          break;
        case kClRank:
          v = B.rank;
          break;
        case kClNRank:
          v = cl.count();
          break;
        case kEnv1:
          v = L.workspace >> 32;
          break;  // high half first
        case kEnv2:
          v = uint32_t(L.workspace);
          break;
        default:
          break;
      }
      if (wide)
        reinterpret_cast<uint64_t*>(f->regs + s.row)[l] = v;
      else
        reinterpret_cast<uint32_t*>(f->regs + s.row)[l] = uint32_t(v);
    }
  }
  return f;
}

void Warp::doCall(int gi, const Instr& in, uint32_t m) {
  const CallSite& s = frame->code->calls[size_t(in.imm)];
  Frame* f = frame;
  if (s.builtin) {
    runBuiltin(*this, s, *f, m);
    groups[size_t(gi)].pc++;
    return;
  }
  uint32_t rest = m;
  bool first = true;
  uint32_t ret = groups[size_t(gi)].pc + 1;
  while (rest) {
    const Code* target = s.target;
    uint32_t same = rest;
    if (!target) {
      const uint64_t* fp = reinterpret_cast<const uint64_t*>(f->regs + s.reg);
      uint64_t a = fp[__builtin_ctz(rest)];
      same = 0;
      lanes(rest, [&](int l) {
        if (fp[l] == a) same |= 1u << l;
      });
      const Function* fn = functionAt(a);
      auto it = launch->kernel->codes.find(fn);
      if (!fn || it == launch->kernel->codes.end())
        fault(*this, 719, __builtin_ctz(same), "indirect call to an invalid address");
      target = it->second.get();
    }
    Frame* n = pushFrame(target, f, ret, same);
    n->site = &s;
    auto& ps = target->fn->params;
    lanes(same, [&](int l) {
      for (size_t i = 0; i < ps.size() && i < s.argOffsets.size(); ++i)
        std::memcpy(&n->params[size_t(l) * target->frameParams + target->argBase + ps[i]->address],
                    &f->params[size_t(l) * f->code->frameParams + s.argOffsets[i]], ps[i]->size);
    });
    if (first) {
      groups[size_t(gi)].frame = n;
      groups[size_t(gi)].pc = 0;
      groups[size_t(gi)].mask = same;
      first = false;
    } else
      spawn(n, 0, same);
    rest &= ~same;
  }
}

void Warp::doRet(int gi, uint32_t m) {
  Frame* f = frame;
  Frame* p = f->parent;
  if (!f->code->fn->rets.empty()) {
    auto& r = *f->code->fn->rets[0];
    lanes(m, [&](int l) {
      std::memcpy(&p->params[size_t(l) * p->code->frameParams + f->site->retOffset],
                  &f->params[size_t(l) * f->code->frameParams + f->code->retBase], r.size);
    });
  }
  Group& g = groups[size_t(gi)];
  g.frame = p;
  g.pc = f->retPc;
  g.mask = m;
  f->lanes &= ~m;
  if (!f->lanes) freeFrames.push_back(f);
}

}  // namespace cudasim
