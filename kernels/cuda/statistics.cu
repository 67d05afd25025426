#include "statistics.cuh"

NPC_REDUCE(npc_range_f32, StatisticsParams, Range<float>)
NPC_REDUCE(npc_range_f16, StatisticsParams, Range<Half>)
NPC_REDUCE(npc_sum, StatisticsParams, Sum)
NPC_REDUCE(npc_squares, StatisticsParams, Squares)
NPC_REDUCE(npc_histogram, StatisticsParams, Histogram)
NPC_EACH(npc_mean, StatisticsParams, Mean)
NPC_EACH(npc_digit, StatisticsParams, Digit)
NPC_EACH(npc_finish, StatisticsParams, Finish)
