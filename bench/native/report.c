/* Clocks of processes and processors, and the result as one line of JSON. */
#include "loadgen.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CORES_MAX 64

struct moment {
    double own, watched[WATCHED_MAX];
    unsigned long long busy[CORES_MAX], total[CORES_MAX];
    struct counts counts;
};

static struct moment begin, end;
static unsigned cores;

static double own_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Adds the seconds of a process to those of the watched one it is, or is a child of (proc(5), /proc/pid/stat). */
static void add_process(const char *directory, struct moment *moment)
{
    char path[300], text[1024], *fields;
    unsigned long user, system;
    int pid = atoi(directory), parent;
    FILE *file;
    size_t length;

    snprintf(path, sizeof path, "/proc/%s/stat", directory);
    file = fopen(path, "r");
    if (!file)
        return;
    length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    fields = strrchr(text, ')');
    if (!fields || sscanf(fields + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &parent, &user, &system) != 3)
        return;
    for (unsigned i = 0; i < options.watched_count; i++)
        if (options.watched[i].pid == pid || options.watched[i].pid == parent)
            moment->watched[i] += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void read_processes(struct moment *moment)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    memset(moment->watched, 0, sizeof moment->watched);
    if (!proc || !options.watched_count)
        return;
    while ((entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]))
            add_process(entry->d_name, moment);
    closedir(proc);
}

static void read_cores(struct moment *moment)
{
    char line[512];
    FILE *file = fopen("/proc/stat", "r");

    cores = 0;
    while (file && fgets(line, sizeof line, file)) {
        unsigned long long part[8] = {0};
        if (strncmp(line, "cpu", 3) || !isdigit((unsigned char)line[3]) || cores == CORES_MAX)
            continue;
        sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu %llu", &part[0], &part[1], &part[2], &part[3], &part[4], &part[5], &part[6], &part[7]);
        moment->total[cores] = moment->busy[cores] = 0;
        for (int i = 0; i < 8; i++) {
            moment->total[cores] += part[i];
            if (i != 3 && i != 4) /* idle, and waiting for a disk */
                moment->busy[cores] += part[i];
        }
        cores++;
    }
    if (file)
        fclose(file);
}

void snapshot(bool at_end)
{
    struct moment *moment = at_end ? &end : &begin;

    if (at_end) /* reading /proc takes a while: outside what is measured */
        moment->own = own_seconds();
    moment->counts = counts;
    read_processes(moment);
    read_cores(moment);
    if (!at_end)
        moment->own = own_seconds();
}

static void times(const char *name, const struct histogram *histogram)
{
    static const double fractions[] = {0.5, 0.95, 0.99};
    static const char *names[] = {"p50", "p95", "p99"};

    printf(",\"%s\":{\"count\":%llu", name, (unsigned long long)histogram->total);
    for (int i = 0; i < 3; i++)
        printf(",\"%s\":%.4f", names[i], (double)histogram_at(histogram, fractions[i]) / 1e6);
    printf(",\"max\":%.4f}", (double)histogram->maximum / 1e6);
}

static void text(const char *value)
{
    putchar('"');
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c > 126)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

void report(double measured, double joins_per_second, const char *error)
{
    double deliveries = (double)(end.counts.deliveries - begin.counts.deliveries);
    double completed = (double)(end.counts.completed - begin.counts.completed);
    double seconds = measured > 0 ? measured : 1;

    printf("{\"event\":\"result\",\"error\":");
    if (error)
        text(error);
    else
        printf("null");
    printf(",\"connections\":%u,\"live\":%u,\"seconds\":%.4f", connection_count, live_count, measured);
    printf(",\"deliveries\":%.0f,\"deliveries_per_s\":%.2f", deliveries, deliveries / seconds);
    printf(",\"sends\":%.0f,\"sends_per_s\":%.3f", completed, completed / seconds);
    printf(",\"joins_per_s\":%.2f", joins_per_second);
    times("ack_ms", &ack_times);
    times("delivery_ms", &delivery_times);
    times("join_ms", &join_times);
    printf(",\"bytes_in\":%llu,\"bytes_out\":%llu,\"reads\":%llu", (unsigned long long)(end.counts.bytes_in - begin.counts.bytes_in),
           (unsigned long long)(end.counts.bytes_out - begin.counts.bytes_out), (unsigned long long)(end.counts.reads - begin.counts.reads));
    printf(",\"wrong_sockets\":%u,\"missing\":%lld,\"disordered\":%llu,\"seq_gaps\":%llu", error ? 0 : tally_wrong(),
           (long long)(expected_deliveries - counts.deliveries), (unsigned long long)disordered, (unsigned long long)gaps);
    printf(",\"client_cpu_s\":%.4f,\"cpu_s\":{", end.own - begin.own);
    for (unsigned i = 0; i < options.watched_count; i++)
        printf("%s\"%s\":%.3f", i ? "," : "", options.watched[i].name, end.watched[i] - begin.watched[i]);
    printf("},\"cores_busy\":[");
    for (unsigned i = 0; i < cores; i++) {
        double total = (double)(end.total[i] - begin.total[i]);
        printf("%s%.3f", i ? "," : "", total > 0 ? (double)(end.busy[i] - begin.busy[i]) / total : 0);
    }
    printf("]}\n");
    fflush(stdout);
}
