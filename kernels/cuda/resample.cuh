// A source volume on another grid, in one pass: smooth where the target is coarser, interpolate, clip,
// normalise, cast, and place in its channel. Any affine, so any orientation.
//
// Trilinear interpolation of a Gaussian-smoothed volume is one separable sum around a point: along each axis
// with weights (1 - part) * g[j] + part * g[j - 1]. So smoothing needs no pass and no volume of its own, and
// every tilt is the same code. A cubic B-spline samples coefficients that filter.cuh has made.
#pragma once
#include "common.cuh"
#include "normalise.cuh"

struct ResampleParams {
  Map map;
  const float* source;    // linear: (Z, Y, X); cubic: coefficients, SPLINE_EDGE more on either side of an axis
  void* target;           // (Z, Y, X) of one channel
  const float* smoothing; // per axis x, y, z: 0, the 2 radius + 1 weights, 0; unused where no radius is set
  const Scale* scale;     // null: values as they are, `outside` outside; else normalised, 0 outside
  const u32* range;       // cubic: ordered keys of the source's lowest and highest value; null: not clipped
  int rows;
  int width, height;      // of the target: x, y
  int size[3];            // of the source: x, y, z
  int radius[3];          // of the smoothing along the source's x, y, z
  u32 outside;            // bits of the value outside
  int method;
};

template <class Out>
NPC_FN void place(const ResampleParams& p, i64 at, float value) {
  if (p.scale) value = normalised(value, *p.scale, p.method);
  store(static_cast<Out*>(p.target), at, value);
}

// The row of a target and the point of each x on it; false: outside the source.
struct Sampling {
  typedef TargetRow State;
  static const int AT_ONCE = 1;
  NPC_FN State row(const ResampleParams& p, int row) { return target_row(p, row); }
  NPC_FN bool point(const ResampleParams& p, const State& state, int x, i64* at) {
    bool inside = true;
    NPC_UNROLL(3)
    for (int a = 0; a < 3; ++a) {
      at[a] = state.row.at[a] + p.map.step[a][0] * x;
      inside = inside && reaches(at[a], p.size[a]);
    }
    return inside;
  }
  template <class Out>
  NPC_FN void outside(const ResampleParams& p, i64 at) {
    store(static_cast<Out*>(p.target), at, p.scale ? 0.0f : float_of(p.outside));
  }
};

NPC_FN float plain_linear(const ResampleParams& p, Point x, Point y, Point z) {
  const i64 line = p.size[0], plane = line * p.size[1];
  const i64 first = z.base * plane + y.base * line + x.base;
  const i64 dx = p.size[0] > 1 ? 1 : 0, dy = p.size[1] > 1 ? line : 0, dz = p.size[2] > 1 ? plane : 0;
  const float* __restrict__ s = p.source + first;
  const float near = mix(mix(s[0], s[dx], x.part), mix(s[dy], s[dy + dx], x.part), y.part);
  const float far = mix(mix(s[dz], s[dz + dx], x.part), mix(s[dz + dy], s[dz + dy + dx], x.part), y.part);
  return mix(near, far, z.part);
}

// Each axis keeps two sums, one with the weights of the near voxel and one with those of the far one.
NPC_FN float smooth_linear(const ResampleParams& p, Point x, Point y, Point z) {
  const float* __restrict__ gx = p.smoothing;
  const float* __restrict__ gy = gx + 2 * p.radius[0] + 3;
  const float* __restrict__ gz = gy + 2 * p.radius[1] + 3;
  float near_z = 0.0f, far_z = 0.0f;
  NPC_UNROLL(1)
  for (int k = 0; k < 2 * p.radius[2] + 2; ++k) {
    const i64 plane = static_cast<i64>(clamped(z.base - p.radius[2] + k, p.size[2] - 1)) * p.size[1];
    float near_y = 0.0f, far_y = 0.0f;
    NPC_UNROLL(1)
    for (int j = 0; j < 2 * p.radius[1] + 2; ++j) {
      const float* __restrict__ line =
          p.source + (plane + clamped(y.base - p.radius[1] + j, p.size[1] - 1)) * p.size[0];
      float near_x = 0.0f, far_x = 0.0f, weight = gx[0];
      NPC_UNROLL(2)
      for (int i = 0; i < 2 * p.radius[0] + 2; ++i) {
        const float value = line[clamped(x.base - p.radius[0] + i, p.size[0] - 1)];
        far_x += weight * value;
        weight = gx[i + 1];
        near_x += weight * value;
      }
      const float sum = mix(near_x, far_x, x.part);
      far_y += gy[j] * sum;
      near_y += gy[j + 1] * sum;
    }
    const float sum = mix(near_y, far_y, y.part);
    far_z += gz[k] * sum;
    near_z += gz[k + 1] * sum;
  }
  return mix(near_z, far_z, z.part);
}

template <class Out, bool SMOOTH>
struct ResampleLinear : Sampling {
  NPC_FN void at(const ResampleParams& p, const State& state, int x) {
    i64 at[3];
    if (!point(p, state, x, at)) return outside<Out>(p, state.target + x);
    const Point px = between(at[0], p.size[0]), py = between(at[1], p.size[1]), pz = between(at[2], p.size[2]);
    place<Out>(p, state.target + x, SMOOTH ? smooth_linear(p, px, py, pz) : plain_linear(p, px, py, pz));
  }
};

static const int SPLINE_EDGE = 2;

struct Spline {  // the four voxels a cubic B-spline reaches, from `base` on
  int base;
  float w[4];
};

NPC_FN Spline spline(i64 at, int length) {
  const i64 low = -(ONE >> 1), high = (length - 1) * ONE + (ONE >> 1);
  at = at < low ? low : at > high ? high : at;
  Spline s;
  const i64 base = at >> 32;  // rounds down, below zero too
  const float f = static_cast<float>(at - base * ONE) * 2.3283064365386963e-10f, g = 1.0f - f;
  s.base = static_cast<int>(base) - 1 + SPLINE_EDGE;
  s.w[0] = g * g * g * (1.0f / 6.0f);
  s.w[1] = 2.0f / 3.0f - f * f * (1.0f - 0.5f * f);
  s.w[2] = 2.0f / 3.0f - g * g * (1.0f - 0.5f * g);
  s.w[3] = f * f * f * (1.0f / 6.0f);
  return s;
}

template <class Out>
struct ResampleCubic : Sampling {
  NPC_FN void at(const ResampleParams& p, const State& state, int x) {
    i64 at[3];
    if (!point(p, state, x, at)) return outside<Out>(p, state.target + x);
    const Spline sx = spline(at[0], p.size[0]), sy = spline(at[1], p.size[1]), sz = spline(at[2], p.size[2]);
    const i64 line = p.size[0] + 2 * SPLINE_EDGE, plane = line * (p.size[1] + 2 * SPLINE_EDGE);
    const float* __restrict__ first = p.source + sz.base * plane + sy.base * line + sx.base;
    float value = 0.0f;
    NPC_UNROLL(4)
    for (int k = 0; k < 4; ++k) {
      float slice = 0.0f;
      NPC_UNROLL(4)
      for (int j = 0; j < 4; ++j) {
        const float* __restrict__ c = first + k * plane + j * line;
        slice += sy.w[j] * (sx.w[0] * c[0] + sx.w[1] * c[1] + sx.w[2] * c[2] + sx.w[3] * c[3]);
      }
      value += sz.w[k] * slice;
    }
    if (p.range) {
      const float low = unordered(p.range[0]), high = unordered(p.range[1]);
      value = value < low ? low : value > high ? high : value;
    }
    place<Out>(p, state.target + x, value);
  }
};
