// NVTX ranges of radixkv: one domain, one macro.
//
//     RADIXKV_RANGE("cuda_executor::run");   // from here to the end of the scope
//
// A range costs a few instructions when no tool is attached. The name is a string literal.
#pragma once

#include <nvtx3/nvToolsExt.h>

namespace radixkv::detail {

// The domain `radixkv`, created when it is first used and never destroyed: nothing runs at exit.
inline nvtxDomainHandle_t nvtx_domain() noexcept {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("radixkv");
  return domain;
}

class nvtx_range {
 public:
  explicit nvtx_range(const char* name) noexcept {
    nvtxEventAttributes_t attributes = {};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = name;
    (void)nvtxDomainRangePushEx(nvtx_domain(), &attributes);
  }
  nvtx_range(const nvtx_range&) = delete;
  nvtx_range& operator=(const nvtx_range&) = delete;
  ~nvtx_range() { (void)nvtxDomainRangePop(nvtx_domain()); }
};

}  // namespace radixkv::detail

#define RADIXKV_RANGE(name) const ::radixkv::detail::nvtx_range radixkv_range_(name)
