/*
 * WebSocket frames and the opening handshake (RFC 6455), for both ends. Knows no sockets and no chat.
 */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode { WS_CONTINUED = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum ws_parsed { WS_INCOMPLETE, WS_FRAME, WS_BROKEN };

#define WS_HEADER_MAX 14
#define WS_ACCEPT_LENGTH 28

struct ws_frame {
    int opcode;
    unsigned char *payload; /* inside what was parsed, unmasked in place */
    size_t length;          /* of the payload */
    size_t total;           /* with its header: the next frame begins there */
};

/* Read one unfragmented frame at `data`. `masked`: frames of a client, which must be; a server's must not. */
enum ws_parsed ws_parse(unsigned char *data, size_t length, bool masked, struct ws_frame *frame);

/* Write a final frame's header; a client passes its mask of four bytes, a server NULL. Returns the header's bytes. */
size_t ws_header(unsigned char *out, enum ws_opcode opcode, size_t length, const unsigned char *mask);

void ws_mask(unsigned char *data, size_t length, const unsigned char mask[4]);

/* The answer to a Sec-WebSocket-Key (RFC 6455, section 4.2.2), with its terminating NUL. */
void ws_accept(const char *key, size_t length, char accept[WS_ACCEPT_LENGTH + 1]);

#endif
