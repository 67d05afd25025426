// A symmetric filter along one axis, edge voxels repeated: the Gaussian before a cubic resampling, and what
// turns voxels into B-spline coefficients (its response falls by 0.268 a voxel, so a short one does).
#pragma once
#include "common.cuh"

struct FilterParams {
  const float* source;   // (Z, Y, X)
  float* target;         // the same with `edge` more on either side of the axis
  const float* weights;  // 2 radius + 1
  i64 step[3];           // voxels from one to the next along the source's x, y, z; 0 along the axis
  i64 along;             // the step along the axis
  int rows;
  int width, height;     // of the target: x, y
  int length;            // of the source along the axis
  int axis;              // 0 x, 1 y, 2 z
  int radius, edge;
};

struct FilterRow {
  const float* source;
  i64 target;
  int y, z;
};

struct Filter {
  typedef FilterRow State;
  static const int AT_ONCE = 1;
  NPC_FN State row(const FilterParams& p, int row) {
    State state;
    state.z = row / p.height;
    state.y = row - state.z * p.height;
    state.source = p.source + state.z * p.step[2] + state.y * p.step[1];
    state.target = static_cast<i64>(row) * p.width;
    return state;
  }
  NPC_FN void at(const FilterParams& p, const State& state, int x) {
    const int middle = (p.axis == 0 ? x : p.axis == 1 ? state.y : state.z) - p.edge;
    const float* __restrict__ from = state.source + x * p.step[0];
    float sum = 0.0f;
    NPC_UNROLL(4)
    for (int j = -p.radius; j <= p.radius; ++j)
      sum += p.weights[j + p.radius] * from[clamped(middle + j, p.length - 1) * p.along];
    p.target[state.target + x] = sum;
  }
};
