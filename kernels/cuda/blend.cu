#include "blend.cuh"

NPC_ROWS(npc_blend_f32, BlendParams, Blend<float>)
NPC_ROWS(npc_blend_f16, BlendParams, Blend<Half>)
