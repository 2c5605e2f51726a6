import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { dayLabel, initials, linkParts, shortWhen } from "../../src/hockey_hub_chat/web/static/js/format.js";
import { memoryShelf, storageShelf } from "../../src/hockey_hub_chat/web/static/js/shelf.js";
import { timeline } from "../../src/hockey_hub_chat/web/static/js/timeline.js";
import { coach, goalie, message } from "./helpers.js";

const web = new URL("../../src/hockey_hub_chat/web/", import.meta.url);
const noon = new Date(2026, 10, 18, 12).getTime();
const hour = 3_600_000;

/** @param {Partial<Parameters<typeof timeline>[0]>} source */
const rows = (source) =>
  timeline({ messages: [], unsent: [], me: goalie, nameOf: () => "Coach", unreadFrom: 0, ...source });

/** @param {number} seq @param {number} time @param {number} [sender] */
const at = (seq, time, sender = coach.id) =>
  message(seq, { created_at: new Date(time).toISOString(), sender_id: sender });

test("a day line stands before the first message of each day", () => {
  const made = rows({ messages: [at(1, noon - 24 * hour), at(2, noon), at(3, noon + 1)] });
  assert.deepEqual(
    made.map((row) => row.kind),
    ["day", "message", "day", "message", "message"],
  );
});

test("runs join one sender's messages and end with a pause, another sender, or the line of unread ones", () => {
  const messages = [
    at(1, noon),
    at(2, noon + 60_000),
    at(3, noon + 10 * 60_000),
    at(4, noon + 11 * 60_000, goalie.id),
    at(5, noon + 12 * 60_000),
    at(6, noon + 12 * 60_000),
  ];
  const ends = rows({ messages, unreadFrom: 6 }).flatMap((row) =>
    row.kind === "message" ? [[row.first, row.last]] : [],
  );
  assert.deepEqual(ends, [
    [true, false],
    [false, true],
    [true, true],
    [true, true],
    [true, true],
    [true, true],
  ]);
});

test("an unsent message keeps its key when it becomes a committed one", () => {
  const client_id = message(1).client_id;
  const unsent = {
    client_id,
    conversation_id: 7,
    body: "x",
    written_at: noon,
    state: /** @type {const} */ ("pending"),
  };
  const before = rows({ unsent: [unsent] }).at(-1);
  const after = rows({ messages: [at(1, noon, goalie.id)] }).at(-1);
  assert.equal(before?.key, after?.key);
});

test("days are told as people say them", () => {
  assert.equal(dayLabel(noon - 11 * hour, noon), "Today");
  assert.equal(dayLabel(noon - 13 * hour, noon), "Yesterday");
  assert.equal(dayLabel(noon - 49 * hour, noon), "Monday 16 November");
  assert.equal(dayLabel(noon - 400 * 24 * hour, noon), "14 October 2025");
  assert.equal(shortWhen(noon, noon), "12:00");
  assert.equal(shortWhen(noon - 72 * hour, noon), "Sunday");
  assert.equal(shortWhen(noon - 240 * hour, noon), "08/11/26");
});

test("initials prefer a shirt number", () => {
  assert.deepEqual(["Goalie 30", "Team Manager", "Coach", "", "Åsa öberg"].map(initials), ["30", "TM", "C", "?", "ÅÖ"]);
});

test("web addresses become links, the full stop after them does not, and nothing but http does", () => {
  assert.deepEqual(linkParts("See https://club.example/a?b=1. And (http://x.example/)!"), [
    { text: "See " },
    { text: "https://club.example/a?b=1", href: "https://club.example/a?b=1" },
    { text: ". And (" },
    { text: "http://x.example/", href: "http://x.example/" },
    { text: ")!" },
  ]);
  assert.deepEqual(linkParts("javascript:alert(1)"), [{ text: "javascript:alert(1)" }]);
});

test("what the browser refuses to keep lasts as long as the page", (t) => {
  t.mock.method(console, "warn", () => {});
  const full = {
    getItem: () => null,
    setItem() {
      throw new DOMException("full", "QuotaExceededError");
    },
    removeItem() {},
  };
  const shelf = storageShelf(/** @type {any} */ (full));
  shelf.set("draft", "typed");
  assert.equal(shelf.get("draft"), "typed");
  shelf.remove("draft");
  assert.equal(shelf.get("draft"), null);
  assert.deepEqual(memoryShelf().keys(), []);
});

test("the page preloads exactly the modules there are", () => {
  const page = readFileSync(new URL("templates/index.html", web), "utf8");
  const preloaded = [...page.matchAll(/modulepreload" href="\/static\/([^"]+)"/g)].map((match) => match[1]).sort();
  const folder = (/** @type {string} */ name) =>
    readdirSync(new URL(`static/${name}/`, web)).filter((file) => /(?<!\.d)\.js$/.test(file));
  const present = [...folder("js").map((file) => `js/${file}`), ...folder("vendor").map((file) => `vendor/${file}`)];
  assert.deepEqual(preloaded, present.filter((file) => file !== "js/main.js").sort());
});

test("the page has no inline script or style and no foreign address", () => {
  const page = readFileSync(new URL("templates/index.html", web), "utf8");
  assert.doesNotMatch(page, /<style|style=|https?:\/\/|<script(?![^>]* src=)/);
});
