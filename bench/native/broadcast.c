/*
 * What a broadcast costs at the least: a WebSocket server in C that sends every message to everybody in its room, and does nothing
 * else. One thread, level-triggered epoll. It stores nothing, knows nobody, and checks no text.
 *
 *   broadcast --port PORT --mode plain      one send() for each message and socket
 *   broadcast --port PORT --mode coalesce   what arrived in one round of epoll_wait is framed once and leaves each socket in one send()
 *
 * The room is the number after "room=" in the request's target; a socket that is in it is told "joined". Says "ready" once it listens.
 */
#define _GNU_SOURCE
#include "ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUND 1024
#define READ_BYTES 65536
#define REQUEST_MAX 8192
#define ROOMS 65536
#define BACKLOG_MAX (64u << 20)

struct buffer {
    unsigned char *data;
    size_t start, length, size;
};

struct client {
    int fd;
    bool open, upgraded, writing;
    uint32_t room, place; /* its index among the room's members */
    struct buffer in, out;
};

struct room {
    struct client **members;
    uint32_t count, size;
    bool dirty;
    struct buffer batch;
};

static struct room rooms[ROOMS];
static uint32_t dirty[ROOMS], dirty_count;
static struct client *closed[ROUND];
static unsigned closed_count;
static int poller;
static bool coalesce;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *grow(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (!memory)
        die("memory");
    return memory;
}

static void append(struct buffer *buffer, const void *data, size_t length)
{
    if (buffer->start && buffer->start == buffer->length)
        buffer->start = buffer->length = 0;
    if (buffer->length + length > buffer->size) {
        buffer->size = (buffer->length + length) * 2;
        buffer->data = grow(buffer->data, buffer->size);
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static void watch(struct client *client, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (client->writing ? EPOLLOUT : 0), .data.ptr = client};
    if (epoll_ctl(poller, operation, client->fd, &event) < 0)
        die("epoll_ctl");
}

static void drop(struct client *client)
{
    if (!client->open)
        return;
    client->open = false;
    close(client->fd);
    if (client->upgraded) {
        struct room *room = &rooms[client->room];
        room->members[client->place] = room->members[--room->count];
        room->members[client->place]->place = client->place;
    }
    closed[closed_count++] = client; /* this round's events may still name it */
}

/* Send now, or keep what the kernel does not take. A peer that is gone is noticed by the next read. */
static void transmit(struct client *client, const unsigned char *data, size_t length)
{
    ssize_t sent = 0;

    if (!client->writing) {
        sent = send(client->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)length)
            return;
        if (sent < 0) {
            if (errno != EAGAIN)
                return;
            sent = 0;
        }
    }
    if (client->out.length - client->out.start + length > BACKLOG_MAX) {
        shutdown(client->fd, SHUT_RDWR);
        return;
    }
    append(&client->out, data + sent, length - (size_t)sent);
    if (!client->writing) {
        client->writing = true;
        watch(client, EPOLL_CTL_MOD);
    }
}

static void flush_client(struct client *client)
{
    struct buffer *out = &client->out;
    ssize_t sent = send(client->fd, out->data + out->start, out->length - out->start, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent > 0)
        out->start += (size_t)sent;
    if (out->start == out->length) {
        out->start = out->length = 0;
        client->writing = false;
        watch(client, EPOLL_CTL_MOD);
    }
}

static void to_all(struct room *room, const unsigned char *data, size_t length)
{
    for (uint32_t i = 0; i < room->count; i++)
        transmit(room->members[i], data, length);
}

static void broadcast(struct client *client, const unsigned char *payload, size_t length)
{
    static unsigned char frame[WS_HEADER_MAX + READ_BYTES];
    struct room *room = &rooms[client->room];
    size_t header = ws_header(frame, WS_TEXT, length, NULL);

    if (coalesce) {
        if (!room->dirty) {
            room->dirty = true;
            dirty[dirty_count++] = client->room;
        }
        append(&room->batch, frame, header);
        append(&room->batch, payload, length);
        return;
    }
    memcpy(frame + header, payload, length);
    to_all(room, frame, header + length);
}

static void end_round(void)
{
    for (uint32_t i = 0; i < dirty_count; i++) {
        struct room *room = &rooms[dirty[i]];
        to_all(room, room->batch.data, room->batch.length);
        room->batch.length = 0;
        room->dirty = false;
    }
    dirty_count = 0;
    for (unsigned i = 0; i < closed_count; i++) {
        free(closed[i]->in.data);
        free(closed[i]->out.data);
        free(closed[i]);
    }
    closed_count = 0;
}

static bool upgrade(struct client *client, char *request)
{
    char accept[WS_ACCEPT_LENGTH + 1], answer[256], *key = strcasestr(request, "\r\nSec-WebSocket-Key:"), *wanted;
    struct room *room;
    int length;

    wanted = strstr(request, "room=");
    if (!key)
        return false;
    key += strlen("\r\nSec-WebSocket-Key:");
    key += strspn(key, " ");
    ws_accept(key, strcspn(key, " \r\n"), accept);
    length = snprintf(answer, sizeof answer,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
                      "\x81\x06joined",
                      accept);
    client->room = wanted ? (uint32_t)strtoul(wanted + 5, NULL, 10) % ROOMS : 0;
    room = &rooms[client->room];
    if (room->count == room->size) {
        room->size = room->size ? room->size * 2 : 8;
        room->members = grow(room->members, room->size * sizeof *room->members);
    }
    client->place = room->count;
    room->members[room->count++] = client;
    client->upgraded = true;
    transmit(client, (unsigned char *)answer, (size_t)length);
    return true;
}

/* Take what is complete from `data`. Returns the bytes taken, or -1 when the connection is to end. */
static ssize_t take(struct client *client, unsigned char *data, size_t length)
{
    struct ws_frame frame;
    size_t at = 0;

    if (!client->upgraded) {
        char *end = memmem(data, length, "\r\n\r\n", 4);
        if (!end)
            return length > REQUEST_MAX ? -1 : 0;
        end[2] = '\0';
        if (!upgrade(client, (char *)data))
            return -1;
        at = (size_t)((unsigned char *)end + 4 - data);
    }
    for (;;) {
        enum ws_parsed parsed = ws_parse(data + at, length - at, true, &frame);
        if (parsed == WS_INCOMPLETE)
            return (ssize_t)at;
        if (parsed == WS_BROKEN || frame.opcode == WS_CLOSE || frame.length > READ_BYTES)
            return -1;
        if (frame.opcode == WS_TEXT)
            broadcast(client, frame.payload, frame.length);
        at += frame.total;
    }
}

static void read_client(struct client *client)
{
    static unsigned char fresh[READ_BYTES];
    ssize_t got = recv(client->fd, fresh, sizeof fresh, MSG_DONTWAIT), taken;
    struct buffer *in = &client->in;

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(client);
        return;
    }
    if (in->length == 0) { /* mostly: what came is whole */
        taken = take(client, fresh, (size_t)got);
        if (taken >= 0 && taken < got)
            append(in, fresh + taken, (size_t)(got - taken));
    } else {
        append(in, fresh, (size_t)got);
        taken = take(client, in->data, in->length);
        if (taken > 0) {
            memmove(in->data, in->data + taken, in->length - (size_t)taken);
            in->length -= (size_t)taken;
        }
    }
    if (taken < 0)
        drop(client);
}

static void accept_all(int listener)
{
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
        struct client *client;
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        client = calloc(1, sizeof *client);
        if (!client)
            die("memory");
        client->fd = fd;
        client->open = true;
        watch(client, EPOLL_CTL_ADD);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die("listen");
    return fd;
}

int main(int count, char **words)
{
    struct epoll_event events[ROUND], event = {.events = EPOLLIN};
    struct rlimit files;
    int port = 0, listener;

    for (int i = 1; i + 1 < count; i += 2) {
        if (!strcmp(words[i], "--port"))
            port = atoi(words[i + 1]);
        else if (!strcmp(words[i], "--mode"))
            coalesce = !strcmp(words[i + 1], "coalesce");
    }
    if (!port || count != 5) {
        fprintf(stderr, "usage: broadcast --port PORT --mode plain|coalesce\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on(port);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, ROUND, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                accept_all(listener);
                continue;
            }
            if (client->open && events[i].events & EPOLLOUT)
                flush_client(client);
            if (client->open && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_client(client);
        }
        end_round();
    }
}
