/*
 * What was sent against what has come. Every socket must receive every message of its room exactly once: the number of messages and
 * the sum of a mark of each must be the room's. Order is looked at as well: by the counter of each sender, and by seq where there is one.
 */
#include "loadgen.h"

#include <stdlib.h>

#define RING 8192u

/* Finalizer of splitmix64 (Steele, Lea, Flood 2014): sums of these agree by chance once in 2^64. */
static uint64_t mark(uint32_t sender, uint32_t counter)
{
    uint64_t z = ((uint64_t)sender << 32 | counter) + 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void tally_sent(struct sender *sender, int64_t at)
{
    struct room *room = &rooms[sender->connection->room];
    struct flight *flight;

    if (!sender->ring) {
        sender->ring = calloc(RING, sizeof *sender->ring);
        if (!sender->ring)
            fail("memory");
    }
    flight = &sender->ring[sender->next % RING];
    if (sender->next >= RING && !(flight->copied && flight->acked))
        fail("the server is %u messages of one sender behind", RING);
    *flight = (struct flight){.at = at, .counter = sender->next, .acked = options.protocol == RAW};
    room->sent++;
    room->sum += mark((uint32_t)sender->connection->sender, sender->next);
    sender->next++;
    in_flight_total++;
    expected_deliveries += options.members;
}

static void completed(struct sender *sender, struct flight *flight, int64_t at)
{
    if (!flight->copied || !flight->acked)
        return;
    in_flight_total--;
    counts.completed++;
    if (options.rate <= 0 && (phase == WARM_UP || phase == MEASURE))
        send_message(sender, at);
}

void tally_copy(struct connection *connection, uint32_t sender, uint32_t counter, int64_t at)
{
    struct flight *flight = &senders[sender].ring[counter % RING];
    uint32_t *last = &connection->last[sender % options.senders];

    if (senders[sender].connection->room != connection->room)
        fail("connection %u of room %u received a message of room %u", connection->number, connection->room, senders[sender].connection->room);
    counts.deliveries++;
    connection->received++;
    connection->sum += mark(sender, counter);
    if (counter != *last)
        disordered++;
    *last = counter + 1;
    if (flight->counter != counter)
        return; /* a socket that is swept seldom: its time is not asked for */
    if (phase == MEASURE && !(options.lazy_ms && connection->sender < 0))
        histogram_add(&delivery_times, at - flight->at);
    if (connection->sender == (int32_t)sender && !flight->copied) {
        flight->copied = true;
        if (options.protocol == RAW && phase == MEASURE)
            histogram_add(&ack_times, at - flight->at);
        completed(&senders[sender], flight, at);
    }
}

void tally_seq(struct connection *connection, uint64_t seq)
{
    if (connection->last_seq && seq != connection->last_seq + 1)
        gaps++;
    connection->last_seq = seq;
}

void tally_ack(struct connection *connection, uint32_t sender, uint32_t counter, int64_t at)
{
    struct flight *flight;

    if (connection->sender != (int32_t)sender || !senders[sender].ring)
        fail("connection %u received an ack of sender %u", connection->number, sender);
    flight = &senders[sender].ring[counter % RING];
    if (flight->counter != counter || flight->acked)
        fail("connection %u received an ack it did not wait for", connection->number);
    flight->acked = true;
    if (phase == MEASURE)
        histogram_add(&ack_times, at - flight->at);
    completed(&senders[sender], flight, at);
}

bool tally_is_complete(void)
{
    return !in_flight_total && counts.deliveries >= expected_deliveries;
}

uint32_t tally_wrong(void)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < connection_count; i++) {
        const struct room *room = &rooms[connections[i].room];
        if (connections[i].received != room->sent || connections[i].sum != room->sum)
            wrong++;
    }
    return wrong;
}
