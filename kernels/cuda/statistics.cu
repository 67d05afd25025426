#include "statistics.cuh"

NPC_REDUCE(npc_range, StatisticsParams, Range)
NPC_REDUCE(npc_sum, StatisticsParams, Sum)
NPC_REDUCE(npc_squares, StatisticsParams, Squares)
NPC_REDUCE(npc_histogram, StatisticsParams, Histogram)
NPC_EACH(npc_mean, StatisticsParams, Mean)
NPC_EACH(npc_digit, StatisticsParams, Digit)
NPC_EACH(npc_finish, StatisticsParams, Finish)
