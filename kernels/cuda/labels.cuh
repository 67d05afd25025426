// Predictions become labels on the source's grid: interpolate every class at a voxel, keep the winner. The
// logits of the full resolution never exist.
#pragma once
#include "common.cuh"

struct LabelParams {
  Map map;
  const void* logits;  // (K, Z, Y, X)
  u8* labels;          // (Z, Y, X) of the target, or null
  float* probability;  // of class 0 by a sigmoid, or null
  int rows;
  int width, height;   // of the target: x, y
  int size[3];         // of the logits: x, y, z
  int classes;
  float threshold;     // for labels by threshold: the probability at which a voxel is 1
};

struct Cell {  // the eight voxels around a point
  i64 first, dx, dy, dz;
  float x, y, z;
};

template <class T>
NPC_FN float on_plane(const T* __restrict__ logits, const Cell& c) {
  const float near = mix(load(logits, 0), load(logits, c.dx), c.x);
  const float far = mix(load(logits, c.dy), load(logits, c.dy + c.dx), c.x);
  return mix(near, far, c.y);
}

template <class T>
NPC_FN float interpolated(const T* __restrict__ logits, const Cell& c) {
  const T* __restrict__ near = logits + c.first;
  return mix(on_plane(near, c), on_plane(near + c.dz, c), c.z);
}

struct OnGrid {
  typedef TargetRow State;
  static const int AT_ONCE = 1;
  NPC_FN State row(const LabelParams& p, int row) { return target_row(p, row); }
  NPC_FN bool cell(const LabelParams& p, const State& state, int x, Cell* cell) {
    Point point[3];
    NPC_UNROLL(3)
    for (int a = 0; a < 3; ++a) {
      const i64 at = state.row.at[a] + p.map.step[a][0] * x;
      if (!reaches(at, p.size[a])) return false;
      point[a] = between(at, p.size[a]);
    }
    const i64 line = p.size[0], plane = line * p.size[1];
    cell->first = point[2].base * plane + point[1].base * line + point[0].base;
    cell->dx = p.size[0] > 1 ? 1 : 0;
    cell->dy = p.size[1] > 1 ? line : 0;
    cell->dz = p.size[2] > 1 ? plane : 0;
    cell->x = point[0].part;
    cell->y = point[1].part;
    cell->z = point[2].part;
    return true;
  }
};

template <class T>
struct Winner : OnGrid {  // the class with the largest logit, the lowest on a tie
  NPC_FN void at(const LabelParams& p, const State& state, int x) {
    Cell here;
    int winner = 0;
    if (cell(p, state, x, &here)) {
      const i64 volume = static_cast<i64>(p.size[0]) * p.size[1] * p.size[2];
      const T* __restrict__ logits = static_cast<const T*>(p.logits);
      float best = interpolated(logits, here);
      NPC_UNROLL(1)
      for (int k = 1; k < p.classes; ++k) {
        const float value = interpolated(logits + k * volume, here);
        if (value > best) {
          best = value;
          winner = k;
        }
      }
    }
    p.labels[state.target + x] = static_cast<u8>(winner);
  }
};

template <class T>
struct Threshold : OnGrid {  // one logit: its probability, and where that reaches the threshold
  NPC_FN void at(const LabelParams& p, const State& state, int x) {
    Cell here;
    float probability = 0.0f;
    const bool inside = cell(p, state, x, &here);
    if (inside) probability = 1.0f / (1.0f + expf(-interpolated(static_cast<const T*>(p.logits), here)));
    if (p.probability) p.probability[state.target + x] = probability;
    if (p.labels) p.labels[state.target + x] = inside && probability >= p.threshold ? 1 : 0;
  }
};
