/* Reads the run's settings: a file of "name value" lines. Anything unknown or out of range ends the program with a sentence. */
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {.path = "/ws",
                          .host = "localhost",
                          .sources = 8,
                          .rooms = 1,
                          .members = 1,
                          .senders = 1,
                          .window = 1,
                          .body = 200,
                          .handshakes = 50,
                          .warm_up = 1,
                          .seconds = 4,
                          .patience = 15};

struct number {
    const char *name;
    unsigned *whole;
    double *real;
    bool *flag;
};

static const struct number numbers[] = {
    {.name = "sources", .whole = &options.sources},
    {.name = "rooms", .whole = &options.rooms},
    {.name = "members", .whole = &options.members},
    {.name = "senders", .whole = &options.senders},
    {.name = "sender_limit", .whole = &options.sender_limit},
    {.name = "window", .whole = &options.window},
    {.name = "body", .whole = &options.body},
    {.name = "handshakes", .whole = &options.handshakes},
    {.name = "lazy_ms", .whole = &options.lazy_ms},
    {.name = "rate", .real = &options.rate},
    {.name = "warm_up", .real = &options.warm_up},
    {.name = "seconds", .real = &options.seconds},
    {.name = "patience", .real = &options.patience},
    {.name = "tls", .flag = &options.tls},
    {.name = "until_hello", .flag = &options.until_hello},
    {.name = "stay", .flag = &options.stay},
};

static void copy(char *to, size_t size, const char *value)
{
    if (strlen(value) >= size)
        fail("a setting is too long: %.60s", value);
    strcpy(to, value);
}

static void watch_process(const char *value)
{
    if (options.watched_count == WATCHED_MAX)
        fail("at most %d processes are watched", WATCHED_MAX);
    if (sscanf(value, "%23[^:]:%d", options.watched[options.watched_count].name, &options.watched[options.watched_count].pid) != 2)
        fail("watch needs NAME:PID, not %s", value);
    options.watched_count++;
}

static bool set_number(const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const struct number *number = &numbers[i];
        char *end;
        if (strcmp(number->name, name))
            continue;
        double given = strtod(value, &end);
        if (*end || end == value || given < 0 || given > 4e9)
            fail("%s needs a number, not %s", name, value);
        if (number->whole)
            *number->whole = (unsigned)given;
        else if (number->real)
            *number->real = given;
        else
            *number->flag = given != 0;
        return true;
    }
    return false;
}

static void set(const char *name, const char *value)
{
    if (!strcmp(name, "protocol")) {
        if (strcmp(value, "hhc") && strcmp(value, "sio") && strcmp(value, "raw"))
            fail("protocol is hhc, sio or raw, not %s", value);
        options.protocol = value[0] == 'h' ? HHC : value[0] == 's' ? SIO : RAW;
    } else if (!strcmp(name, "address"))
        copy(options.address, sizeof options.address, value);
    else if (!strcmp(name, "path"))
        copy(options.path, sizeof options.path, value);
    else if (!strcmp(name, "host"))
        copy(options.host, sizeof options.host, value);
    else if (!strcmp(name, "origin"))
        copy(options.origin, sizeof options.origin, value);
    else if (!strcmp(name, "tokens"))
        copy(options.tokens, sizeof options.tokens, value);
    else if (!strcmp(name, "watch"))
        watch_process(value);
    else if (!set_number(name, value))
        fail("there is no setting %s", name);
}

void read_options(const char *path)
{
    char line[512], *value;
    FILE *file = fopen(path, "r");

    if (!file)
        fail("%s cannot be read", path);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (!line[0])
            continue;
        value = strchr(line, ' ');
        if (!value)
            fail("a setting without a value: %.60s", line);
        *value++ = '\0';
        set(line, value);
    }
    fclose(file);
    if (!options.address[0])
        fail("address is missing");
    if (!options.rooms || !options.members || !options.sources || !options.handshakes || options.body > BODY_MAX)
        fail("a number is out of range");
    if (options.senders && !options.window && options.rate <= 0)
        fail("senders need a window or a rate");
}

char **read_tokens(const char *path, uint32_t count)
{
    char line[4200], **read = calloc(count, sizeof *read);
    FILE *file = fopen(path, "r");

    if (!file || !read)
        fail("%s cannot be read", path);
    for (uint32_t i = 0; i < count; i++) {
        if (!fgets(line, sizeof line, file))
            fail("%s holds %u tokens, %u are needed", path, i, count);
        line[strcspn(line, "\n")] = '\0';
        read[i] = strdup(line);
    }
    fclose(file);
    return read;
}
