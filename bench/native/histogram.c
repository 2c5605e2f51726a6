#include "histogram.h"

#include <math.h>

#define SUB (1u << HISTOGRAM_SUB_BITS)

void histogram_add(struct histogram *histogram, int64_t nanoseconds)
{
    uint64_t value = nanoseconds > 0 ? (uint64_t)nanoseconds : 0;
    unsigned shift = 0;

    histogram->total++;
    if (value > histogram->maximum)
        histogram->maximum = value;
    if (value >= SUB)
        shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    if (value < SUB)
        histogram->counts[value]++;
    else
        histogram->counts[((shift + 1) << HISTOGRAM_SUB_BITS) + (value >> shift) - SUB]++;
}

uint64_t histogram_at(const struct histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)ceil(fraction * (double)histogram->total), seen = 0;

    if (wanted == 0)
        wanted = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen < wanted || seen == 0)
            continue;
        if (i < SUB)
            return i;
        unsigned shift = (i >> HISTOGRAM_SUB_BITS) - 1;
        uint64_t low = (uint64_t)((i & (SUB - 1)) + SUB) << shift;
        uint64_t middle = low + ((1ull << shift) >> 1);
        return middle < histogram->maximum ? middle : histogram->maximum;
    }
    return 0;
}
