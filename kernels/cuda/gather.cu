#include "gather.cuh"

NPC_ROWS(npc_gather_f32, GatherParams, Gather<float>)
NPC_ROWS(npc_gather_f16, GatherParams, Gather<Half>)
