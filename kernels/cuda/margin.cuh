// One class against all others: the softmax over every label as one logit, log p / (1 - p), which
// interpolates like any other. In one pass: the sum of the others is kept relative to the largest so far.
#pragma once
#include "common.cuh"

struct MarginParams {
  const void* logits;  // (K, voxels)
  float* target;       // (voxels)
  i64 count;           // voxels
  int classes;
  int code;            // the one class
};

template <class T>
struct Margin {
  NPC_FN void at(const MarginParams& p, i64 i) {
    const T* __restrict__ logits = static_cast<const T*>(p.logits);
    float peak = 0.0f, sum = 0.0f;
    NPC_UNROLL(1)
    for (int k = 0; k < p.classes; ++k) {
      if (k == p.code) continue;
      const float value = load(logits, k * p.count + i);
      if (sum == 0.0f || value > peak) {
        sum = sum == 0.0f ? 1.0f : sum * expf(peak - value) + 1.0f;
        peak = value;
      } else {
        sum += expf(value - peak);
      }
    }
    p.target[i] = load(logits, p.code * p.count + i) - (peak + logf(sum));
  }
};
