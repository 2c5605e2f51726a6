/* The event loop and the phases of a run: connect everybody, warm up, measure, let the rest arrive, report. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ROUND 1024
/* Of all connections, those whose joining is not measured: a server may need them to get warm. */
#define UNMEASURED_JOINS 0.2

enum phase phase = CONNECT;
struct connection *connections;
struct sender *senders;
struct room *rooms;
uint32_t connection_count, sender_count, live_count;
struct counts counts;
struct histogram ack_times, delivery_times, join_times;
uint64_t expected_deliveries, in_flight_total, disordered, gaps;
int poller;
char **tokens;

static uint32_t opened_count;
static int64_t joined_first, joined_last, phase_began, phase_ends, measured, schedule_began, next_sweep, heard_at;
static uint64_t scheduled, heard;
static int timer;

int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

void fail(const char *format, ...)
{
    char text[700];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    report(0, 0, text);
    if (connections)
        reset_all();
    exit(1);
}

static void say(const char *event)
{
    printf("{\"event\":\"%s\"}\n", event);
    fflush(stdout);
}

void usable(struct connection *connection)
{
    int64_t at = now();

    live_count++;
    heard_at = at;
    if (live_count == 1 + (uint32_t)(UNMEASURED_JOINS * connection_count))
        joined_first = at;
    joined_last = at;
    histogram_add(&join_times, at - connection->began);
}

static double joins_per_second(void)
{
    double count = connection_count - 1 - (uint32_t)(UNMEASURED_JOINS * connection_count);

    return joined_last > joined_first ? count * 1e9 / (double)(joined_last - joined_first) : 0;
}

static void prepare(void)
{
    struct rlimit files;
    uint32_t limit;

    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (options.senders > options.members)
        options.senders = options.members;
    connection_count = options.rooms * options.members;
    if (connection_count + 16 > files.rlim_cur)
        fail("%u connections need more open files than %llu", connection_count, (unsigned long long)files.rlim_cur);
    limit = options.rooms * options.senders;
    sender_count = options.sender_limit && options.sender_limit < limit ? options.sender_limit : limit;
    if (sender_count > 65535)
        fail("too many senders");
    connections = calloc(connection_count, sizeof *connections);
    senders = calloc(sender_count + 1, sizeof *senders);
    rooms = calloc(options.rooms, sizeof *rooms);
    if (!connections || !senders || !rooms)
        fail("memory");
    for (uint32_t i = 0; i < connection_count; i++) {
        struct connection *connection = &connections[i];
        uint32_t sender = i / options.members * options.senders + i % options.members;
        connection->fd = -1;
        connection->number = i;
        connection->room = i / options.members;
        connection->sender = -1;
        connection->last = calloc(options.senders + 1, sizeof *connection->last);
        if (i % options.members < options.senders && sender < sender_count) {
            connection->sender = (int32_t)sender;
            senders[sender].connection = connection;
        }
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    prepare_addresses();
    prepare_tls();
    prepare_protocol();
    if (options.tokens[0])
        tokens = read_tokens(options.tokens, connection_count);
}

static void connect_more(void)
{
    while (opened_count < connection_count && opened_count - live_count < options.handshakes) {
        if (!open_connection(&connections[opened_count]))
            return;
        opened_count++;
    }
}

static void enter(enum phase next, double seconds)
{
    phase = next;
    phase_began = heard_at = now();
    phase_ends = phase_began + (int64_t)(seconds * 1e9);
}

static void follow_schedule(int64_t at)
{
    double gap = 1e9 / options.rate;

    while (schedule_began + (int64_t)((double)scheduled * gap) <= at) {
        int64_t due = schedule_began + (int64_t)((double)scheduled * gap);
        send_message(&senders[scheduled % sender_count], due);
        scheduled++;
    }
    int64_t due = schedule_began + (int64_t)((double)scheduled * gap);
    struct itimerspec spec = {.it_value = {.tv_sec = due / SECOND, .tv_nsec = due % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void start_sending(void)
{
    int64_t at;

    enter(WARM_UP, options.warm_up);
    at = schedule_began = now();
    if (options.rate > 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
        follow_schedule(at);
        return;
    }
    for (uint32_t i = 0; i < sender_count; i++)
        for (unsigned k = 0; k < options.window; k++)
            send_message(&senders[i], at);
}

static void on_command(void)
{
    char line[64];
    ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);

    line[got > 0 ? got : 0] = '\0';
    if (!strncmp(line, "go", 2) && phase == WAIT && sender_count && options.seconds > 0)
        start_sending();
    else
        phase = DONE;
}

static void all_are_connected(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    say("ready");
    if (options.stay) {
        enter(WAIT, 0);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
            fail("nobody says when to go on");
    } else if (sender_count && options.seconds > 0) {
        start_sending();
    } else {
        phase = DONE;
    }
}

static void check_patience(int64_t at)
{
    bool waiting = phase == CONNECT || phase == WARM_UP || phase == MEASURE;

    if (counts.deliveries != heard) {
        heard = counts.deliveries;
        heard_at = at;
    }
    if (waiting && at - heard_at > (int64_t)(options.patience * 1e9))
        fail("nothing has come for %.0f s, with %u of %u connected and %llu messages in flight", options.patience, live_count,
             connection_count, (unsigned long long)in_flight_total);
}

static void advance(int64_t at)
{
    check_patience(at);
    if (phase == CONNECT) {
        if (live_count == connection_count)
            all_are_connected();
        else
            connect_more();
    } else if (phase == WARM_UP && at >= phase_ends) {
        snapshot(false);
        say("measuring");
        enter(MEASURE, options.seconds);
    } else if (phase == MEASURE && at >= phase_ends) {
        measured = at - phase_began;
        phase = DRAIN; /* from here on nothing new is sent */
        snapshot(true);
        say("measured");
        enter(DRAIN, options.patience);
    } else if (phase == DRAIN && (tally_is_complete() || at >= phase_ends)) {
        phase = DONE;
    }
}

static void sweep(int64_t at)
{
    if (!options.lazy_ms || at < next_sweep)
        return;
    for (uint32_t i = 0; i < connection_count; i++)
        if (connections[i].state == LIVE && connections[i].sender < 0)
            drain_connection(&connections[i]);
    next_sweep = now() + options.lazy_ms * MILLISECOND;
}

static int timeout(int64_t at)
{
    int64_t until = phase == WARM_UP || phase == MEASURE ? phase_ends : at + 50 * MILLISECOND;

    if (phase == CONNECT)
        until = at + 5 * MILLISECOND; /* the backlog of a unix socket may have been full */
    if (options.lazy_ms && next_sweep < until)
        until = next_sweep;
    return until <= at ? 0 : (int)((until - at + MILLISECOND - 1) / MILLISECOND);
}

int main(int count, char **words)
{
    static struct epoll_event events[ROUND];

    if (count != 2) {
        fprintf(stderr, "usage: loadgen SETTINGS (bench/README.md)\n");
        return 2;
    }
    read_options(words[1]);
    prepare();
    enter(CONNECT, 0);
    advance(now());
    flush_dirty();
    while (phase != DONE) {
        int ready = epoll_wait(poller, events, ROUND, timeout(now()));
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < ready; i++) {
            if (!events[i].data.ptr) {
                on_command();
            } else if (events[i].data.ptr == &timer) {
                if (phase == WARM_UP || phase == MEASURE)
                    follow_schedule(now());
                else
                    epoll_ctl(poller, EPOLL_CTL_DEL, timer, NULL);
            } else {
                on_event(events[i].data.ptr, events[i].events);
            }
        }
        sweep(now());
        advance(now());
        flush_dirty();
    }
    report((double)measured / 1e9, joins_per_second(), NULL);
    reset_all();
    return 0;
}
