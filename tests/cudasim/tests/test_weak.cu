// Litmus tests of the weak-memory mode: what must be seen without the right fence, and what must
// never be seen with it. Every launch is a trial of its own.
#include "weak.cuh"

namespace {

// --- message passing ---------------------------------------------------------------------------
// The flag lies beside the data, in one piece of 16 bytes, or far away.
__global__ void pass(unsigned* m, unsigned* out, By by, int flag) {
  if (blockIdx.x == 0) {
    plain(m, 1);
    fenceFor(by, true);
    put(m + flag, 1, by);
  } else {
    await(m + flag, 1, by);
    fenceFor(by, false);
    out[0] = plain(m);
  }
}
bool passes(By by) {
  bool ok = true;
  for (int flag : {1, 512}) {
    auto seen = outcomes(1, [&](auto m, auto out) { pass<<<2, 1>>>(m, out, by, flag); });
    EXPECT_TRUE(seen.count({1}));
    ok &= !seen.count({0});
  }
  return ok;
}
TEST(Weak, MessagePassing) {
  EXPECT_FALSE(passes(By::Nothing));
  EXPECT_FALSE(passes(By::WriterFence));
  EXPECT_FALSE(passes(By::ReaderFence));
  EXPECT_FALSE(passes(By::BlockFences));
  EXPECT_FALSE(passes(By::BlockRelease));
  EXPECT_FALSE(passes(By::WeakFlag));  // fences order what strong accesses carry
  EXPECT_TRUE(passes(By::Fences));
  EXPECT_TRUE(passes(By::AcqRelFences));
  EXPECT_TRUE(passes(By::ReleaseAcquire));
  EXPECT_TRUE(passes(By::CudaAtomics));
}

// Between warps of one block the block's scope is enough.
__global__ void passInBlock(unsigned* m, unsigned* out, By by) {
  if (threadIdx.x == 0) {
    plain(m, 1);
    fenceFor(by, true);
    put(m + 1, 1, by);
  } else if (threadIdx.x == 32) {
    await(m + 1, 1, by);
    fenceFor(by, false);
    out[0] = plain(m);
  }
}
TEST(Weak, MessagePassingInABlock) {
  auto run = [](By by) {
    return outcomes(1, [&](auto m, auto out) { passInBlock<<<1, 64>>>(m, out, by); });
  };
  EXPECT_EQ(run(By::Nothing), (std::set<Result>{{0}, {1}}));
  EXPECT_EQ(run(By::BlockFences), (std::set<Result>{{1}}));
  EXPECT_EQ(run(By::BlockRelease), (std::set<Result>{{1}}));
  EXPECT_EQ(run(By::Fences), (std::set<Result>{{1}}));
}

// An atomic overtakes the plain store before it as well as a store does.
__global__ void passByAtomic(unsigned* m, unsigned* out, By by) {
  if (blockIdx.x == 0) {
    plain(m, 1);
    fenceFor(by, true);
    atomicAdd(m + 1, 1);
  } else {
    while (atomicAdd(m + 1, 0) != 1) __nanosleep(20);
    fenceFor(by, false);
    out[0] = plain(m);
  }
}
TEST(Weak, MessagePassingByAtomics) {
  auto run = [](By by) {
    return outcomes(1, [&](auto m, auto out) { passByAtomic<<<2, 1>>>(m, out, by); });
  };
  EXPECT_EQ(run(By::Nothing), (std::set<Result>{{0}, {1}}));
  EXPECT_EQ(run(By::Fences), (std::set<Result>{{1}}));
}

// An unordered store may even land after an atomic that the other block did later.
__global__ void initialise(unsigned* m, unsigned* out, By by) {
  if (blockIdx.x == 0) {
    plain(m, 100);
    fenceFor(by, true);
    put(m + 1, 1, by);
  } else {
    await(m + 1, 1, by);
    fenceFor(by, false);
    out[0] = atomicAdd(m, 1);
  }
}
__global__ void copyWord(const unsigned* m, unsigned* out) { out[1] = *m; }
TEST(Weak, StoresOvertakenByAtomics) {
  auto run = [](By by) {
    return outcomes(2, [&](auto m, auto out) {
      initialise<<<2, 1>>>(m, out, by);
      copyWord<<<1, 1>>>(m, out);
    });
  };
  EXPECT_EQ(run(By::Nothing), (std::set<Result>{{0, 100}, {100, 101}}));
  EXPECT_EQ(run(By::Fences), (std::set<Result>{{100, 101}}));
}

// What a release makes visible goes on through atomics of others, and through the releasing
// thread's next store.
__global__ void passOn(unsigned* m, unsigned* out, bool atomic) {
  if (blockIdx.x == 0) {
    plain(m, 1);
    put(m + 1, 1, By::ReleaseAcquire);
    if (!atomic) put(m + 1, 2, By::Nothing);
  } else if (blockIdx.x == 1) {
    if (atomic) {
      while (atomicCAS(m + 1, 1, 2) != 1) __nanosleep(20);
    }
  } else {
    await(m + 1, 2, By::ReleaseAcquire);
    out[0] = plain(m);
  }
}
TEST(Weak, ReleaseSequences) {
  for (bool atomic : {true, false})
    EXPECT_EQ(outcomes(1, [&](auto m, auto out) { passOn<<<3, 1>>>(m, out, atomic); }),
              (std::set<Result>{{1}}));
}

// --- the other classic shapes --------------------------------------------------------------------
__global__ void storeBuffering(unsigned* m, unsigned* out, By by) {
  unsigned b = blockIdx.x;
  put(m + 32 * b, 1, By::Nothing);
  fenceFor(by, true);
  out[b] = get(m + 32 * (1 - b), By::Nothing);
}
TEST(Weak, StoreBuffering) {
  auto bothOld = [](By by) {
    return outcomes(2, [&](auto m, auto out) {
             storeBuffering<<<2, 1>>>(m, out, by);
           }).count({0, 0}) != 0;
  };
  EXPECT_TRUE(bothOld(By::Nothing));
  EXPECT_TRUE(bothOld(By::AcqRelFences));
  EXPECT_FALSE(bothOld(By::Fences));
}

// A thread passes on what it has itself only read (cumulativity).
__global__ void writeToRead(unsigned* m, unsigned* out, By by) {
  if (blockIdx.x == 0) {
    put(m, 1, By::Nothing);
  } else if (blockIdx.x == 1) {
    await(m, 1, By::Nothing);
    fenceFor(by, true);
    put(m + 32, 1, by);
  } else {
    await(m + 32, 1, by);
    fenceFor(by, false);
    out[0] = get(m, By::Nothing);
  }
}
TEST(Weak, WriteToReadCausality) {
  auto run = [](By by) {
    return outcomes(1, [&](auto m, auto out) { writeToRead<<<3, 1>>>(m, out, by); });
  };
  EXPECT_EQ(run(By::Nothing), (std::set<Result>{{0}, {1}}));
  for (By by : {By::Fences, By::AcqRelFences, By::ReleaseAcquire, By::CudaAtomics})
    EXPECT_EQ(run(by), (std::set<Result>{{1}}));
}

// Two readers see two independent stores in different orders, unless fences forbid it.
__global__ void independentReads(unsigned* m, unsigned* out, By by) {
  unsigned b = blockIdx.x;
  if (b < 2) {
    put(m + 32 * b, 1, By::Nothing);
  } else {
    unsigned first = get(m + 32 * (b - 2), By::Nothing);
    fenceFor(by, false);
    out[b - 2] = first == 1 && get(m + 32 * (3 - b), By::Nothing) == 0;
  }
}
TEST(Weak, IndependentReadsOfIndependentWrites) {
  auto differ = [](By by) {
    return outcomes(2, [&](auto m, auto out) {
             independentReads<<<4, 1>>>(m, out, by);
           }).count({1, 1}) != 0;
  };
  EXPECT_TRUE(differ(By::Nothing));
  EXPECT_TRUE(differ(By::AcqRelFences));
  EXPECT_FALSE(differ(By::Fences));
}

// --- one address ---------------------------------------------------------------------------------
// Stores of a thread to an address are seen in order by each reader, also when readers pass on what
// they saw through a barrier; a thread always sees its own.
__global__ void coherence(unsigned* m, unsigned* out) {
  __shared__ unsigned seen;
  if (blockIdx.x == 0) {
    for (unsigned i = 1; i <= 40 && threadIdx.x == 0; ++i) {
      plain(m, i);
      if (plain(m) != i) out[0] = 1;
    }
    return;
  }
  unsigned last = 0;
  for (unsigned i = 0; i < 40; ++i) {
    for (int k = 0; k < 4; ++k) {
      unsigned now = k & 1 ? plain(m) : get(m, By::Nothing);
      if (now < last) out[1] = 1;
      last = now;
    }
    __syncthreads();
    if (threadIdx.x == 32 * (i % 2)) seen = last;
    __syncthreads();
    if (plain(m) < seen) out[2] = 1;
    last = max(last, seen);
  }
  if (threadIdx.x == 0 && last > 0 && last < 40) out[3] = 1;
}
TEST(Weak, Coherence) {
  auto seen = outcomes(4, [&](auto m, auto out) { coherence<<<3, 64>>>(m, out); });
  for (auto& s : seen) {
    EXPECT_EQ(s[0], 0u);
    EXPECT_EQ(s[1], 0u);
    EXPECT_EQ(s[2], 0u);
  }
  EXPECT_TRUE(seen.count({0, 0, 0, 1}));  // values in between do occur
}

// A 16-byte store is seen whole; words and bytes of it may be replaced one by one.
__global__ void sizes(uint4* m, unsigned* out) {
  auto* words = reinterpret_cast<unsigned*>(m);
  auto* bytes = reinterpret_cast<unsigned char*>(m);
  if (blockIdx.x == 0) {
    *m = make_uint4(1, 1, 1, 1);
    *m = make_uint4(2, 2, 2, 2);
  } else if (blockIdx.x == 1) {
    uint4 v;
    do {
      asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "l"(m)
                   : "memory");
      if (v.x != v.y || v.y != v.z || v.z != v.w) out[0] = 1;
    } while (v.x != 2);
    plain(words + 1, 0x01020304);
    *reinterpret_cast<volatile unsigned char*>(bytes + 4) = 9;
    if (plain(words + 1) != 0x01020309) out[1] = 1;
    if (*reinterpret_cast<volatile unsigned short*>(bytes + 6) != 0x0102) out[2] = 1;
    if (*reinterpret_cast<volatile unsigned long long*>(m) != 0x0102030900000002) out[3] = 1;
  }
}
TEST(Weak, Sizes) {
  EXPECT_EQ(
      outcomes(4, [&](auto m, auto out) { sizes<<<2, 1>>>(reinterpret_cast<uint4*>(m), out); }),
      (std::set<Result>{{0, 0, 0, 0}}));
}

}  // namespace
