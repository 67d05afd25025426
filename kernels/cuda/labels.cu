#include "labels.cuh"

NPC_ROWS(npc_winner_f32, LabelParams, Winner<float>)
NPC_ROWS(npc_winner_f16, LabelParams, Winner<Half>)
NPC_ROWS(npc_threshold_f32, LabelParams, Threshold<float>)
NPC_ROWS(npc_threshold_f16, LabelParams, Threshold<Half>)
