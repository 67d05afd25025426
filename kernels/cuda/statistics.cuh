// Percentiles of the foreground, or mean and deviation, of a volume on the device; nothing is copied back.
//
// Sums are integers: values times a power of two that leaves no room to overflow. So their order does not
// matter, the result is the same every time, and it is exact to 2^-34 of the largest value or better, which
// float32 sums are not. An order statistic is found digit by digit, eight bits of the ordered key a pass.
#pragma once
#include "normalise.cuh"

enum Counted { POSITIVE = 0, ALL = 1, NONZERO = 2 };

static const int RANKS = 4;  // below and above the lower percentile, below and above the upper one
static const int BINS = 256;

struct Statistics {
  Scale scale;
  u32 low, high;         // ordered keys of the lowest and highest value
  u64 bad;               // values that are neither finite nor OUTSIDE
  u64 sum, counted;      // integers of two's complement; how many
  u64 squares;           // of the distance from the mean
  u64 chosen;            // in the foreground
  u64 rank[RANKS];       // still to go within the prefix
  u32 prefix[RANKS];     // digits found so far
  float part[2];         // between the two order statistics of a percentile
  float threshold, mean;
  u32 bins[RANKS * BINS];
};

struct StatisticsParams {
  const void* values;  // float; Half too for the range
  Statistics* found;
  i64 count;
  u64 lower, upper;   // percentiles as fractions, 35 bits after the point
  u64 foreground;     // fraction of the mean, 64 bits after the point
  int counted;        // Counted
  int method;         // Method
  int digit;          // 0..3, which digit of a key
  int bits;           // 2^bits >= count
};

NPC_FN bool counts(float value, int counted) {
  return counted == POSITIVE ? value > 0.0f : counted == ALL ? true : value != 0.0f;
}

NPC_FN float power(int exponent) { return float_of(static_cast<u32>(exponent + 127) << 23); }
NPC_FN int exponent_above(float value) {  // the least e with |value| < 2^e, at least -125
  return static_cast<int>(bits_of(value) >> 23 & 0xffu) - 126;
}
// value * 2^e in two steps: e may lie beyond a float's exponents where the product does not.
NPC_FN float shifted(float value, int e) { return value * power(e / 2) * power(e - e / 2); }
NPC_FN float largest(const Statistics& s) {
  const float low = unordered(s.low), high = unordered(s.high);
  const float a = low < 0.0f ? -low : low, b = high < 0.0f ? -high : high;
  return a > b ? a : b;
}
NPC_FN int room(float size, int bits) { return 62 - bits - exponent_above(size); }

template <class T>
struct Range {  // lowest, highest, and what is not finite
  struct Own {
    u32 low, high;
    u32 bad;
  };
  struct Block {
    u32 low, high;
    u64 bad;
  };
  static const int SLOTS = 1;
  NPC_FN void clear(Block& b, int) {
    b.low = 0xffffffffu;
    b.high = 0;
    b.bad = 0;
  }
  NPC_FN Own begin(const StatisticsParams&) {
    Own own = {0xffffffffu, 0, 0};
    return own;
  }
  NPC_FN void add(const StatisticsParams& p, Own& own, Block&, i64 i) {
    const float value = load(static_cast<const T*>(p.values), i);
    const u32 bits = bits_of(value);
    if (bits == OUTSIDE) return;
    if (!finite_bits(bits)) {
      ++own.bad;
      return;
    }
    const u32 key = ordered(value);
    own.low = key < own.low ? key : own.low;
    own.high = key > own.high ? key : own.high;
  }
  NPC_FN void fold(const Own& own, Block& b) {
    atomic_min(&b.low, own.low);
    atomic_max(&b.high, own.high);
    if (own.bad) atomic_add(&b.bad, static_cast<u64>(own.bad));
  }
  NPC_FN void merge(const StatisticsParams& p, const Block& b, int) {
    atomic_min(&p.found->low, b.low);
    atomic_max(&p.found->high, b.high);
    if (b.bad) atomic_add(&p.found->bad, b.bad);
  }
};

struct Sums {
  struct Own {
    u64 sum, counted;
    float value;  // what the squares are measured from, and the power of two
    int shift;
  };
  struct Block {
    u64 sum, counted;
  };
  static const int SLOTS = 1;
  NPC_FN void clear(Block& b, int) { b.sum = b.counted = 0; }
  NPC_FN void fold(const Own& own, Block& b) {
    atomic_add(&b.sum, own.sum);
    atomic_add(&b.counted, own.counted);
  }
};

struct Sum : Sums {
  NPC_FN Own begin(const StatisticsParams& p) {
    Own own = {0, 0, 0.0f, room(largest(*p.found), p.bits)};
    return own;
  }
  NPC_FN void add(const StatisticsParams& p, Own& own, Block&, i64 i) {
    const float value = load(static_cast<const float*>(p.values), i);
    if (!finite_bits(bits_of(value)) || !counts(value, p.counted)) return;
    own.sum += static_cast<u64>(rounded(shifted(value, own.shift)));
    ++own.counted;
  }
  NPC_FN void merge(const StatisticsParams& p, const Block& b, int) {
    atomic_add(&p.found->sum, b.sum);
    atomic_add(&p.found->counted, b.counted);
  }
};

// The widest a value can lie from the mean, which bounds the squares.
NPC_FN float spread(const Statistics& s) {
  const float low = s.mean - unordered(s.low), high = unordered(s.high) - s.mean;
  return low > high ? low : high;
}

struct Squares : Sums {
  NPC_FN Own begin(const StatisticsParams& p) {
    const int e = exponent_above(spread(*p.found));
    Own own = {0, 0, p.found->mean, (62 - p.bits) / 2 - e};
    return own;
  }
  NPC_FN void add(const StatisticsParams& p, Own& own, Block&, i64 i) {
    const float value = load(static_cast<const float*>(p.values), i);
    if (!finite_bits(bits_of(value)) || !counts(value, p.counted)) return;
    const float distance = shifted(value - own.value, own.shift);
    own.sum += static_cast<u64>(rounded(distance * distance));
  }
  NPC_FN void merge(const StatisticsParams& p, const Block& b, int) { atomic_add(&p.found->squares, b.sum); }
};

struct Mean {  // after Sum: the mean, and the foreground's threshold
  NPC_FN void at(const StatisticsParams& p, i64) {
    Statistics& s = *p.found;
    if (s.counted == 0) return;
    const int shift = room(largest(s), p.bits);
    const i64 mean = static_cast<i64>(s.sum) / static_cast<i64>(s.counted);
    s.mean = shifted(static_cast<float>(mean), -shift);
    if (p.counted == POSITIVE) {
      const i64 share = static_cast<i64>(high_product(static_cast<u64>(mean), p.foreground));
      s.threshold = shifted(static_cast<float>(share), -shift);
    }
  }
};

struct Histogram {  // of the next digit, among the values that begin with each rank's prefix
  struct Own {
    u32 prefix[RANKS];
    float threshold;
  };
  struct Block {
    u32 bins[RANKS * BINS];
  };
  static const int SLOTS = RANKS * BINS;
  NPC_FN void clear(Block& b, int k) { b.bins[k] = 0; }
  NPC_FN Own begin(const StatisticsParams& p) {
    Own own;
    NPC_UNROLL(4)
    for (int r = 0; r < RANKS; ++r) own.prefix[r] = p.found->prefix[r];
    own.threshold = p.found->threshold;
    return own;
  }
  NPC_FN void add(const StatisticsParams& p, Own& own, Block& b, i64 i) {
    const float value = load(static_cast<const float*>(p.values), i);
    if (!finite_bits(bits_of(value)) || !(value > own.threshold)) return;
    const u32 key = ordered(value);
    const u32 before = p.digit == 0 ? 0 : key >> (32 - 8 * p.digit), digit = key >> (24 - 8 * p.digit) & 0xffu;
    NPC_UNROLL(4)
    for (int r = 0; r < RANKS; ++r)
      if (before == own.prefix[r]) atomic_add(&b.bins[r * BINS + digit], 1u);
  }
  NPC_FN void fold(const Own&, Block&) {}
  NPC_FN void merge(const StatisticsParams& p, const Block& b, int k) {
    if (b.bins[k]) atomic_add(&p.found->bins[k], b.bins[k]);
  }
};

struct Digit {  // a rank's next digit; in the first pass its rank too, for now the foreground is counted
  NPC_FN void at(const StatisticsParams& p, i64 r) {
    Statistics& s = *p.found;
    u32* bins = s.bins + r * BINS;
    u64 rank = s.rank[r];
    if (p.digit == 0) {
      u64 chosen = 0;
      NPC_UNROLL(8)
      for (int k = 0; k < BINS; ++k) chosen += bins[k];
      if (r == 0) s.chosen = chosen;
      if (chosen == 0) return;
      const u64 place = (r < 2 ? p.lower : p.upper) * (chosen - 1);
      rank = place >> 35;
      if (r & 1) rank = rank + 1 < chosen ? rank + 1 : chosen - 1;
      const float part = static_cast<float>(place & ((1ull << 35) - 1)) * 2.9103830456733704e-11f;  // 2^-35
      if (!(r & 1)) s.part[r / 2] = part;
    }
    u32 digit = BINS;
    NPC_UNROLL(8)
    for (u32 k = 0; k < BINS; ++k) {
      const u32 here = bins[k];
      bins[k] = 0;
      if (digit < BINS) continue;
      if (rank < here)
        digit = k;
      else
        rank -= here;
    }
    s.rank[r] = rank;
    s.prefix[r] = s.prefix[r] << 8 | (digit < BINS ? digit : 0);
  }
};

struct Finish {
  NPC_FN void at(const StatisticsParams& p, i64) {
    Statistics& s = *p.found;
    float low = 0.0f, high = 0.0f;
    if (p.method == PERCENTILE && s.counted && s.chosen) {
      low = mix(unordered(s.prefix[0]), unordered(s.prefix[1]), s.part[0]);
      high = mix(unordered(s.prefix[2]), unordered(s.prefix[3]), s.part[1]);
    } else if (p.method != PERCENTILE && s.counted) {
      const int shift = (62 - p.bits) / 2 - exponent_above(spread(s));
      const float variance = static_cast<float>(s.squares) / static_cast<float>(s.counted);
      low = s.mean;
      high = low + shifted(sqrtf(variance), -shift);
      s.scale.width = shifted(sqrtf(variance), -shift);
    }
    const float a = low < 0.0f ? -low : low, b = high < 0.0f ? -high : high;
    s.scale.low = low;
    s.scale.high = high;
    if (p.method == PERCENTILE) s.scale.width = high - low;
    s.scale.flat = s.scale.width > 1e-6f * (a > b ? a : b) ? 0 : 1;
  }
};
