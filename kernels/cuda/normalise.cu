#include "normalise.cuh"

NPC_EACH(npc_normalise_f32, NormaliseParams, Normalise<float>)
NPC_EACH(npc_normalise_f16, NormaliseParams, Normalise<Half>)
