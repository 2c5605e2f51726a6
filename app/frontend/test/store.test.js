import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError } from "../../src/hockey_hub_chat/web/static/js/api.js";
import { FILL_MOST, RESEND_MS } from "../../src/hockey_hub_chat/web/static/js/store.js";
import { Bench, coach, conversation, goalie, message, settle } from "./helpers.js";

/** @param {number} from @param {number} to */
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("messages in order are held once each", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  for (const seq of [1, 2, 2, 1, 3]) bench.message(message(seq));
  assert.deepEqual(bench.seqs(), [1, 2, 3]);
  assert.deepEqual(bench.asked, []);
});

test("a message that comes too early waits, and the history is asked for what is before it", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.message(message(1));
  bench.stored = range(1, 4).map((seq) => message(seq));
  bench.message(message(4));
  assert.deepEqual(bench.seqs(), [1]);
  assert.deepEqual(bench.store.cursors(), { 7: 1 });
  await settle();
  assert.deepEqual(bench.seqs(), [1, 2, 3, 4]);
  assert.deepEqual(bench.asked, [{ after_seq: 1, limit: 200 }]);
});

test("messages out of order are put in order without the history, when they all come", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.message(message(1));
  bench.failure = new ApiError("network", "", { retryable: true });
  for (const seq of [3, 4, 2]) bench.message(message(seq));
  assert.deepEqual(bench.seqs(), [1, 2, 3, 4]);
  await settle();
  assert.deepEqual(bench.seqs(), [1, 2, 3, 4]);
});

test("every order of arrival, with repeats, ends the same", async () => {
  let state = 42;
  const random = () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
  for (let round = 0; round < 200; round++) {
    const bench = new Bench();
    bench.store.load([conversation(3)]);
    bench.stored = range(1, 20).map((seq) => message(seq));
    const arriving = range(4, 20).flatMap((seq) => (random() < 0.2 ? [] : random() < 0.3 ? [seq, seq] : [seq]));
    arriving.sort(() => random() - 0.5);
    for (const seq of [...arriving, 20]) {
      bench.message(message(seq));
      if (random() < 0.3) await settle();
    }
    await settle();
    await settle();
    const held = bench.seqs();
    assert.deepEqual(held, range(held[0] ?? 0, 20), `round ${round}: ${arriving}`);
    assert.equal(bench.conversation().to, 20);
  }
});

test("a failed history request is repeated until the gap is closed", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.message(message(1));
  bench.stored = range(1, 3).map((seq) => message(seq));
  bench.failure = new ApiError("unavailable", "", { retryable: true, status: 503 });
  bench.message(message(3));
  await settle();
  assert.deepEqual(bench.seqs(), [1]);
  bench.failure = null;
  bench.clock.pass(2_000);
  await settle();
  assert.deepEqual(bench.seqs(), [1, 2, 3]);
});

test("a gap frame is paged through to its end, live messages meanwhile waiting their turn", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.message(message(1));
  bench.stored = range(1, 700).map((seq) => message(seq));
  bench.store.receive({ type: "gap", conversation_id: 7, after_seq: 1, last_seq: 700 });
  bench.message(message(701));
  await settle();
  assert.deepEqual(bench.seqs(), range(1, 701));
  assert.deepEqual(
    bench.asked.map((page) => page.after_seq),
    [1, 201, 401, 601],
  );
});

test("after a very long absence the window starts again at the newest", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.message(message(1));
  const last = FILL_MOST + 500;
  bench.stored = range(1, last).map((seq) => message(seq));
  bench.store.receive({ type: "gap", conversation_id: 7, after_seq: 1, last_seq: last });
  await settle();
  assert.deepEqual(bench.seqs(), range(last - 49, last));
  assert.equal(bench.asked.length, 1);
  await bench.store.loadOlder(bench.conversation());
  assert.deepEqual(bench.seqs(), range(last - 99, last));
});

test("resumed shows what is missing even when nothing was sent", async () => {
  const bench = new Bench();
  bench.store.load([conversation(2, { last_message: message(2) })]);
  bench.stored = range(1, 4).map((seq) => message(seq));
  bench.store.receive({ type: "resumed", last_seqs: { 7: 4 } });
  await settle();
  assert.deepEqual(bench.seqs(), [2, 3, 4]);
});

test("cursors are the newest seq without a gap, of every conversation", () => {
  const bench = new Bench();
  bench.store.load([conversation(5), conversation(9, { id: 8, last_message: message(9, { conversation_id: 8 }) })]);
  bench.message(message(6));
  assert.deepEqual(bench.store.cursors(), { 7: 6, 8: 9 });
});

test("resumed removes what one is no longer in and fetches what is new", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0), conversation(0, { id: 8 })]);
  bench.known.set(9, conversation(3, { id: 9 }));
  bench.store.receive({ type: "resumed", last_seqs: { 7: 0, 9: 3 } });
  await settle();
  assert.deepEqual([...bench.store.conversations.value.keys()], [7, 9]);
});

test("messages of a conversation that is not known yet are kept until it is", async () => {
  const bench = new Bench();
  bench.known.set(7, conversation(1));
  bench.stored = range(1, 3).map((seq) => message(seq));
  bench.message(message(2));
  bench.message(message(3));
  await settle();
  assert.equal(bench.conversation().to, 3);
  assert.deepEqual(bench.seqs().slice(-2), [2, 3]);
});

test("older history is put before, without repeats, down to the beginning", async () => {
  const bench = new Bench();
  bench.stored = range(1, 60).map((seq) => message(seq));
  bench.store.load([conversation(60)]);
  await bench.store.loadOlder(bench.conversation());
  assert.deepEqual(bench.seqs(), range(11, 60));
  await bench.store.loadOlder(bench.conversation());
  assert.deepEqual(bench.seqs(), range(1, 60));
  const asked = bench.asked.length;
  await bench.store.loadOlder(bench.conversation());
  assert.equal(bench.asked.length, asked);
});

test("a sent message is pending, then acknowledged, then its own copy", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  assert.equal(bench.unsent().state, "pending");
  bench.store.receive({ type: "ack", client_id, conversation_id: 7, seq: 1, created_at: "2026-11-01T10:00:00Z" });
  assert.equal(bench.unsent().state, "sent");
  assert.equal(bench.shelf.keys().length, 0);
  bench.message(message(1, { client_id, sender_id: goalie.id, body: "hello" }));
  assert.deepEqual(bench.store.outbox.of(7), []);
  assert.deepEqual(bench.seqs(), [1]);
});

test("the copy may come before the ack", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  bench.message(message(1, { client_id, sender_id: goalie.id, body: "hello" }));
  assert.deepEqual(bench.store.outbox.of(7), []);
  bench.store.receive({ type: "ack", client_id, conversation_id: 7, seq: 1, created_at: "2026-11-01T10:00:00Z" });
  assert.deepEqual(bench.store.outbox.of(7), []);
  bench.clock.pass(RESEND_MS * 2);
  assert.equal(bench.sends().length, 1);
});

test("somebody else's message with the same client_id is not mistaken for one's own", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  bench.message(message(1, { client_id, sender_id: coach.id }));
  assert.equal(bench.unsent().state, "pending");
});

test("an ack that was lost: the same client_id is sent again after the reconnection", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  bench.store.disconnected();
  bench.store.receive({ type: "resumed", last_seqs: { 7: 0 } });
  assert.deepEqual(
    bench.sends().map((frame) => frame.client_id),
    [client_id, client_id],
  );
});

test("an ack that was lost, but the copy came with the resume: nothing is sent again", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  bench.store.disconnected();
  bench.message(message(1, { client_id, sender_id: goalie.id, body: "hello" }));
  bench.store.receive({ type: "resumed", last_seqs: { 7: 1 } });
  assert.equal(bench.sends().length, 1);
  assert.deepEqual(bench.store.outbox.of(7), []);
});

test("without an answer the same frame is sent again on the same connection", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  bench.store.send(7, "hello");
  bench.clock.pass(RESEND_MS);
  const [first, second] = bench.sends();
  assert.deepEqual(first, second);
});

test("written offline: kept over a reload and sent in the order of writing", () => {
  const bench = new Bench();
  bench.online = false;
  bench.store.load([conversation(0)]);
  for (const body of ["one", "two", "three"]) bench.store.send(7, body);
  assert.deepEqual(bench.sends(), []);
  bench.restart();
  bench.store.load([conversation(0)]);
  bench.online = true;
  bench.store.receive({ type: "resumed", last_seqs: { 7: 0 } });
  assert.deepEqual(
    bench.sends().map((frame) => frame.body),
    ["one", "two", "three"],
  );
  assert.equal(new Set(bench.sends().map((frame) => frame.client_id)).size, 3);
});

test("after a reload a message committed before is found in the history and not shown twice", async () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  bench.stored = [message(1, { client_id, sender_id: goalie.id, body: "hello" })];
  bench.restart();
  bench.store.load([conversation(1)]);
  await bench.store.loadOlder(bench.conversation());
  assert.deepEqual(bench.store.outbox.of(7), []);
  assert.deepEqual(bench.seqs(), [1]);
});

test("one person's outbox is not another's", () => {
  const bench = new Bench();
  bench.online = false;
  bench.store.load([conversation(0)]);
  bench.store.send(7, "hello");
  assert.ok(bench.shelf.keys().every((key) => key.startsWith(`hhc.outbox.${goalie.id}.`)));
});

test("refused for good: failed, kept over a reload, sent again only at the writer's wish", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "hello");
  const refusal = /** @type {const} */ ({ type: "error", message: "", retryable: false, details: {}, client_id });
  bench.store.receive({ ...refusal, code: "not_a_member" });
  assert.equal(bench.unsent().state, "failed");
  bench.restart();
  bench.store.load([conversation(0)]);
  bench.store.receive({ type: "resumed", last_seqs: { 7: 0 } });
  assert.equal(bench.sends().length, 1);
  bench.store.retry(bench.unsent());
  assert.deepEqual(
    bench.sends().map((frame) => frame.client_id),
    [client_id, client_id],
  );
  bench.store.receive({ ...refusal, code: "conflict" });
  bench.store.retry(bench.unsent());
  assert.notEqual(bench.sends().at(-1)?.client_id, client_id);
  bench.store.discard(bench.unsent());
  assert.deepEqual([bench.store.outbox.of(7), bench.shelf.keys()], [[], []]);
});

test("over the rate: all wait for the time named, then go in order", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const { client_id } = bench.store.send(7, "one");
  const details = { retry_after_ms: 5_000 };
  bench.store.receive({ type: "error", code: "rate_limited", message: "", retryable: true, details, client_id });
  bench.store.send(7, "two");
  bench.clock.pass(4_999);
  assert.equal(bench.sends().length, 1);
  bench.clock.pass(1);
  assert.deepEqual(
    bench.sends().map((frame) => frame.body),
    ["one", "one", "two"],
  );
  assert.equal(bench.sends()[1]?.client_id, client_id);
});

test("unread counts others' messages, held or not, and reading moves the marker once", () => {
  const bench = new Bench();
  bench.store.load([conversation(5, { read_seq: 3 })]);
  const held = bench.conversation();
  assert.equal(held.unread(goalie.id), 2);
  bench.message(message(6));
  bench.message(message(7, { sender_id: goalie.id }));
  assert.equal(held.unread(goalie.id), 3);
  bench.store.markRead(held, 7);
  bench.store.markRead(held, 6);
  assert.equal(held.unread(goalie.id), 0);
  assert.deepEqual(bench.sent, [{ type: "read", conversation_id: 7, seq: 7 }]);
});

test("what was read offline is told after the reconnection", () => {
  const bench = new Bench();
  bench.store.load([conversation(5)]);
  bench.online = false;
  bench.store.markRead(bench.conversation(), 5);
  bench.online = true;
  bench.store.receive({ type: "resumed", last_seqs: { 7: 5 } });
  assert.deepEqual(bench.sent, [{ type: "read", conversation_id: 7, seq: 5 }]);
  bench.store.receive({ type: "read_moved", conversation_id: 7, user_id: goalie.id, seq: 5 });
  bench.store.receive({ type: "resumed", last_seqs: { 7: 5 } });
  assert.equal(bench.sent.length, 1);
});

test("typing is forgotten after 5 s, or when the message comes", () => {
  const bench = new Bench();
  bench.store.load([conversation(0)]);
  const typing = /** @type {const} */ ({ type: "typing", conversation_id: 7, user_id: coach.id });
  bench.store.receive(typing);
  bench.clock.pass(4_000);
  bench.store.receive(typing);
  bench.clock.pass(4_000);
  assert.deepEqual([...bench.conversation().typing.keys()], [coach.id]);
  bench.clock.pass(1_000);
  assert.equal(bench.conversation().typing.size, 0);
  bench.store.receive(typing);
  bench.message(message(1));
  assert.equal(bench.conversation().typing.size, 0);
});

test("a conversation closed keeps its newest messages and can load the others again", async () => {
  const bench = new Bench();
  bench.stored = range(1, 300).map((seq) => message(seq));
  bench.store.load([conversation(0)]);
  bench.stored.forEach((each) => bench.message(each));
  bench.conversation().trim();
  assert.deepEqual(bench.seqs(), range(201, 300));
  await bench.store.loadOlder(bench.conversation());
  assert.deepEqual(bench.seqs(), range(151, 300));
});

test("something unreadable on the shelf does not stop the page", (t) => {
  t.mock.method(console, "warn", () => {});
  const bench = new Bench();
  bench.shelf.set(`hhc.outbox.${goalie.id}.broken`, "{");
  bench.restart();
  assert.deepEqual([bench.store.outbox.size, bench.shelf.keys()], [0, []]);
});
