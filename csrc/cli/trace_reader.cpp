#include "csrc/cli/trace_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <unordered_map>

#include "csrc/cli/trace_line.h"
#include "radixkv/types.h"

namespace radixkv::cli {
namespace {

// Turns lines into requests, one at a time.
class trace_builder {
 public:
  trace_builder(std::string name, const trace_options& options)
      : name_(std::move(name)), options_(options) {
    trace_.source = name_;
  }

  [[nodiscard]] bool full() const noexcept { return trace_.requests.size() >= options_.limit; }

  // Takes the next line, without its newline.
  status add(std::string_view text) {
    ++number_;
    if (text.size() > options_.line_bytes) return line_too_long();
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return {};
    if (status s = parse_trace_line(text, options_.block_tokens, line_); !s) {
      return fail(s.error().message);
    }
    trace_request request;
    // Recorders interleave; the clock of the cache never goes back.
    seconds_ = std::max(seconds_, line_.timestamp_ms / 1000.0);
    request.seconds = seconds_;
    request.prompt_tokens = line_.input_length;
    request.output_tokens = line_.output_length;
    request.name_space = name_space();
    request.first_segment = trace_.segments.size();
    request.segments = static_cast<std::uint32_t>(line_.hash_ids.size());
    std::uint32_t left = line_.input_length;
    for (const std::uint64_t id : line_.hash_ids) {
      const std::uint32_t tokens = std::min(left, options_.block_tokens);
      trace_.segments.push_back({id, tokens});
      left -= tokens;
    }
    trace_.requests.push_back(request);
    return {};
  }

  status line_too_long() const {
    return fail("longer than the limit of " + std::to_string(options_.line_bytes) + " bytes");
  }
  void begin_line() noexcept { ++number_; }

  // Of a trace that does not fit. What was read is given back first, so that this can be said.
  error no_memory() {
    trace_ = {};
    line_ = {};
    return fail("no memory for the requests up to here", errc::out_of_memory).error();
  }

  result<trace> finish() {
    if (trace_.requests.empty()) {
      return error{errc::invalid_argument, name_ + " holds no request, at least 1 is needed"};
    }
    return std::move(trace_);
  }

 private:
  [[nodiscard]] status fail(const std::string& what, errc code = errc::invalid_argument) const {
    return {code, name_ + ":" + std::to_string(number_) + ": " + what};
  }

  std::uint32_t name_space() {
    if (line_.name_space.empty()) return 0;
    const auto [at, added] = name_spaces_.try_emplace(
        line_.name_space, static_cast<std::uint32_t>(trace_.name_spaces.size()));
    if (added) trace_.name_spaces.push_back(line_.name_space);
    return at->second;
  }

  std::string name_;
  trace_options options_;
  trace trace_;
  trace_line line_;
  std::unordered_map<std::string, std::uint32_t> name_spaces_;
  std::size_t number_ = 0;
  double seconds_ = 0;
};

status check(const trace_options& options) {
  if (options.block_tokens < 1 || options.block_tokens > (1u << 20)) {
    return {errc::invalid_argument, "the trace's block size is " +
                                        std::to_string(options.block_tokens) +
                                        ", outside 1 … 1048576 tokens"};
  }
  return {};
}

error io_error(const std::string& path, int number) {
  return {errc::io, "cannot read " + path + ": " + std::strerror(number)};
}

result<trace> read_lines(std::FILE* file, const std::string& path, const trace_options& options,
                         trace_builder& builder) {
  std::string line;
  std::string buffer(1u << 20, '\0');
  for (;;) {
    const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), file);
    if (count == 0) break;
    std::string_view rest(buffer.data(), count);
    while (!rest.empty() && !builder.full()) {
      const std::size_t end = rest.find('\n');
      line.append(rest.substr(0, end));
      if (line.size() > options.line_bytes) {
        builder.begin_line();
        return builder.line_too_long().error();
      }
      if (end == std::string_view::npos) break;
      if (status s = builder.add(line); !s) return s.error();
      line.clear();
      rest.remove_prefix(end + 1);
    }
    if (builder.full()) break;
  }
  if (std::ferror(file) != 0) return io_error(path, errno);
  if (!line.empty() && !builder.full()) {
    if (status s = builder.add(line); !s) return s.error();
  }
  return builder.finish();
}

}  // namespace

result<trace> parse_trace(std::string_view text, const std::string& name,
                          const trace_options& options) {
  if (status s = check(options); !s) return s.error();
  trace_builder builder(name, options);
  try {
    while (!text.empty() && !builder.full()) {
      const std::size_t end = text.find('\n');
      if (status s = builder.add(text.substr(0, end)); !s) return s.error();
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return builder.finish();
  } catch (const std::bad_alloc&) {
    return builder.no_memory();
  }
}

result<trace> read_trace(const std::string& path, const trace_options& options) {
  if (status s = check(options); !s) return s.error();
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (!file) return io_error(path, errno);

  trace_builder builder(path, options);
  try {
    return read_lines(file.get(), path, options, builder);
  } catch (const std::bad_alloc&) {
    return builder.no_memory();
  }
}

}  // namespace radixkv::cli
