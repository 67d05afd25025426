// What every kernel shares: types, the host/device split, fixed-point positions, half floats, ways to launch.
//
// A body is written once. NVRTC compiles it for a GPU, g++ for the tests, so whatever both can express is
// tested without a GPU. No double anywhere: a stray one makes a kernel many times slower on most cards.
#pragma once

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned char u8;

#ifdef __CUDACC__
#define NPC_FN static __device__ __forceinline__
#define NPC_PRAGMA(text) _Pragma(#text)
#define NPC_UNROLL(times) NPC_PRAGMA(unroll times)
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#define NPC_FN static inline
#define NPC_UNROLL(times)
#define __restrict__ __restrict
#endif

struct Half {
  unsigned short bits;
};

// Written where a target voxel lies outside the source: a quiet NaN that no arithmetic produces, so that a
// later kernel can tell "no data here" from a value that went wrong.
static const u32 OUTSIDE = 0x7fc0ffeeu;

NPC_FN u32 bits_of(float value) {
#ifdef __CUDACC__
  return __float_as_uint(value);
#else
  u32 bits;
  std::memcpy(&bits, &value, 4);
  return bits;
#endif
}

NPC_FN float float_of(u32 bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

NPC_FN int least(int a, int b) { return a < b ? a : b; }
NPC_FN int most(int a, int b) { return a > b ? a : b; }
NPC_FN int clamped(int value, int high) { return least(most(value, 0), high); }
NPC_FN bool finite_bits(u32 bits) { return (bits & 0x7f800000u) != 0x7f800000u; }

// Floats as unsigned integers in the same order.
NPC_FN u32 ordered(float value) {
  const u32 bits = bits_of(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
NPC_FN float unordered(u32 key) { return float_of(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// float -> half, to nearest, ties to even. The host's version is the same rounding in integers.
NPC_FN Half to_half(float value) {
  Half half;
#ifdef __CUDACC__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
#else
  const u32 bits = bits_of(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  u32 out;
  if (size > 0x7f800000u)
    out = 0x7e00u;  // NaN
  else if (size >= 0x477ff000u)
    out = 0x7c00u;  // 65520 and above: infinity
  else if (size < 0x38800000u) {  // below the smallest normal half: add 0.5, whose last bit is worth 2^-24
    out = bits_of(float_of(size) + 0.5f) - 0x3f000000u;
  } else {
    out = (size + 0xc8000fffu + (size >> 13 & 1u)) >> 13;
  }
  half.bits = static_cast<unsigned short>(sign | out);
#endif
  return half;
}

NPC_FN float from_half(Half half) {
#ifdef __CUDACC__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half.bits));
  return value;
#else
  const u32 sign = (half.bits & 0x8000u) << 16, size = half.bits & 0x7fffu;
  if (size >= 0x7c00u) return float_of(sign | 0x7f800000u | (size & 0x3ffu) << 13);
  const float value = float_of(size << 13) * float_of(0x77800000u);  // 2^112: the exponents' biases differ
  return float_of(bits_of(value) | sign);
#endif
}

NPC_FN float load(const float* __restrict__ from, i64 at) { return from[at]; }
NPC_FN float load(const Half* __restrict__ from, i64 at) { return from_half(from[at]); }
NPC_FN void store(float* to, i64 at, float value) { to[at] = value; }
NPC_FN void store(Half* to, i64 at, float value) { to[at] = to_half(value); }

// Positions are fixed-point voxels, 32 bits before the point and 32 after. float32 would be off by 3e-5 voxels
// at index 500, more than the allowance at a grid's border; integers are exact and the same on every machine.
static const i64 ONE = 1ll << 32;
static const i64 BORDER = (ONE >> 1) + 4295;  // half a voxel and sampling.EDGE, 1e-6 voxels

struct Map {  // target index (x, y, z) -> source position; row a is the source's x, y or z
  i64 step[3][3];
  i64 start[3];
};

NPC_FN bool reaches(i64 at, int length) { return at >= -BORDER && at <= (length - 1) * ONE + BORDER; }

struct Point {  // between voxel `base` and the next
  int base;
  float part;
};

NPC_FN Point between(i64 at, int length) {
  const i64 last = (length - 1) * ONE;
  at = at < 0 ? 0 : at > last ? last : at;
  Point point;
  point.base = least(static_cast<int>(at >> 32), most(length - 2, 0));
  point.part = static_cast<float>(at - point.base * ONE) * 2.3283064365386963e-10f;  // 2^-32
  return point;
}

struct Row {  // where a row of the target starts in the source
  i64 at[3];
};

NPC_FN Row row_of(const Map& map, int y, int z) {
  Row row;
  NPC_UNROLL(3)
  for (int a = 0; a < 3; ++a) row.at[a] = map.start[a] + map.step[a][1] * y + map.step[a][2] * z;
  return row;
}

struct TargetRow {  // a row of the target: where it starts in the source, and in the target
  Row row;
  i64 target;
};

template <class Params>
NPC_FN TargetRow target_row(const Params& p, int row) {
  const int z = row / p.height, y = row - z * p.height;
  TargetRow state;
  state.row = row_of(p.map, y, z);
  state.target = static_cast<i64>(row) * p.width;
  return state;
}

NPC_FN float mix(float near, float far, float part) { return near + (far - near) * part; }

// --- launching: arguments are a struct of at most 32 words; on a GPU it comes as 32 scalars, because
// cuda.core passes no structs, and the compiler puts it together again in registers ---
#define NPC_WORDS                                                                                             \
  u64 w0, u64 w1, u64 w2, u64 w3, u64 w4, u64 w5, u64 w6, u64 w7, u64 w8, u64 w9, u64 w10, u64 w11, u64 w12,  \
      u64 w13, u64 w14, u64 w15, u64 w16, u64 w17, u64 w18, u64 w19, u64 w20, u64 w21, u64 w22, u64 w23,      \
      u64 w24, u64 w25, u64 w26, u64 w27, u64 w28, u64 w29, u64 w30, u64 w31
#define NPC_PARAMS(Params)                                                                                    \
  static_assert(sizeof(Params) <= 256, "more than 32 words of arguments");                                    \
  const u64 words[32] = {w0,  w1,  w2,  w3,  w4,  w5,  w6,  w7,  w8,  w9,  w10, w11, w12, w13, w14, w15,      \
                         w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, w28, w29, w30, w31};     \
  Params p;                                                                                                   \
  memcpy(&p, words, sizeof(Params));

// NPC_ROWS: Op::row(p, row) once a row of p.rows, Op::at(p, row state, x) for x in 0..p.width: a warp a row,
// so that a row is divided into its axes once and neighbouring lanes touch neighbouring voxels; a lane works on
// Op::AT_ONCE voxels at a time, to keep that many loads in flight.
// NPC_EACH: Op::at(p, i) for i in 0..p.count.
// NPC_REDUCE: Op::add(p, own, block, i) into a thread's own state or the block's, Op::fold(p, own, block),
// then Op::merge(p, block, slot) for every slot once a block.
#ifdef __CUDACC__

#define NPC_ROWS(name, Params, ...)                                                                           \
  extern "C" __global__ void __launch_bounds__(256, 2) name(NPC_WORDS) {                                      \
    NPC_PARAMS(Params)                                                                                        \
    typedef __VA_ARGS__ Op;                                                                                   \
    const int warps = gridDim.x * (blockDim.x >> 5);                                                          \
    for (int row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); row < p.rows; row += warps) {         \
      const typename Op::State state = Op::row(p, row);                                                       \
      _Pragma("unroll 1") for (int x = threadIdx.x & 31; x < p.width; x += 32 * Op::AT_ONCE)                  \
          _Pragma("unroll") for (int k = 0; k < Op::AT_ONCE; ++k)                                             \
              if (k == 0 || x + 32 * k < p.width) Op::at(p, state, x + 32 * k);                               \
    }                                                                                                         \
  }
#define NPC_EACH(name, Params, ...)                                                                           \
  extern "C" __global__ void __launch_bounds__(256, 2) name(NPC_WORDS) {                                      \
    NPC_PARAMS(Params)                                                                                        \
    typedef __VA_ARGS__ Op;                                                                                   \
    const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x;                                              \
    i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;                                          \
    for (; i < p.count; i += stride) Op::at(p, i);                                                            \
  }
#define NPC_REDUCE(name, Params, ...)                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 2) name(NPC_WORDS) {                                      \
    NPC_PARAMS(Params)                                                                                        \
    typedef __VA_ARGS__ Op;                                                                                   \
    __shared__ typename Op::Block block;                                                                      \
    for (int k = threadIdx.x; k < Op::SLOTS; k += blockDim.x) Op::clear(block, k);                            \
    __syncthreads();                                                                                          \
    typename Op::Own own = Op::begin(p);                                                                      \
    const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x;                                              \
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.count; i += stride)           \
      Op::add(p, own, block, i);                                                                              \
    Op::fold(own, block);                                                                                     \
    __syncthreads();                                                                                          \
    for (int k = threadIdx.x; k < Op::SLOTS; k += blockDim.x) Op::merge(p, block, k);                         \
  }

NPC_FN void atomic_add(u32* to, u32 value) { atomicAdd(to, value); }
NPC_FN void atomic_add(u64* to, u64 value) { atomicAdd(to, value); }
NPC_FN void atomic_min(u32* to, u32 value) { atomicMin(to, value); }
NPC_FN void atomic_max(u32* to, u32 value) { atomicMax(to, value); }
NPC_FN i64 rounded(float value) { return __float2ll_rn(value); }
NPC_FN u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }

#else

#define NPC_ROWS(name, Params, ...)                                                                           \
  extern "C" void name(const Params* given, int threads) {                                                    \
    const Params p = *given;                                                                                  \
    typedef __VA_ARGS__ Op;                                                                                   \
    _Pragma("omp parallel for schedule(static) num_threads(threads)") for (int row = 0; row < p.rows; ++row) { \
      const typename Op::State state = Op::row(p, row);                                                       \
      for (int x = 0; x < p.width; ++x) Op::at(p, state, x);                                                  \
    }                                                                                                         \
  }
#define NPC_EACH(name, Params, ...)                                                                           \
  extern "C" void name(const Params* given, int threads) {                                                    \
    const Params p = *given;                                                                                  \
    typedef __VA_ARGS__ Op;                                                                                   \
    _Pragma("omp parallel for schedule(static) num_threads(threads)") for (i64 i = 0; i < p.count; ++i)       \
        Op::at(p, i);                                                                                         \
  }
#define NPC_REDUCE(name, Params, ...)                                                                         \
  extern "C" void name(const Params* given, int threads) {                                                    \
    const Params p = *given;                                                                                  \
    typedef __VA_ARGS__ Op;                                                                                   \
    _Pragma("omp parallel num_threads(threads)") {                                                            \
      typename Op::Block block;                                                                               \
      for (int k = 0; k < Op::SLOTS; ++k) Op::clear(block, k);                                                \
      typename Op::Own own = Op::begin(p);                                                                    \
      _Pragma("omp for schedule(static)") for (i64 i = 0; i < p.count; ++i) Op::add(p, own, block, i);        \
      Op::fold(own, block);                                                                                   \
      _Pragma("omp critical") for (int k = 0; k < Op::SLOTS; ++k) Op::merge(p, block, k);                     \
    }                                                                                                         \
  }

NPC_FN void atomic_add(u32* to, u32 value) { *to += value; }  // a thread's own, or inside omp critical
NPC_FN void atomic_add(u64* to, u64 value) { *to += value; }
NPC_FN void atomic_min(u32* to, u32 value) { *to = *to < value ? *to : value; }
NPC_FN void atomic_max(u32* to, u32 value) { *to = *to > value ? *to : value; }
NPC_FN i64 rounded(float value) { return std::llrint(value); }
NPC_FN u64 high_product(u64 a, u64 b) {
  return static_cast<u64>(static_cast<unsigned __int128>(a) * b >> 64);
}

#endif
