/* Connections: opening, TLS, bytes in and out. What the bytes mean is protocol.c's. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX 8192

static struct sockaddr_in internet;
static struct sockaddr_un local;
static bool is_local;
static SSL_CTX *tls;
static unsigned char fresh[READ_BYTES];
static struct connection **dirty;
static uint32_t dirty_count;
static char accept_wanted[WS_ACCEPT_LENGTH + 1];

void prepare_addresses(void)
{
    char *colon;

    dirty = calloc(connection_count, sizeof *dirty);
    ws_accept(HANDSHAKE_KEY, strlen(HANDSHAKE_KEY), accept_wanted);
    if (!strncmp(options.address, "unix:", 5)) {
        is_local = true;
        local.sun_family = AF_UNIX;
        snprintf(local.sun_path, sizeof local.sun_path, "%.100s", options.address + 5);
        return;
    }
    colon = strrchr(options.address, ':');
    if (!colon)
        fail("address is HOST:PORT or unix:PATH, not %s", options.address);
    internet.sin_family = AF_INET;
    internet.sin_port = htons((uint16_t)atoi(colon + 1));
    *colon = '\0';
    if (inet_pton(AF_INET, options.address, &internet.sin_addr) != 1)
        fail("%s is no IPv4 address", options.address);
}

void prepare_tls(void)
{
    if (!options.tls)
        return;
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls)
        fail("no TLS");
    SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL); /* made a minute ago, for this run */
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls, 1); /* a record's header and body in one read */
}

/* Lazy connections that only listen are swept by the main loop instead. */
static bool is_swept(const struct connection *connection)
{
    return options.lazy_ms && connection->sender < 0 && connection->state == LIVE;
}

static void watch(struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int operation = connection->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (connection->writing || connection->state == CONNECTING)
        event.events |= EPOLLOUT;
    if (is_swept(connection) && !connection->writing)
        event.events = 0;
    if (epoll_ctl(poller, operation, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->watched = true;
}

static void secure(struct connection *connection);

static void connected(struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;

    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        fail("connection %u: %s", connection->number, strerror(error));
    if (tls) {
        connection->ssl = SSL_new(tls);
        SSL_set_fd(connection->ssl, connection->fd);
        SSL_set_tlsext_host_name(connection->ssl, options.host);
        SSL_set_connect_state(connection->ssl);
        connection->state = SECURING;
        secure(connection);
        return;
    }
    connection->state = UPGRADING;
    upgrade_request(connection);
    watch(connection);
}

static void secure(struct connection *connection)
{
    int done = SSL_do_handshake(connection->ssl);

    if (done == 1) {
        connection->state = UPGRADING;
        upgrade_request(connection);
    } else {
        int why = SSL_get_error(connection->ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            fail("connection %u: TLS: %s", connection->number, ERR_error_string(ERR_get_error(), NULL));
        connection->writing = why == SSL_ERROR_WANT_WRITE;
    }
    watch(connection);
}

bool open_connection(struct connection *connection)
{
    int family = is_local ? AF_UNIX : AF_INET, yes = 1, done;

    connection->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    connection->began = now();
    connection->state = CONNECTING;
    if (is_local) {
        done = connect(connection->fd, (struct sockaddr *)&local, sizeof local);
        if (done < 0 && errno == EAGAIN) {
            close(connection->fd);
            return false;
        }
    } else {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + connection->number % options.sources);
        setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (bind(connection->fd, (struct sockaddr *)&source, sizeof source) < 0)
            fail("bind: %s", strerror(errno));
        done = connect(connection->fd, (struct sockaddr *)&internet, sizeof internet);
    }
    if (done < 0 && errno != EINPROGRESS)
        fail("connection %u: %s", connection->number, strerror(errno));
    if (done == 0)
        connected(connection);
    else
        watch(connection);
    return true;
}

/* Returns the bytes read, 0 when there are none now; a connection that ends ends the run. */
static size_t receive(struct connection *connection, unsigned char *into, size_t room)
{
    ssize_t got;

    counts.reads++;
    if (connection->ssl) {
        int read = SSL_read(connection->ssl, into, (int)room), why;
        if (read > 0)
            return (size_t)read;
        why = SSL_get_error(connection->ssl, read);
        if (why == SSL_ERROR_WANT_READ)
            return 0;
        fail("connection %u was closed (TLS error %d, %s)", connection->number, why, strerror(errno));
    }
    got = recv(connection->fd, into, room, 0);
    if (got > 0)
        return (size_t)got;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    fail("connection %u was closed in state %d: %s", connection->number, connection->state, got ? strerror(errno) : "end of stream");
}

static size_t take_answer(struct connection *connection, unsigned char *data, size_t length)
{
    char *end = memmem(data, length, "\r\n\r\n", 4);

    if (!end) {
        if (length > ANSWER_MAX)
            fail("connection %u: an answer without an end", connection->number);
        return 0;
    }
    *end = '\0';
    if (strncmp((char *)data, "HTTP/1.1 101", 12))
        fail("connection %u was refused: %.200s", connection->number, (char *)data);
    if (!strstr((char *)data, accept_wanted))
        fail("connection %u: a wrong Sec-WebSocket-Accept", connection->number);
    connection->state = GREETING;
    on_text(connection, "", 0, 0);
    return (size_t)((unsigned char *)end + 4 - data);
}

static size_t take_frames(struct connection *connection, unsigned char *data, size_t length, int64_t at)
{
    struct ws_frame frame;
    size_t done = 0;

    if (connection->state == UPGRADING) {
        done = take_answer(connection, data, length);
        if (!done)
            return 0;
    }
    for (;;) {
        switch (ws_parse(data + done, length - done, false, &frame)) {
        case WS_INCOMPLETE:
            return done;
        case WS_BROKEN:
            fail("connection %u: a broken frame", connection->number);
        case WS_FRAME:
            break;
        }
        if (frame.opcode == WS_TEXT)
            on_text(connection, (char *)frame.payload, frame.length, at);
        else if (frame.opcode == WS_PING)
            queue_frame(connection, WS_PONG, frame.payload, frame.length);
        else if (frame.opcode == WS_CLOSE)
            fail("connection %u was closed with %d: %.*s", connection->number, frame.length < 2 ? 0 : frame.payload[0] << 8 | frame.payload[1],
                 frame.length < 2 ? 0 : (int)frame.length - 2, (char *)frame.payload + 2);
        else if (frame.opcode != WS_PONG)
            fail("connection %u: an unexpected frame of type %d", connection->number, frame.opcode);
        done += frame.total;
    }
}

void drain_connection(struct connection *connection)
{
    size_t got, length, taken, room;

    do {
        room = READ_BYTES - connection->kept_length;
        got = receive(connection, fresh + connection->kept_length, room);
        if (!got)
            return;
        counts.bytes_in += got;
        length = got;
        if (connection->kept_length) {
            memcpy(fresh, connection->kept, connection->kept_length);
            length += connection->kept_length;
            free(connection->kept);
            connection->kept = NULL;
        }
        taken = take_frames(connection, fresh, length, now());
        connection->kept_length = length - taken;
        if (connection->kept_length >= READ_BYTES)
            fail("connection %u: a frame too large", connection->number);
        if (connection->kept_length) {
            connection->kept = malloc(connection->kept_length);
            if (!connection->kept)
                fail("memory");
            memcpy(connection->kept, fresh + taken, connection->kept_length);
        }
        /* TLS keeps what it has read by itself, and nobody would tell us of it again */
    } while (connection->ssl || got == room);
}

static void flush_out(struct connection *connection)
{
    bool was_writing = connection->writing;

    connection->writing = false;
    while (connection->out_start < connection->out_length) {
        size_t left = connection->out_length - connection->out_start;
        ssize_t sent;
        if (connection->ssl) {
            sent = SSL_write(connection->ssl, connection->out + connection->out_start, (int)left);
            if (sent <= 0 && SSL_get_error(connection->ssl, (int)sent) == SSL_ERROR_WANT_WRITE)
                errno = EAGAIN;
        } else {
            sent = send(connection->fd, connection->out + connection->out_start, left, MSG_NOSIGNAL);
        }
        if (sent <= 0) {
            if (errno != EAGAIN)
                fail("connection %u cannot be written to: %s", connection->number, strerror(errno));
            connection->writing = true;
            break;
        }
        counts.bytes_out += (uint64_t)sent;
        connection->out_start += (size_t)sent;
    }
    if (connection->out_start == connection->out_length)
        connection->out_start = connection->out_length = 0;
    if (connection->writing != was_writing)
        watch(connection);
}

void on_event(struct connection *connection, uint32_t events)
{
    if (connection->state == CONNECTING)
        connected(connection);
    else if (connection->state == SECURING)
        secure(connection);
    else {
        enum state before = connection->state;
        if (events & EPOLLOUT)
            flush_out(connection);
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            drain_connection(connection);
        if (before != LIVE && is_swept(connection))
            watch(connection);
    }
}

void queue_bytes(struct connection *connection, const void *data, size_t length)
{
    if (connection->out_length + length > connection->out_size) {
        connection->out_size = (connection->out_length + length) * 2;
        connection->out = realloc(connection->out, connection->out_size);
        if (!connection->out)
            fail("memory");
    }
    memcpy(connection->out + connection->out_length, data, length);
    connection->out_length += length;
    if (!connection->dirty) {
        connection->dirty = true;
        dirty[dirty_count++] = connection;
    }
}

void queue_frame(struct connection *connection, enum ws_opcode opcode, const void *payload, size_t length)
{
    static uint32_t noise = 2463534242u;
    unsigned char header[WS_HEADER_MAX], mask[4];
    size_t at;

    noise ^= noise << 13; /* xorshift32: a mask only has to vary here */
    noise ^= noise >> 17;
    noise ^= noise << 5;
    memcpy(mask, &noise, 4);
    queue_bytes(connection, header, ws_header(header, opcode, length, mask));
    at = connection->out_length;
    queue_bytes(connection, payload, length);
    ws_mask(connection->out + at, length, mask);
}

void flush_dirty(void)
{
    for (uint32_t i = 0; i < dirty_count; i++) {
        dirty[i]->dirty = false;
        if (!dirty[i]->writing)
            flush_out(dirty[i]);
    }
    dirty_count = 0;
}

void reset_all(void)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    for (uint32_t i = 0; i < connection_count; i++) {
        if (connections[i].fd < 0)
            continue;
        setsockopt(connections[i].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(connections[i].fd);
    }
}
