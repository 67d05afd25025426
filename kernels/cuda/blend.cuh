// Overlapping windows averaged with a Gaussian centred on each, a slab of slices at a time.
//
// Every voxel collects from the windows that cover it, in their order: each prediction is read once, each
// result written once, no atomics, and the sum is the same every time.
#pragma once
#include "common.cuh"

struct BlendParams {
  const void* windows;   // (nz * ny * nx, C, z, y, x), z slowest
  float* target;         // (C, depth of the slab, Y, X), `channel` voxels from one channel to the next
  const float* weights;  // the Gaussian along z, then y, then x
  const int* starts;     // first voxels along z (nz), then y (ny), then x (nx), ascending
  i64 channel;
  int rows;
  int width, height, depth;  // of the slab: x, y, z
  int first;                 // the slab's first slice
  int channels;
  int window[3];             // x, y, z
  int count[3];              // windows along x, y, z
};

struct BlendRow {
  i64 target;
  int z, y, c;
};

template <class T>
struct Blend {
  typedef BlendRow State;
  static const int AT_ONCE = 1;
  NPC_FN State row(const BlendParams& p, int row) {
    const int plane = row / p.height;
    State state;
    state.y = row - plane * p.height;
    state.c = plane / p.depth;
    const int z = plane - state.c * p.depth;
    state.target = state.c * p.channel + (static_cast<i64>(z) * p.height + state.y) * p.width;
    state.z = z + p.first;
    return state;
  }
  NPC_FN void at(const BlendParams& p, const State& state, int x) {
    const int* __restrict__ starts_y = p.starts + p.count[2];
    const int* __restrict__ starts_x = starts_y + p.count[1];
    const float* __restrict__ weights_y = p.weights + p.window[2];
    const float* __restrict__ weights_x = weights_y + p.window[1];
    float sum = 0.0f, total = 0.0f;
    NPC_UNROLL(1)
    for (int k = 0; k < p.count[2]; ++k) {
      const int z = state.z - p.starts[k];
      if (z < 0 || z >= p.window[2]) continue;
      NPC_UNROLL(1)
      for (int j = 0; j < p.count[1]; ++j) {
        const int y = state.y - starts_y[j];
        if (y < 0 || y >= p.window[1]) continue;
        const float plane = p.weights[z] * weights_y[y];
        NPC_UNROLL(1)
        for (int i = 0; i < p.count[0]; ++i) {
          const int at = x - starts_x[i];
          if (at < 0 || at >= p.window[0]) continue;
          const i64 volume = (static_cast<i64>(k * p.count[1] + j) * p.count[0] + i) * p.channels + state.c;
          const i64 from = ((volume * p.window[2] + z) * p.window[1] + y) * p.window[0] + at;
          float weight = plane * weights_x[at];
          weight = weight < 1e-3f ? 1e-3f : weight;
          sum += load(static_cast<const T*>(p.windows), from) * weight;
          total += weight;
        }
      }
    }
    p.target[state.target + x] = sum / total;
  }
};
