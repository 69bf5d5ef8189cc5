// Operating errors as values: `status` for operations without a result, `result<T>` for the others.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

namespace radixkv {

enum class errc : unsigned char {
  invalid_argument,  // a value outside its documented range; the message names value and limit
  out_of_blocks,     // not enough free or evictable blocks: ordinary under load, retry later
  out_of_memory,     // the host or the device refused memory
  released,          // the sequence was released, moved from, or its plan failed
  corrupt,           // serialised data failed validation
  device,            // the device or its runtime reported an error
  not_found,         // nothing of that name
  io,                // a file could not be read or written
  busy               // work in flight holds what is needed: ordinary, retry when it is done
};

// Name of a code, for logs. Never null.
[[nodiscard]] const char* to_string(errc code) noexcept;

struct error {
  errc code = errc::invalid_argument;
  std::string message;
};

// Success, or an error. Thread-safety: a plain value.
class [[nodiscard]] status {
 public:
  status() noexcept = default;
  status(radixkv::error e) : error_(std::move(e)) {}
  status(errc code, std::string message) : error_(radixkv::error{code, std::move(message)}) {}

  [[nodiscard]] bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  // REQUIRES: !ok().
  [[nodiscard]] const radixkv::error& error() const& noexcept {
    assert(error_);
    return *error_;
  }
  // Moved out, without an allocation.
  [[nodiscard]] radixkv::error error() && noexcept {
    assert(error_);
    return std::move(*error_);
  }

 private:
  std::optional<radixkv::error> error_;
};

// A value, or an error. Thread-safety: as safe as T.
template <typename T>
class [[nodiscard]] result {
 public:
  result(T value) : value_(std::move(value)) {}
  result(radixkv::error e) : error_(std::move(e)) {}
  result(errc code, std::string message) : error_{code, std::move(message)} {}

  [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return ok(); }
  // REQUIRES: ok().
  [[nodiscard]] T& value() & {
    assert(ok());
    return *value_;
  }
  [[nodiscard]] const T& value() const& {
    assert(ok());
    return *value_;
  }
  [[nodiscard]] T&& value() && {
    assert(ok());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  // REQUIRES: !ok().
  [[nodiscard]] const radixkv::error& error() const& noexcept {
    assert(!ok());
    return error_;
  }
  [[nodiscard]] radixkv::error error() && noexcept {
    assert(!ok());
    return std::move(error_);
  }

 private:
  std::optional<T> value_;
  radixkv::error error_;
};

}  // namespace radixkv
