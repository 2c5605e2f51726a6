/* The three protocols: how a connection becomes usable, what a message looks like, and which message has come. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*
 * A client_id names its message: "cccccccc-ssss-4nnn-8nnn-nnnnnnnnnnnn", where s is the sender, n the same in one run, and c the
 * counter, spread over all values so that an index sees what it sees of random ids.
 */
#define ID_LENGTH 36
#define ID_TAIL 14 /* where the part begins that is the same in one run */
#define SPREAD 2654435761u
#define SENDER_STEP 40503u

struct key {
    const char *text;
    size_t length, hint; /* where it was found last: mostly it is there again */
};

#define NAMED(name) {.text = name, .length = sizeof name - 1}

static struct key client_id_key = NAMED("\"client_id\":\""), seq_key = NAMED("\"seq\":"), type_key = NAMED("\"type\":\"");
static struct key ack_id_key = NAMED("\"client_id\":\""), ack_seq_key = NAMED("\"seq\":");
static char tail[ID_LENGTH - ID_TAIL + 1];
static uint32_t salt, spread_inverse;
static char body[BODY_MAX + 1];
static signed char digit[256];

static const char sentence[] = "Practice moves to rink two at seven; bring both jerseys, and be on the ice in time. ";

void prepare_protocol(void)
{
    unsigned char random[12];
    uint32_t inverse = SPREAD;

    for (int i = 0; i < 5; i++)
        inverse *= 2 - SPREAD * inverse; /* Newton's iteration for the inverse modulo 2^32 */
    spread_inverse = inverse;
    if (getrandom(random, sizeof random, 0) != sizeof random)
        fail("no random bytes");
    memcpy(&salt, random, sizeof salt);
    snprintf(tail, sizeof tail, "4%02x%1x-8%02x%1x-%02x%02x%02x%02x%02x%02x", random[4], random[5] & 15, random[5], random[6] & 15, random[6],
             random[7], random[8], random[9], random[10], random[11]);
    memset(digit, -1, sizeof digit);
    for (int i = 0; i < 16; i++)
        digit[(unsigned char)"0123456789abcdef"[i]] = (signed char)i;
    for (unsigned i = 0; i < options.body; i++)
        body[i] = sentence[i % (sizeof sentence - 1)];
}

static uint32_t hex(const char *text, unsigned digits)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < digits; i++) {
        if (digit[(unsigned char)text[i]] < 0)
            fail("no id of ours: %.36s", text);
        value = value << 4 | (uint32_t)digit[(unsigned char)text[i]];
    }
    return value;
}

static void write_id(char id[ID_LENGTH + 1], uint32_t sender, uint32_t counter)
{
    snprintf(id, ID_LENGTH + 1, "%08x-%04x-%s", (counter * SPREAD + sender * SENDER_STEP) ^ salt, sender & 0xffff, tail);
}

static void read_id(const char *id, const char *end, uint32_t *sender, uint32_t *counter)
{
    if (end - id < ID_LENGTH || memcmp(id + ID_TAIL, tail, ID_LENGTH - ID_TAIL))
        fail("a message nobody sent: %.36s", id);
    *sender = hex(id + 9, 4);
    if (*sender >= sender_count)
        fail("a message of a sender who is not there: %.36s", id);
    *counter = ((hex(id, 8) ^ salt) - *sender * SENDER_STEP) * spread_inverse;
}

static const char *value_of(struct key *key, const char *text, size_t length)
{
    const char *found;

    if (key->hint + key->length <= length && !memcmp(text + key->hint, key->text, key->length))
        return text + key->hint + key->length;
    found = memmem(text, length, key->text, key->length);
    if (!found)
        return NULL;
    key->hint = (size_t)(found - text);
    return found + key->length;
}

static uint64_t number_of(struct key *key, const char *text, size_t length)
{
    const char *at = value_of(key, text, length);
    uint64_t value = 0;

    if (!at)
        fail("no %s in %.*s", key->text, (int)(length < 300 ? length : 300), text);
    for (; at < text + length && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

static void is_message(struct connection *connection, const char *text, size_t length, int64_t at)
{
    const char *id = value_of(&client_id_key, text, length);
    uint32_t sender, counter;

    if (!id)
        fail("a message without client_id: %.*s", (int)(length < 300 ? length : 300), text);
    read_id(id, text + length, &sender, &counter);
    tally_copy(connection, sender, counter, at);
}

void upgrade_request(struct connection *connection)
{
    char request[6000], query[64] = "";
    int length;

    if (options.protocol != HHC) /* the room and the person are in the address: nobody logs in */
        snprintf(query, sizeof query, "%croom=%u&user=%u", strchr(options.path, '?') ? '&' : '?', connection->room + 1, connection->number + 1);
    length = snprintf(request, sizeof request,
                      "GET %s%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: " HANDSHAKE_KEY "\r\nSec-WebSocket-Version: 13\r\n",
                      options.path, query, options.host);
    if (options.origin[0])
        length += snprintf(request + length, sizeof request - (size_t)length, "Origin: %s\r\n", options.origin);
    if (tokens)
        length += snprintf(request + length, sizeof request - (size_t)length, "Cookie: hhc_access=%s\r\n", tokens[connection->number]);
    length += snprintf(request + length, sizeof request - (size_t)length, "\r\n");
    queue_bytes(connection, request, (size_t)length);
}

static void on_hhc(struct connection *connection, const char *text, size_t length, int64_t at)
{
    static const char resume[] = "{\"type\":\"resume\",\"cursors\":{}}";
    const char *type;

    if (!length)
        return; /* just accepted: the server speaks first */
    type = value_of(&type_key, text, length);
    if (!type)
        fail("a frame without a type: %.*s", (int)(length < 300 ? length : 300), text);
    if (!memcmp(type, "message\"", 8)) {
        tally_seq(connection, number_of(&seq_key, text, length));
        is_message(connection, text, length, at);
    } else if (!memcmp(type, "ack\"", 4)) {
        const char *id = value_of(&ack_id_key, text, length);
        uint32_t sender, counter;
        if (!id)
            fail("an ack without client_id");
        read_id(id, text + length, &sender, &counter);
        if (!number_of(&ack_seq_key, text, length))
            fail("an ack without seq");
        tally_ack(connection, sender, counter, at);
    } else if (!memcmp(type, "hello\"", 6)) {
        if (options.until_hello) {
            connection->state = LIVE;
            usable(connection);
        } else {
            connection->state = JOINING;
            queue_frame(connection, WS_TEXT, resume, sizeof resume - 1);
        }
    } else if (!memcmp(type, "resumed\"", 8)) {
        connection->state = LIVE;
        usable(connection);
    } else if (!memcmp(type, "error\"", 6) || !memcmp(type, "drain\"", 6)) {
        fail("connection %u was told: %.*s", connection->number, (int)(length < 300 ? length : 300), text);
    }
}

/* engine.io v4 and socket.io v4 (their protocol documents, "packet encoding"), over the WebSocket transport alone. */
static void on_sio(struct connection *connection, const char *text, size_t length, int64_t at)
{
    if (!length)
        return;
    if (text[0] == '2') { /* ping */
        queue_frame(connection, WS_TEXT, "3", 1);
    } else if (text[0] == '0') { /* open */
        connection->state = JOINING;
        queue_frame(connection, WS_TEXT, "40", 2);
    } else if (length > 1 && text[0] == '4' && text[1] == '0') { /* connected to the namespace */
        connection->state = LIVE;
        usable(connection);
    } else if (length > 1 && text[0] == '4' && text[1] == '2') { /* event */
        is_message(connection, text, length, at);
    } else if (length > 1 && text[0] == '4' && text[1] == '3') { /* acknowledgement */
        uint32_t counter = 0;
        size_t i = 2;
        for (; i < length && text[i] >= '0' && text[i] <= '9'; i++)
            counter = counter * 10 + (uint32_t)(text[i] - '0');
        if (connection->sender < 0 || memmem(text, length, "\"error\"", 7))
            fail("connection %u was told: %.*s", connection->number, (int)length, text);
        tally_ack(connection, (uint32_t)connection->sender, counter, at);
    } else {
        fail("connection %u: an unknown packet: %.*s", connection->number, (int)(length < 300 ? length : 300), text);
    }
}

void on_text(struct connection *connection, const char *text, size_t length, int64_t at)
{
    if (options.protocol == HHC) {
        on_hhc(connection, text, length, at);
    } else if (options.protocol == SIO) {
        on_sio(connection, text, length, at);
    } else if (connection->state == GREETING) {
        if (!length)
            return;
        connection->state = LIVE; /* the first text only says that it is in its room */
        usable(connection);
    } else {
        is_message(connection, text, length, at);
    }
}

void send_message(struct sender *sender, int64_t at)
{
    static char text[BODY_MAX + 400];
    struct connection *connection = sender->connection;
    uint32_t number = (uint32_t)connection->sender, room = connection->room + 1;
    char id[ID_LENGTH + 1];
    int length;

    write_id(id, number, sender->next);
    if (options.protocol == HHC)
        length = snprintf(text, sizeof text, "{\"type\":\"send\",\"client_id\":\"%s\",\"conversation_id\":%u,\"body\":\"%s\"}", id, room, body);
    else if (options.protocol == SIO)
        length = snprintf(text, sizeof text, "42%u[\"send\",{\"room\":%u,\"client_id\":\"%s\",\"body\":\"%s\"}]", sender->next, room, id, body);
    else /* what a broadcast has to carry is as long as our own frame */
        length = snprintf(text, sizeof text,
                          "{\"type\":\"message\",\"conversation_id\":%u,\"seq\":%u,\"sender_id\":%u,\"client_id\":\"%s\",\"body\":\"%s\","
                          "\"created_at\":\"2026-01-01T12:00:00.000000Z\"}",
                          room, sender->next + 1, connection->number + 1, id, body);
    tally_sent(sender, at);
    queue_frame(connection, WS_TEXT, text, (size_t)length);
}
