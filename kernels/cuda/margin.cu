#include "margin.cuh"

NPC_EACH(npc_margin_f32, MarginParams, Margin<float>)
NPC_EACH(npc_margin_f16, MarginParams, Margin<Half>)
