// Weak memory in kernels of several threads per block: reductions, locks, barriers.
#include <cooperative_groups.h>

#include "weak.cuh"

namespace {

// The last block adds up what all have written (the CUDA sample threadFenceReduction).
__global__ void reduction(unsigned* m, unsigned* out, By by) {
  __shared__ unsigned partial[64];
  __shared__ bool last;
  unsigned t = threadIdx.x;
  partial[t] = 64 * blockIdx.x + t;
  for (unsigned d = 32; d > 0; d /= 2) {
    __syncthreads();
    if (t < d) partial[t] += partial[t + d];
  }
  if (t == 0) {
    plain(m + 32 + blockIdx.x, partial[0]);
    fenceFor(by, true);
    last = atomicAdd(m, 1) == gridDim.x - 1;
    fenceFor(by, false);
  }
  __syncthreads();
  if (!last || t >= gridDim.x) return;
  atomicAdd(out, plain(m + 32 + t));
}
TEST(Weak, LastBlockReduction) {
  const Result right{512 * 511 / 2};
  auto run = [](By by) {
    return outcomes(1, [&](auto m, auto out) { reduction<<<8, 64>>>(m, out, by); });
  };
  auto seen = run(By::Nothing);
  EXPECT_TRUE(seen.count(right));
  EXPECT_GT(seen.size(), 1u);
  EXPECT_EQ(run(By::Fences), std::set<Result>{right});
  EXPECT_EQ(run(By::AcqRelFences), std::set<Result>{right});
  EXPECT_GT(run(By::WriterFence).size(), 1u);
  EXPECT_GT(run(By::ReaderFence).size(), 1u);
}

// More stores to a word, and more readers of one, than are remembered: nothing that they order is
// lost.
__global__ void broadcast(unsigned* m, unsigned* out, By by) {
  if (blockIdx.x == 0) {
    plain(m + 64, 1);
    fenceFor(by, true);
    put(m, 1, by);
  } else {
    await(m, 1, by);
    fenceFor(by, false);
    if (plain(m + 64) != 1) out[0] = 1;
  }
}
TEST(Weak, ManyBlocks) {
  constexpr int kFew = 20;
  auto reduce = [](By by) {
    return outcomes(
        1, [&](auto m, auto out) { reduction<<<60, 64>>>(m, out, by); }, kFew);
  };
  EXPECT_GT(reduce(By::Nothing).size(), 1u);
  auto spread = [](By by) {
    return outcomes(
        1, [&](auto m, auto out) { broadcast<<<200, 1>>>(m, out, by); }, kFew);
  };
  EXPECT_TRUE(spread(By::Nothing).count({1}));
  for (By by : {By::Fences, By::AcqRelFences}) {
    EXPECT_EQ(reduce(by), (std::set<Result>{{3840 * 3839 / 2}}));
    EXPECT_EQ(spread(by), (std::set<Result>{{0}}));
  }
  EXPECT_EQ(spread(By::ReleaseAcquire), (std::set<Result>{{0}}));
}

// 6 MB of stores between a release and its acquire: more than are remembered, too.
__global__ void fill(unsigned* m, unsigned* data, unsigned words, unsigned* out) {
  __shared__ bool last;
  unsigned t = threadIdx.x;
  unsigned* mine = data + blockIdx.x * words;
  for (unsigned i = t; i < words; i += blockDim.x) plain(mine + i, 7 * i);
  __syncthreads();
  if (t == 0) {
    __threadfence();
    last = atomicAdd(m, 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  for (unsigned i = t; last && i < gridDim.x * words; i += blockDim.x)
    if (plain(data + i) != 7 * (i % words)) *out = 1;
}
TEST(Weak, ManyStores) {
  constexpr unsigned kBlocks = 24, kWords = 1 << 16;
  Dev<unsigned> data(size_t(kBlocks) * kWords);
  EX(cudaMemset(data, 0, size_t(kBlocks) * kWords * 4));
  EXPECT_EQ(outcomes(
                1, [&](auto m, auto out) { fill<<<kBlocks, 256>>>(m, data, kWords, out); }, 1),
            (std::set<Result>{{0}}));
}

// Prefix sums by look-back: a block takes a ticket, publishes its own sum, then its prefix, each as
// a value and a state beside it, and walks back to the nearest prefix (Merrill and Garland 2016).
__global__ void lookBack(unsigned* m, unsigned* out, By by) {
  unsigned* states = m + 32;
  unsigned* sums = m + 64;
  unsigned* prefixes = m + 96;
  unsigned tile = atomicAdd(m, 1), mine = tile * tile + 1, before = 0;
  plain(sums + tile, mine);
  fenceFor(by, true);
  put(states + tile, 1, by);
  for (unsigned t = tile; t-- > 0;) {
    unsigned state;
    while ((state = get(states + t, by)) == 0) __nanosleep(20);
    fenceFor(by, false);
    before += plain((state == 2 ? prefixes : sums) + t);
    if (state == 2) break;
  }
  plain(prefixes + tile, before + mine);
  fenceFor(by, true);
  put(states + tile, 2, by);
  plain(out + tile, before);
}
TEST(Weak, LookBack) {
  Result right;
  for (unsigned t = 0, sum = 0; t < 12; sum += t * t + 1, ++t) right.push_back(sum);
  auto run = [](By by) {
    return outcomes(12, [&](auto m, auto out) { lookBack<<<12, 1>>>(m, out, by); });
  };
  for (By by : {By::Nothing, By::WriterFence, By::ReaderFence, By::BlockFences}) {
    auto seen = run(by);
    EXPECT_TRUE(seen.count(right));
    EXPECT_GT(seen.size(), 1u);
  }
  for (By by : {By::Fences, By::AcqRelFences, By::ReleaseAcquire, By::CudaAtomics})
    EXPECT_EQ(run(by), std::set<Result>{right});
}

// A block passes 64 words to another one, whose threads wait behind one of them. Fences: by the
// thread that signals, or by all before the barrier, or by none.
enum class Fenced { None, Signaller, All };
__global__ void blockToBlock(unsigned* m, unsigned* out, Fenced fenced) {
  unsigned t = threadIdx.x;
  if (blockIdx.x == 0) {
    plain(m + 64 + t, t + 1);
    if (fenced == Fenced::All) __threadfence();
    __syncthreads();
    if (t == 0) {
      if (fenced == Fenced::Signaller) __threadfence();
      put(m, 1, By::Nothing);
    }
  } else {
    if (t == 0) {
      await(m, 1, By::Nothing);
      if (fenced == Fenced::Signaller) __threadfence();
    }
    __syncthreads();
    if (fenced == Fenced::All) __threadfence();
    if (plain(m + 64 + t) != t + 1) out[0] = 1;
  }
}
TEST(Weak, BarriersOrderWithinABlockOnly) {
  auto run = [](Fenced fenced) {
    return outcomes(1, [&](auto m, auto out) { blockToBlock<<<2, 64>>>(m, out, fenced); });
  };
  EXPECT_TRUE(run(Fenced::None).count({1}));
  EXPECT_EQ(run(Fenced::Signaller), (std::set<Result>{{0}}));
  EXPECT_EQ(run(Fenced::All), (std::set<Result>{{0}}));
}

__global__ void locked(unsigned* m, By by) {
  for (int i = 0; i < 4; ++i) {
    while (atomicCAS(m, 0, 1) != 0) __nanosleep(20);
    fenceFor(by, false);
    plain(m + 32, plain(m + 32) + 1);
    fenceFor(by, true);
    atomicExch(m, 0);
  }
}
__global__ void takeWord(const unsigned* m, unsigned* out) { *out = *m; }
TEST(Weak, SpinLock) {
  auto run = [](By by) {
    return outcomes(1, [&](auto m, auto out) {
      locked<<<8, 1>>>(m, by);
      takeWord<<<1, 1>>>(m + 32, out);
    });
  };
  EXPECT_GT(run(By::Nothing).size(), 1u);
  EXPECT_GT(run(By::BlockFences).size(), 1u);
  EXPECT_EQ(run(By::Fences), (std::set<Result>{{32}}));
  EXPECT_EQ(run(By::AcqRelFences), (std::set<Result>{{32}}));
}

// Neighbours exchange words across the grid's barrier.
__global__ void exchange(unsigned* m, unsigned* out) {
  auto grid = cooperative_groups::this_grid();
  unsigned all = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned* from = m;
  unsigned* to = m + 512;
  plain(from + i, i);
  for (int round = 0; round < 3; ++round) {
    grid.sync();
    plain(to + i, plain(from + (i + 64) % all) + 1);
    unsigned* swap = from;
    from = to;
    to = swap;
  }
  if (plain(from + i) != (i + 192) % all + 3) out[0] = 1;
}
TEST(Weak, GridBarrier) {
  EXPECT_EQ(
      outcomes(1,
               [&](auto m, auto out) {
                 void* args[] = {&m, &out};
                 EX(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(exchange), 4, 64, args));
               }),
      (std::set<Result>{{0}}));
}

// The barrier of a cluster, and flags and mbarriers in shared memory, order global memory, too.
__global__ void __cluster_dims__(2) inCluster(unsigned* m, unsigned* out) {
  auto cluster = cooperative_groups::this_cluster();
  unsigned i = cluster.block_rank() * blockDim.x + threadIdx.x;
  plain(m + i, i + 1);
  cluster.sync();
  if (plain(m + (i ^ 64)) != (i ^ 64) + 1) out[0] = 1;
}
__global__ void throughShared(unsigned* m, unsigned* out) {
  __shared__ volatile unsigned flag;
  __shared__ unsigned long long barrier;
  auto at = unsigned(__cvta_generic_to_shared(&barrier));
  unsigned t = threadIdx.x;
  if (t == 0) {
    flag = 0;
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at) : "memory");
  }
  __syncthreads();
  m += 64 * blockIdx.x;
  if (t == 0) {
    plain(m, 1);
    flag = 1;
  } else if (t == 32) {
    while (flag == 0) __nanosleep(20);
    plain(m + 1, plain(m) + 1);
    asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0]; }" ::"r"(at) : "memory");
  } else if (t == 64) {
    unsigned done = 0;
    while (!done)
      asm volatile(
          "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(at)
          : "memory");
    if (plain(m + 1) != 2) out[0] = 1;
  }
}
TEST(Weak, BarriersOfClustersAndSharedMemory) {
  EXPECT_EQ(outcomes(1, [&](auto m, auto out) { inCluster<<<2, 64>>>(m, out); }),
            (std::set<Result>{{0}}));
  EXPECT_EQ(outcomes(1, [&](auto m, auto out) { throughShared<<<4, 96>>>(m, out); }),
            (std::set<Result>{{0}}));
}

// The end of a kernel orders everything: for the next kernel, and for the host.
__global__ void iota(unsigned* m) { m[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x; }
__global__ void reversed(const unsigned* m, unsigned* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = m[gridDim.x * blockDim.x - 1 - threadIdx.x];
}
TEST(Weak, KernelsInOrder) {
  Result want;
  for (unsigned i = 0; i < 256; ++i) want.push_back(63 - i % 64);
  EXPECT_EQ(outcomes(256,
                     [&](auto m, auto out) {
                       iota<<<4, 64>>>(m);
                       reversed<<<4, 64>>>(m, out);
                     }),
            (std::set<Result>{want}));
}

}  // namespace
