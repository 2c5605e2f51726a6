import assert from "node:assert/strict";
import { test } from "node:test";
import { Api, ApiError } from "../../src/hockey_hub_chat/web/static/js/api.js";

/** @param {number} status @param {string} code @param {object} [more] */
const refused = (status, code, more = {}) =>
  Response.json({ error: { code, message: "no", retryable: false, details: {}, ...more } }, { status });

/** @param {Record<string, Array<Response | Error>>} answers by "METHOD /path", used up in order */
function bench(answers) {
  /** @type {string[]} */
  const asked = [];
  /** @type {typeof fetch} */
  const door = async (input, init) => {
    const name = `${init?.method} ${input}`;
    asked.push(name);
    const answer = answers[name]?.shift();
    if (!answer) throw new Error(`unexpected ${name}`);
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const api = new Api({ fetch: door, exclusive: (work) => work() });
  const ended = { times: 0 };
  api.onSessionEnded = () => (ended.times += 1);
  return { api, asked, ended };
}

test("an error answer becomes a typed error", async () => {
  const answer = refused(429, "rate_limited", { retryable: true, details: { retry_after_ms: 900 } });
  const { api } = bench({ "POST /api/auth/login": [answer] });
  await assert.rejects(api.login("coach", "x"), (/** @type {ApiError} */ error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.code, error.status, error.retryable], ["rate_limited", 429, true]);
    assert.deepEqual(error.details, { retry_after_ms: 900 });
    return true;
  });
});

test("an expired token is renewed once, for all who asked at the same time", async () => {
  const { api, asked, ended } = bench({
    "GET /api/me": [refused(401, "token_expired"), Response.json({ id: 1 })],
    "GET /api/conversations": [refused(401, "token_expired"), Response.json({ conversations: [] })],
    "POST /api/auth/refresh": [Response.json({})],
  });
  const [me, conversations] = await Promise.all([api.me(), api.conversations()]);
  assert.deepEqual([me, conversations], [{ id: 1 }, []]);
  assert.equal(asked.filter((name) => name.endsWith("/refresh")).length, 1);
  assert.equal(ended.times, 0);
});

test("a token refused again after the renewal is an error, not a loop", async () => {
  const { api, asked } = bench({
    "GET /api/me": [refused(401, "token_invalid"), refused(401, "token_invalid")],
    "POST /api/auth/refresh": [Response.json({})],
  });
  await assert.rejects(api.me(), { code: "token_invalid" });
  assert.equal(asked.length, 3);
});

test("the session is over when the renewal is refused, and only then", async () => {
  const over = bench({
    "GET /api/me": [refused(401, "token_expired")],
    "POST /api/auth/refresh": [refused(401, "not_authenticated")],
  });
  await assert.rejects(over.api.me(), { status: 401 });
  assert.equal(over.ended.times, 1);
  const away = bench({
    "GET /api/me": [refused(401, "token_expired")],
    "POST /api/auth/refresh": [new TypeError("fetch failed")],
  });
  await assert.rejects(away.api.me(), { code: "network", retryable: true });
  assert.equal(away.ended.times, 0);
});

test("without any cookie there is nothing to renew", async () => {
  const { api, asked, ended } = bench({ "GET /api/me": [refused(401, "not_authenticated")] });
  await assert.rejects(api.me(), { status: 401 });
  assert.deepEqual([asked.length, ended.times], [1, 1]);
});

test("wrong credentials do not cause a renewal", async () => {
  const { api, asked } = bench({ "POST /api/auth/login": [refused(401, "invalid_credentials")] });
  await assert.rejects(api.login("coach", "x"), { code: "invalid_credentials" });
  assert.equal(asked.length, 1);
});

test("no answer in time is a timeout, and a proxy's page an error that may pass", async () => {
  const late = new DOMException("late", "TimeoutError");
  const page = new Response("<h1>Maintenance</h1>", { status: 503, headers: { "Content-Type": "text/html" } });
  const { api } = bench({ "GET /api/me": [late, page] });
  await assert.rejects(api.me(), { code: "timeout", retryable: true });
  await assert.rejects(api.me(), { code: "internal", retryable: true, status: 503 });
});
