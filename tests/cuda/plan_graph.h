// A captured graph of one graph_plan.
#pragma once

#include <functional>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "radixkv/cuda_executor.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::testing {

// A graph that holds one graph_plan, then what `pass` captures on the stream, and its instance.
class plan_graph {
 public:
  explicit plan_graph(
      graph_plan& plan, const logits_rows_view& rows = {},
      const std::function<void(cudaStream_t)>& pass = [](cudaStream_t) {}) {
    test_stream stream;
    require_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    const status s = plan.capture(stream, rows);
    EXPECT_TRUE(s.ok()) << s.error().message;
    pass(stream);
    cudaGraph_t graph = nullptr;
    require_cuda(cudaStreamEndCapture(stream, &graph));
    require_cuda(cudaGraphInstantiate(&instance_, graph, 0));
    require_cuda(cudaGraphDestroy(graph));
  }
  ~plan_graph() { (void)cudaGraphExecDestroy(instance_); }
  plan_graph(const plan_graph&) = delete;
  plan_graph& operator=(const plan_graph&) = delete;
  operator cudaGraphExec_t() const { return instance_; }

 private:
  cudaGraphExec_t instance_ = nullptr;
};

}  // namespace radixkv::testing
