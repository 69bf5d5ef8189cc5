// Makes the nth call of the CUDA runtime fail. The test program defines the runtime's functions
// itself (fault_injection.cpp) and passes calls on to the library behind it, so that every call of
// radixkv is met, kernel launches included, and the library under test knows nothing of it.
#pragma once

#include <cstdint>

namespace radixkv::testing {

// The nth counted call from now (0: the next) fails once, without any effect. Negative: none.
void fail_cuda_call(std::int64_t nth);
// The next `count` calls from the nth on fail.
void fail_cuda_calls(std::int64_t nth, std::int64_t count);
// Called whenever a call fails by the above, in its thread; null: nothing is.
void at_cuda_failure(void (*action)());
// Whether the failure asked for last has happened, and the name of the function that it met; they
// stay until another one is asked for.
[[nodiscard]] bool cuda_call_failed();
[[nodiscard]] const char* failed_cuda_call();
// Calls counted since the program was loaded.
[[nodiscard]] std::int64_t cuda_calls();

}  // namespace radixkv::testing
