#include "resample.cuh"

NPC_ROWS(npc_resample_linear_f32, ResampleParams, ResampleLinear<float, false>)
NPC_ROWS(npc_resample_linear_f16, ResampleParams, ResampleLinear<Half, false>)
NPC_ROWS(npc_resample_smooth_f32, ResampleParams, ResampleLinear<float, true>)
NPC_ROWS(npc_resample_smooth_f16, ResampleParams, ResampleLinear<Half, true>)
NPC_ROWS(npc_resample_cubic_f32, ResampleParams, ResampleCubic<float>)
NPC_ROWS(npc_resample_cubic_f16, ResampleParams, ResampleCubic<Half>)
