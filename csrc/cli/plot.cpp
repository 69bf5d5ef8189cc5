#include "csrc/cli/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <vector>

#include "csrc/cli/text.h"

namespace radixkv::cli {
namespace {

constexpr double width = 760, height = 460;
constexpr double left = 70, right = 600, top = 50, bottom = 400;
// Okabe and Ito's palette, which colour-blind readers tell apart.
constexpr const char* colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                   "#e69f00", "#56b4e9", "#000000"};

template <typename... Values>
std::string text(const char* format, Values... values) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

std::string escaped(const std::string& s) {
  std::string legal = utf8(s);
  // U+FFFE and U+FFFF are UTF-8, but no characters of XML (1.0, production 2).
  for (const char* none : {"\xef\xbf\xbe", "\xef\xbf\xbf"}) {
    for (std::size_t at; (at = legal.find(none)) != std::string::npos;) legal.replace(at, 3, "?");
  }
  std::string out;
  for (const char c : legal) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        // Names of files may hold anything; an SVG may not.
        out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

struct axes {
  double least, most;  // log10 of tokens
  double top_rate;

  [[nodiscard]] double x(double tokens) const {
    if (most <= least) return (left + right) / 2;
    return left + (right - left) * (std::log10(tokens) - least) / (most - least);
  }
  [[nodiscard]] double y(double rate) const { return bottom - (bottom - top) * rate / top_rate; }
};

axes axes_for(std::span<const replay_result> results) {
  axes a{1e9, -1e9, 0};
  double rate = 0;
  for (const replay_result& r : results) {
    const double tokens =
        std::log10(static_cast<double>(std::max<std::uint64_t>(r.capacity_tokens, 1)));
    a.least = std::min(a.least, tokens);
    a.most = std::max(a.most, tokens);
    rate = std::max(rate, r.block_hit_rate());
  }
  a.top_rate = std::max(0.05, std::ceil(rate * 20) / 20);
  return a;
}

std::string grid(const axes& a, std::span<const replay_result> results) {
  std::string out;
  const double step = a.top_rate > 0.5 ? 0.1 : 0.05;
  for (int i = 0; i * step <= a.top_rate + 1e-9; ++i) {
    const double y = a.y(i * step);
    out += text("<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left,
                y, right, y);
    out += text("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.0f %%</text>\n", left - 8, y + 4,
                100 * i * step);
  }
  std::map<std::uint64_t, std::string> capacities;
  for (const replay_result& r : results) {
    capacities[std::max<std::uint64_t>(r.capacity_tokens, 1)] = r.capacity;
  }
  for (const auto& [tokens, name] : capacities) {
    const double x = a.x(static_cast<double>(tokens));
    out += text("<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\" stroke=\"#ddd\"/>\n", x, top,
                x, bottom);
    out += text("<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">", x, bottom + 20);
    out += escaped(name) + "</text>\n";
  }
  return out;
}

}  // namespace

std::string to_svg(std::span<const replay_result> results) {
  std::vector<std::string> policies;
  for (const replay_result& r : results) {
    if (std::find(policies.begin(), policies.end(), r.policy) == policies.end()) {
      policies.push_back(r.policy);
    }
  }
  const axes a = axes_for(results);
  std::string out = text(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" "
      "font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      width, height);
  out += text("<text x=\"%.0f\" y=\"28\" font-size=\"15\">", left);
  out += "Block hit rate, " + escaped(results.front().source) + ", blocks of " +
         std::to_string(results.front().block_tokens) + " tokens</text>\n";
  out += grid(a, results);
  out += text("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">capacity, tokens</text>\n",
              (left + right) / 2, bottom + 44);

  for (std::size_t p = 0; p < policies.size(); ++p) {
    const char* const colour = colours[p % std::size(colours)];
    std::vector<std::pair<double, double>> points;
    for (const replay_result& r : results) {
      if (r.policy != policies[p]) continue;
      const double tokens = static_cast<double>(std::max<std::uint64_t>(r.capacity_tokens, 1));
      points.emplace_back(a.x(tokens), a.y(r.block_hit_rate()));
    }
    std::sort(points.begin(), points.end());
    out += "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + std::string(colour) +
           "\" points=\"";
    for (const auto& [x, y] : points) out += text("%.1f,%.1f ", x, y);
    out += "\"/>\n";
    for (const auto& [x, y] : points) {
      out += text("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, y, colour);
    }
    const double y = top + 10 + 22 * static_cast<double>(p);
    out +=
        text("<circle cx=\"%.0f\" cy=\"%.0f\" r=\"5\" fill=\"%s\"/>\n", right + 24, y - 4, colour);
    out += text("<text x=\"%.0f\" y=\"%.0f\">", right + 36, y) + escaped(policies[p]) + "</text>\n";
  }
  return out + "</svg>\n";
}

}  // namespace radixkv::cli
