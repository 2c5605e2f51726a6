#include "ws.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_MAX 64

void ws_mask(unsigned char *data, size_t length, const unsigned char mask[4])
{
    uint64_t wide;
    unsigned char twice[8];
    size_t i = 0;

    memcpy(twice, mask, 4);
    memcpy(twice + 4, mask, 4);
    memcpy(&wide, twice, 8);
    for (; i + 8 <= length; i += 8) {
        uint64_t part;
        memcpy(&part, data + i, 8);
        part ^= wide;
        memcpy(data + i, &part, 8);
    }
    for (; i < length; i++)
        data[i] ^= mask[i & 3];
}

enum ws_parsed ws_parse(unsigned char *data, size_t length, bool masked, struct ws_frame *frame)
{
    size_t header = 2, payload;

    if (length < 2)
        return WS_INCOMPLETE;
    if ((data[0] & 0xf0) != 0x80 || ((data[1] & 0x80) != 0) != masked)
        return WS_BROKEN; /* nobody here fragments, and nobody agreed to an extension */
    payload = data[1] & 0x7f;
    if (payload == 126) {
        if (length < 4)
            return WS_INCOMPLETE;
        payload = (size_t)data[2] << 8 | data[3];
        header = 4;
    } else if (payload == 127) {
        if (length < 10)
            return WS_INCOMPLETE;
        payload = 0;
        for (int i = 2; i < 10; i++)
            payload = payload << 8 | data[i];
        header = 10;
        if (payload > (size_t)1 << 31)
            return WS_BROKEN;
    }
    if (masked)
        header += 4;
    if (length < header + payload)
        return WS_INCOMPLETE;
    frame->opcode = data[0] & 0x0f;
    frame->payload = data + header;
    frame->length = payload;
    frame->total = header + payload;
    if (masked)
        ws_mask(frame->payload, payload, data + header - 4);
    return WS_FRAME;
}

size_t ws_header(unsigned char *out, enum ws_opcode opcode, size_t length, const unsigned char *mask)
{
    unsigned char bit = mask ? 0x80 : 0;
    size_t at = 2;

    out[0] = 0x80 | (unsigned char)opcode;
    if (length < 126) {
        out[1] = bit | (unsigned char)length;
    } else if (length < 65536) {
        out[1] = bit | 126;
        out[2] = (unsigned char)(length >> 8);
        out[3] = (unsigned char)length;
        at = 4;
    } else {
        out[1] = bit | 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (unsigned char)((uint64_t)length >> (56 - 8 * i));
        at = 10;
    }
    if (mask) {
        memcpy(out + at, mask, 4);
        at += 4;
    }
    return at;
}

void ws_accept(const char *key, size_t length, char accept[WS_ACCEPT_LENGTH + 1])
{
    unsigned char text[KEY_MAX + sizeof GUID], digest[SHA_DIGEST_LENGTH];

    if (length > KEY_MAX)
        length = KEY_MAX;
    memcpy(text, key, length);
    memcpy(text + length, GUID, sizeof GUID - 1);
    SHA1(text, length + sizeof GUID - 1, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
}
