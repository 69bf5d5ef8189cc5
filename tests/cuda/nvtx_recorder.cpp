// An NVTX tool for the test of the ranges: a shared library that NVTX loads because the environment
// variable NVTX_INJECTION64_PATH names it. Records what is pushed into which domain.
#include <cstring>
#include <mutex>
#include <string>

#include <nvtx3/nvToolsExt.h>

namespace {

std::mutex mutex;
std::string* log = new std::string;  // never destroyed: ranges may end at exit
int depth = 0;
char domain_tags[16];
std::string* domain_names = new std::string[16];
int domains = 0;

nvtxDomainHandle_t create_domain(const char* name) {
  const std::lock_guard lock(mutex);
  if (domains == 16) return nullptr;
  domain_names[domains] = name;
  return reinterpret_cast<nvtxDomainHandle_t>(&domain_tags[domains++]);
}

int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  const std::lock_guard lock(mutex);
  const auto index = reinterpret_cast<const char*>(domain) - domain_tags;
  const bool known = index >= 0 && index < domains;
  // CUB has a domain of its own, and messages of another kind.
  const bool text = attributes->messageType == NVTX_MESSAGE_TYPE_ASCII;
  if (!known || domain_names[index] != "CCCL") {
    *log += (known ? domain_names[index] : "?") + ":" +
            (text ? attributes->message.ascii : "not a string") + "\n";
  }
  return depth++;
}

int pop(nvtxDomainHandle_t) {
  const std::lock_guard lock(mutex);
  return --depth;
}

template <class Function>
void set(NvtxFunctionTable table, unsigned size, unsigned index, Function* function) {
  if (index < size) *table[index] = reinterpret_cast<NvtxFunctionPointer>(function);
}

}  // namespace

extern "C" {

// Called by NVTX in the first call that the program makes.
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  if (callbacks == nullptr) return 0;
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  set(table, size, NVTX_CBID_CORE2_DomainCreateA, &create_domain);
  set(table, size, NVTX_CBID_CORE2_DomainRangePushEx, &push);
  set(table, size, NVTX_CBID_CORE2_DomainRangePop, &pop);
  return 1;
}

// "domain:range" of every push so far, one a line; valid until the next push.
const char* nvtx_recorder_log() { return log->c_str(); }
int nvtx_recorder_depth() { return depth; }
}
