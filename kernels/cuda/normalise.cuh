// Clip and scale to what a network wants: percentiles to 0 and 1, or mean and deviation to 0 and 1.
#pragma once
#include "common.cuh"

enum Method { PERCENTILE = 0, ZSCORE = 1, ZSCORE_NONZERO = 2 };

struct Scale {  // left on the device by the statistics, read by whoever normalises
  float low, high;  // percentiles; or the mean, and the mean plus one deviation
  float width;      // high - low
  u32 flat;         // 1: no contrast, everything becomes 0
};

NPC_FN float normalised(float value, const Scale& scale, int method) {
  if (scale.flat || bits_of(value) == OUTSIDE) return 0.0f;
  if (method == ZSCORE_NONZERO && value == 0.0f) return 0.0f;
  if (method == PERCENTILE) {
    value = value < scale.low ? scale.low : value;
    value = value > scale.high ? scale.high : value;
  }
  return (value - scale.low) / scale.width;
}

struct NormaliseParams {
  const float* values;
  void* target;
  const Scale* scale;
  i64 count;
  int method;
};

template <class Out>
struct Normalise {
  NPC_FN void at(const NormaliseParams& p, i64 i) {
    store(static_cast<Out*>(p.target), i, normalised(p.values[i], *p.scale, p.method));
  }
};
