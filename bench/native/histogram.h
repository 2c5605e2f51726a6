/*
 * Counts of durations in buckets that grow with the value, as HdrHistogram does: any value is kept to within 1 %.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t total, maximum;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, int64_t nanoseconds);

/* The value below or at which `fraction` (0 to 1) of all values lie, in nanoseconds; 0 when there are none. */
uint64_t histogram_at(const struct histogram *histogram, double fraction);

#endif
