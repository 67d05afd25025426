#include "filter.cuh"

NPC_ROWS(npc_filter, FilterParams, Filter)
