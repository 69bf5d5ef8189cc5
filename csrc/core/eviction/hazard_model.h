// Learns how likely a run of blocks is to be used again at each age, and ranks runs by it.
//
// Ages are counted in requests and fall into bins. The hazard of bin b, the probability that a run
// which reached the bin is used within it, is a logistic model of one-hot features: a weight for
// each feature, and one for each feature in each of four groups of bins. It is learnt online from
// every run, evicted ones too, so nothing is censored. A run's key is its Gittins index: the best
// ratio of expected uses to the time that its blocks are held for them (Gittins, "Bandit processes
// and dynamic allocation indices", 1979; for caches, hits per unit of held space and time: LHD,
// Beckmann et al., NSDI 2018). Steps are AdaGrad's (Duchi et al., JMLR 2011).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "csrc/core/eviction/reuse_index_options.h"
#include "radixkv/result.h"

namespace radixkv::detail {

// What the model knows of a run: categories packed in 32 bits.
class run_features {
 public:
  enum field : std::uint32_t {
    uses,      // earlier uses: 0, 1, 2, 3–4, 5–8, 9–16, 17–32, 33+
    children,  // continuations ever seen behind the run's last block: 0 … 4+
    depth,     // first block's, in units of 512 tokens: 0, <3, <9, <33, 33+
    output,    // tokens generated: <16, <64, <128, <256, <384, <512, <768, 768+
    fresh,     // log2 of the prompt's units never seen before
    turn,      // of the conversation: 0 … 5+
    pause,     // seconds since what this request continues was used: <15, <30, …, 960+ or nothing
    remnant,   // log2 of the units of that which this request did not use
    fields
  };

  constexpr run_features() = default;
  [[nodiscard]] static constexpr run_features of_tail() {
    run_features f;
    f.bits_ = tail_bit;
    return f;
  }
  [[nodiscard]] constexpr bool tail() const { return (bits_ & tail_bit) != 0; }
  [[nodiscard]] constexpr std::uint32_t get(field f) const { return (bits_ >> (3 * f)) & 7u; }
  constexpr void set(field f, std::uint32_t category) {
    bits_ = (bits_ & ~(7u << (3 * f))) | (category << (3 * f));
  }

  [[nodiscard]] static std::uint32_t uses_category(std::uint32_t n) {
    return n < 3 ? n : std::min<std::uint32_t>(7, std::bit_width(n - 1) + 1);
  }
  [[nodiscard]] static std::uint32_t children_category(std::uint32_t n) { return std::min(4u, n); }
  [[nodiscard]] static std::uint32_t depth_category(std::uint32_t units) {
    return units == 0 ? 0 : units < 3 ? 1 : units < 9 ? 2 : units < 33 ? 3 : 4;
  }
  [[nodiscard]] static std::uint32_t output_category(std::uint32_t tokens);
  [[nodiscard]] static std::uint32_t log2_category(std::uint32_t units) {
    return std::min<std::uint32_t>(7, std::bit_width(units));
  }
  [[nodiscard]] static std::uint32_t pause_category(double seconds);

 private:
  static constexpr std::uint32_t tail_bit = 1u << 31;
  std::uint32_t bits_ = 0;
};

// What became of a run in a bin.
struct lesson {
  run_features features;
  std::uint32_t bin = 0;
  bool used = false;  // it was used within the bin; else it outlived it
  std::uint32_t tokens = 0;
  float times = 1;  // as many lessons of its kind it counts for
};

class hazard_model {
 public:
  static constexpr std::uint32_t bins = 20;
  explicit hazard_model(const hazard_options& options = {});

  // Age in requests at which bin b begins; edge(bins) ends the last one.
  [[nodiscard]] static double edge(std::uint32_t bin);

  // Four at a time: what is expected of four is computed before any of them changes a weight.
  void learn(std::span<const lesson> lessons);
  void learn(const lesson& l) { learn(std::span(&l, 1)); }
  [[nodiscard]] float hazard(run_features f, std::uint32_t bin) const;
  // Brings what key() uses of the bins' own weights up to date.
  void prepare_keys();
  // Expected uses per unit of time held, for a run that has just reached the bin.
  [[nodiscard]] float key(run_features f, std::uint32_t bin) const;
  [[nodiscard]] std::array<float, 4> keys(const std::array<run_features, 4>& f,
                                          const std::array<std::uint32_t, 4>& bins) const;

  // Everything learnt, with a checksum; the same bytes on every machine.
  [[nodiscard]] std::vector<std::byte> save() const;
  // Errors: corrupt, saying what is wrong; the model is then as it was.
  [[nodiscard]] status load(std::span<const std::byte> bytes);

 private:
  static constexpr std::uint32_t groups = 4, features = 110, most_active = 11;
  // A weight, and the sum of its squared gradients.
  struct cell {
    float weight = 0, squares = 0;
  };
  // What is known of a feature, one cache line: of [0] all bins, [1 + g] group g. The first four
  // are a register each, so that a lesson of one of those groups takes one of each.
  struct alignas(64) row {
    std::array<float, 8> weights{}, squares{};
  };
  // Indices of the rows of a run's features, of which a tail has one.
  using row_list = std::array<std::uint32_t, most_active>;
  struct logits;  // of a run in each group, but for the bins' own weights

  static void list_rows(run_features f, row_list& rows);
  [[nodiscard]] static std::uint32_t group(std::uint32_t bin) { return bin / (bins / groups); }
  [[nodiscard]] logits logits_of(run_features f) const;
  void learn_some(const lesson* lessons, std::uint32_t n);
  struct step;

  hazard_options options_;
  std::array<row, features> rows_{};
  std::array<cell, bins> theta_{};
  std::array<float, bins> odds_against_{}, width_{};  // of each bin: e^-θ; its width in requests
};

}  // namespace radixkv::detail
