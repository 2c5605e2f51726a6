import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, Connection, SILENCE_MS } from "../../src/hockey_hub_chat/web/static/js/socket.js";
import { FakePipe, HandClock, settle } from "./helpers.js";

/** A connection with a hand-moved clock whose random waits are always the longest. */
function bench() {
  const clock = new HandClock();
  /** @type {FakePipe[]} */
  const pipes = [];
  /** @type {string[]} */
  const states = [];
  const seen = { ended: 0, refreshes: 0 };
  /** @type {"renewed" | "ended" | "unreachable"} */
  let outcome = "renewed";
  const connection = new Connection({
    open: () => {
      const pipe = new FakePipe();
      pipes.push(pipe);
      return pipe;
    },
    clock,
    cursors: () => ({ 7: 3 }),
    onFrame: () => {},
    onStatus: ({ state }) => states.push(state),
    refresh: async () => {
      seen.refreshes += 1;
      return outcome;
    },
    onEnded: () => (seen.ended += 1),
    random: () => 1,
  });
  const last = () => {
    const pipe = pipes.at(-1);
    if (!pipe) throw new Error("nothing was opened");
    return pipe;
  };
  connection.start();
  return {
    ...{ clock, connection, last, pipes, seen, states },
    /** @param {typeof outcome} next */
    refreshWill: (next) => (outcome = next),
  };
}

test("hello is answered by resume with the cursors; sending is possible once resumed", () => {
  const { connection, last, states } = bench();
  const frame = /** @type {const} */ ({ type: "typing", conversation_id: 7 });
  assert.equal(connection.send(frame), false);
  last().hello();
  assert.deepEqual(last().frames, [{ type: "resume", cursors: { 7: 3 } }]);
  assert.equal(connection.send(frame), false);
  last().say({ type: "resumed", last_seqs: {} });
  assert.equal(connection.send(frame), true);
  assert.deepEqual(states, ["connecting", "online"]);
});

test("back-off is random up to 1 s, doubling to at most 30 s", () => {
  const most = [0, 1, 2, 3, 4, 5, 6, 50].map((attempt) => backoff(attempt, () => 1));
  assert.deepEqual(most, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(
    backoff(5, () => 0),
    0,
  );
  assert.equal(
    backoff(5, () => 0.5),
    15_000,
  );
});

test("failing connections wait longer each time; being resumed starts over", () => {
  const { clock, last, pipes } = bench();
  for (const ms of [1_000, 2_000, 4_000]) {
    last().end(1006);
    const opened = pipes.length;
    clock.pass(ms - 1);
    assert.equal(pipes.length, opened);
    clock.pass(1);
    assert.equal(pipes.length, opened + 1);
  }
  last().welcome();
  last().end(1011);
  clock.pass(1_000);
  assert.equal(pipes.length, 5);
});

test("4401 renews the tokens and connects again at once", async () => {
  const { last, pipes, seen } = bench();
  last().welcome();
  last().end(4401);
  await settle();
  assert.deepEqual([pipes.length, seen.refreshes], [2, 1]);
});

test("4401 twice in a row does not become a storm", async () => {
  const { clock, last, pipes, seen } = bench();
  last().end(4401);
  await settle();
  last().end(4401);
  await settle();
  assert.equal(pipes.length, 2);
  clock.pass(1_000);
  assert.deepEqual([pipes.length, seen.refreshes], [3, 2]);
});

test("4401 with the session over shows the log-in; with the server away it is tried again", async () => {
  const over = bench();
  over.refreshWill("ended");
  over.last().end(4401);
  await settle();
  over.clock.pass(60_000);
  assert.deepEqual([over.seen.ended, over.pipes.length, over.states.at(-1)], [1, 1, "stopped"]);

  const away = bench();
  away.refreshWill("unreachable");
  away.last().end(4401);
  await settle();
  away.clock.pass(1_000);
  assert.deepEqual([away.seen.ended, away.pipes.length], [0, 2]);
});

test("4403 ends without a refresh", () => {
  const { clock, last, pipes, seen } = bench();
  last().welcome();
  last().end(4403);
  clock.pass(60_000);
  assert.deepEqual([seen.ended, seen.refreshes, pipes.length], [1, 0, 1]);
});

test("1012 waits as long as the drain said", () => {
  const { clock, connection, last, pipes, states } = bench();
  last().welcome();
  last().say({ type: "drain", reconnect_after_ms: 7_500 });
  assert.equal(states.at(-1), "draining");
  assert.equal(connection.send({ type: "typing", conversation_id: 7 }), true);
  last().end(1012);
  clock.pass(7_499);
  assert.equal(pipes.length, 1);
  clock.pass(1);
  assert.equal(pipes.length, 2);
});

test("4408 reconnects at once, but only once without having been online", () => {
  const { clock, last, pipes } = bench();
  last().welcome();
  last().end(4408);
  clock.pass(0);
  assert.equal(pipes.length, 2);
  last().end(4408);
  clock.pass(999);
  assert.equal(pipes.length, 2);
  clock.pass(1);
  assert.equal(pipes.length, 3);
});

test("a broken rule is not repeated quickly", (t) => {
  t.mock.method(console, "error", () => {});
  for (const code of [1002, 1003, 1007, 1008, 1009, 4429]) {
    const { clock, last, pipes } = bench();
    last().welcome();
    last().end(code);
    clock.pass(15_999);
    assert.equal(pipes.length, 1, String(code));
    clock.pass(1);
    assert.equal(pipes.length, 2, String(code));
  }
});

test("a connection that says nothing is given up", () => {
  const { clock, last, pipes, states } = bench();
  clock.pass(SILENCE_MS);
  assert.deepEqual([last().open, states.at(-1)], [false, "waiting"]);
  clock.pass(1_000);
  assert.equal(pipes.length, 2);
  last().hello();
  clock.pass(SILENCE_MS - 1);
  assert.equal(last().open, true);
  clock.pass(1);
  assert.equal(last().open, false);
});

test("silence is answered by a ping, and a missing pong by a new connection", () => {
  const { clock, last, pipes } = bench();
  last().welcome();
  clock.pass(25_000);
  assert.deepEqual(last().frames.at(-1), { type: "ping", nonce: "1" });
  last().say({ type: "pong", nonce: "1" });
  clock.pass(25_000);
  assert.deepEqual(last().frames.at(-1), { type: "ping", nonce: "2" });
  clock.pass(SILENCE_MS + 1_000);
  assert.deepEqual([pipes.length, pipes[0]?.open], [2, false]);
});

test("offline waits for the network, and waking up does not wait for the back-off", () => {
  const { clock, connection, last, pipes, states } = bench();
  last().welcome();
  connection.lost();
  clock.pass(120_000);
  assert.deepEqual([pipes.length, states.at(-1), last().open], [1, "offline", false]);
  connection.wake();
  assert.equal(pipes.length, 2);
  last().end(1013);
  connection.wake();
  assert.equal(pipes.length, 3);
  clock.pass(120_000);
});

test("waking up doubts an open connection", () => {
  const { clock, connection, last, pipes } = bench();
  last().welcome();
  connection.wake();
  assert.deepEqual(last().frames.at(-1), { type: "ping", nonce: "1" });
  clock.pass(SILENCE_MS + 1_000);
  assert.equal(pipes.length, 2);
});

test("stopping is for good, also during a refresh", async () => {
  const { clock, connection, last, pipes } = bench();
  last().end(4401);
  connection.stop();
  await settle();
  clock.pass(120_000);
  assert.equal(pipes.length, 1);
});

test("a connection stopped by what hello says does not resume", () => {
  const { connection, last } = bench();
  connection.onFrame = () => connection.stop();
  last().hello();
  assert.deepEqual([last().frames, last().open], [[], false]);
});
