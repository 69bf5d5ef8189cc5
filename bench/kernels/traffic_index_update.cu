// Traffic of index_update per delta (a block added or removed), at 16-token blocks. `steady`: a
// full cache, in which a block goes for every one that comes; `fill` and `drain` are its halves.

#include "bench/kernels/traffic_case.h"
#include "bench/kernels/update_batch.h"

namespace radixkv::bench {
namespace {

traffic_result run(bool adds, bool removes) {
  const device_update update({.adds = adds, .removes = removes});
  require(kernels::index_update(nullptr, update.arguments()), "index_update");
  traffic_result result;
  result.error = update.error();
  result.deltas = static_cast<double>(update.deltas());
  result.bytes_minimal = update.bytes_minimal();
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  all.push_back({"index_update", "steady", "index_update_kernel", [] { return run(true, true); }});
  all.push_back({"index_update", "fill", "index_update_kernel", [] { return run(true, false); }});
  all.push_back({"index_update", "drain", "index_update_kernel", [] { return run(false, true); }});
});

}  // namespace
}  // namespace radixkv::bench
