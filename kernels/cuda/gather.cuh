// Windows cut out of the network's input and laid one after the other, as a batch. No arithmetic.
#pragma once
#include "common.cuh"

struct GatherParams {
  const void* source;  // (C, Z, Y, X)
  void* target;        // (windows, C, z, y, x)
  const int* starts;   // (windows, 3): z, y, x of each window's first voxel
  int rows;
  int width, height, depth;  // of a window: x, y, z
  int channels;
  int size[3];               // of the source: x, y, z
};

template <class T>
struct GatherRow {
  const T* source;
  T* target;
};

template <class T>
struct Gather {
  typedef GatherRow<T> State;
  static const int AT_ONCE = 4;
  NPC_FN State row(const GatherParams& p, int row) {
    const int plane = row / p.height, volume = plane / p.depth, window = volume / p.channels;
    const int y = row - plane * p.height, z = plane - volume * p.depth;
    const i64 channel = volume - window * p.channels;
    const int* __restrict__ start = p.starts + 3 * window;
    State state;
    const i64 line = (channel * p.size[2] + start[0] + z) * p.size[1] + start[1] + y;
    state.source = static_cast<const T*>(p.source) + line * p.size[0] + start[2];
    state.target = static_cast<T*>(p.target) + static_cast<i64>(row) * p.width;
    return state;
  }
  NPC_FN void at(const GatherParams&, const State& state, int x) { state.target[x] = state.source[x]; }
};
