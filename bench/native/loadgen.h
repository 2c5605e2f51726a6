/*
 * The load generator: thousands of WebSocket connections in one thread, senders that keep a number of messages in flight or follow
 * a schedule, and a count of what arrives where. README.md says how to run it; options.c reads what it is told.
 *
 *   loadgen.c    the event loop and the phases of a run
 *   transport.c  connections: TCP, unix sockets, TLS, bytes in and out
 *   protocol.c   the three protocols: how a connection becomes usable, what a message looks like, which message has come
 *   tally.c      what was sent against what has come
 *   report.c     clocks of processes and processors, and the result as one line of JSON
 */
#ifndef BENCH_LOADGEN_H
#define BENCH_LOADGEN_H

#include "histogram.h"
#include "ws.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND 1000000000ll
#define MILLISECOND 1000000ll
#define READ_BYTES (256u << 10)
#define WATCHED_MAX 8
#define BODY_MAX 8000
/* The example of RFC 6455: everybody may use the same one. */
#define HANDSHAKE_KEY "dGhlIHNhbXBsZSBub25jZQ=="

enum protocol { HHC, SIO, RAW };
enum state { CONNECTING, SECURING, UPGRADING, GREETING, JOINING, LIVE, CLOSED };
enum phase { CONNECT, WAIT, WARM_UP, MEASURE, DRAIN, DONE };

struct options {
    enum protocol protocol;
    char address[128], path[256], host[128], origin[128], tokens[256];
    bool tls, until_hello, stay;
    unsigned sources, rooms, members, senders, sender_limit, window, body, handshakes, lazy_ms;
    double rate, warm_up, seconds, patience;
    struct {
        char name[24];
        int pid;
    } watched[WATCHED_MAX];
    unsigned watched_count;
};

/* A message on its way; kept until the ring comes around. */
struct flight {
    int64_t at; /* when it was sent, or should have been */
    uint32_t counter;
    bool copied, acked;
};

struct sender {
    struct connection *connection;
    struct flight *ring;
    uint32_t next;
};

struct room {
    uint64_t sent, sum; /* messages, and the sum of their marks */
};

struct connection {
    int fd;
    enum state state;
    SSL *ssl;
    uint32_t number, room;
    int32_t sender; /* index, or -1 */
    bool writing, dirty, watched;
    unsigned char *kept; /* the beginning of a frame that is not complete */
    size_t kept_length;
    unsigned char *out;
    size_t out_start, out_length, out_size;
    int64_t began;
    uint64_t received, sum, last_seq;
    uint32_t *last; /* the newest counter of each sender in the room */
};

struct counts {
    uint64_t deliveries, completed, bytes_in, bytes_out, reads;
};

extern struct options options;
extern enum phase phase;
extern struct connection *connections;
extern struct sender *senders;
extern struct room *rooms;
extern uint32_t connection_count, sender_count, live_count;
extern struct counts counts;
extern struct histogram ack_times, delivery_times, join_times;
extern uint64_t expected_deliveries, in_flight_total, disordered, gaps;
extern int poller;

/* loadgen.c */
int64_t now(void);
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void usable(struct connection *connection); /* it has joined */

/* options.c */
void read_options(const char *path);
char **read_tokens(const char *path, uint32_t count);

/* transport.c */
void prepare_addresses(void);
void prepare_tls(void);
bool open_connection(struct connection *connection); /* false: try again later (the backlog of a unix socket is full) */
void on_event(struct connection *connection, uint32_t events);
void drain_connection(struct connection *connection);
void queue_bytes(struct connection *connection, const void *data, size_t length);
void queue_frame(struct connection *connection, enum ws_opcode opcode, const void *payload, size_t length);
void flush_dirty(void);
void reset_all(void);

/* protocol.c */
extern char **tokens;
void prepare_protocol(void);
void upgrade_request(struct connection *connection);
void on_text(struct connection *connection, const char *text, size_t length, int64_t at);
void send_message(struct sender *sender, int64_t at);

/* tally.c */
void tally_sent(struct sender *sender, int64_t at);
void tally_copy(struct connection *connection, uint32_t sender, uint32_t counter, int64_t at);
void tally_seq(struct connection *connection, uint64_t seq);
void tally_ack(struct connection *connection, uint32_t sender, uint32_t counter, int64_t at);
bool tally_is_complete(void);
uint32_t tally_wrong(void); /* connections that did not receive exactly the messages of their room */

/* report.c */
void snapshot(bool end);
void report(double measured, double joined, const char *error);

#endif
