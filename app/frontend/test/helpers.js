/**
 * A clock that is moved by hand, a server's end of a socket, and ports that record.
 *
 * @import { ClientFrame, ServerFrame } from "#frames"
 * @import { ConversationJson, Message, Page, User } from "#api"
 */
import { webcrypto } from "node:crypto";
import { ApiError } from "../../src/hockey_hub_chat/web/static/js/api.js";
import { memoryShelf } from "../../src/hockey_hub_chat/web/static/js/shelf.js";
import { Store } from "../../src/hockey_hub_chat/web/static/js/store.js";

globalThis.crypto ??= /** @type {Crypto} */ (webcrypto); // a global only from Node 20 on; Debian 12 has 18

/** @type {User} */
export const coach = { id: 1, username: "coach", display_name: "Coach" };
/** @type {User} */
export const goalie = { id: 2, username: "goalie30", display_name: "Goalie 30" };

export class HandClock {
  #now = 1_800_000_000_000;
  /** @type {Map<number, { due: number, action: () => void }>} */
  #timers = new Map();
  #next = 1;

  now = () => this.#now;

  /** @param {number} ms @param {() => void} action */
  later = (ms, action) => {
    const id = this.#next++;
    this.#timers.set(id, { due: this.#now + ms, action });
    return () => void this.#timers.delete(id);
  };

  /** Let time pass, running what falls due on the way. @param {number} ms */
  pass(ms) {
    const until = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.due <= until).sort(([, a], [, b]) => a.due - b.due)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = due[1].due;
      due[1].action();
    }
    this.#now = until;
  }
}

/** Let promises that are settled already run their course. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** @param {number} seq @param {Partial<Message>} [more] @returns {Message} */
export function message(seq, more = {}) {
  return {
    conversation_id: 7,
    seq,
    sender_id: coach.id,
    client_id: `00000000-0000-4000-8000-${String(seq).padStart(12, "0")}`,
    body: `message ${seq}`,
    created_at: new Date(1_800_000_000_000 + seq * 1000).toISOString(),
    ...more,
  };
}

/** @param {number} lastSeq @param {Partial<ConversationJson>} [more] @returns {ConversationJson} */
export function conversation(lastSeq, more = {}) {
  const members = [coach, goalie];
  const created_at = "2026-11-01T10:00:00Z";
  return {
    id: 7,
    kind: "direct",
    name: null,
    members,
    last_seq: lastSeq,
    read_seq: 0,
    last_message: null,
    created_at,
    ...more,
  };
}

/** A store with ports that record, and a server side that holds `stored` messages of conversation 7. */
export class Bench {
  clock = new HandClock();
  online = true;
  /** @type {ClientFrame[]} */
  sent = [];
  /** @type {Message[]} */
  stored = [];
  /** @type {Page[]} */
  asked = [];
  /** @type {ApiError | null} */
  failure = null;
  /** @type {Map<number, ConversationJson>} */
  known = new Map();

  constructor(shelf = memoryShelf()) {
    this.shelf = shelf;
    /** @type {Store} */
    this.store = this.restart();
  }

  /** As after a reload: a new store on the same shelf. @returns {Store} */
  restart() {
    this.store = new Store(goalie, {
      clock: this.clock,
      shelf: this.shelf,
      send: (frame) => {
        if (this.online) this.sent.push(frame);
        return this.online;
      },
      history: async (_id, page) => {
        this.asked.push(page);
        if (this.failure) throw this.failure;
        const { after_seq, before_seq, limit } = page;
        if (after_seq !== undefined) return this.stored.filter((m) => m.seq > after_seq).slice(0, limit);
        return this.stored.filter((m) => m.seq < (before_seq ?? Infinity)).slice(-limit);
      },
      conversation: async (id) => {
        const json = this.known.get(id);
        if (!json) throw new ApiError("not_a_member", "", { status: 403 });
        return json;
      },
    });
    return this.store;
  }

  /** @param {Message} frame */
  message(frame) {
    this.store.receive({ type: "message", ...frame });
  }

  /** The seqs held of conversation 7. */
  seqs() {
    return this.conversation().messages.map((m) => m.seq);
  }

  conversation() {
    const found = this.store.conversations.value.get(7);
    if (!found) throw new Error("conversation 7 is not there");
    return found;
  }

  /** The `send` frames so far. */
  sends() {
    return this.sent.flatMap((frame) => (frame.type === "send" ? [frame] : []));
  }

  /** The only unsent message. */
  unsent() {
    const [item] = this.store.outbox.of(7);
    if (!item) throw new Error("the outbox is empty");
    return item;
  }
}

/** The server's end of a socket that the connection under test opened. */
export class FakePipe {
  /** @type {any[]} */
  frames = [];
  open = true;
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {((event: any) => void) | null} */
  onclose = null;

  /** @param {any} text */
  send(text) {
    this.frames.push(JSON.parse(text));
  }

  close() {
    this.open = false;
  }

  /** @param {ServerFrame} frame */
  say(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** @param {number} code */
  end(code) {
    this.open = false;
    this.onclose?.({ code });
  }

  hello() {
    this.say({
      type: "hello",
      protocol: 1,
      user_id: goalie.id,
      server_time: "2026-11-01T10:00:00Z",
      heartbeat_seconds: 25,
      max_frame_bytes: 65_536,
      max_body_chars: 8_000,
    });
  }

  welcome() {
    this.hello();
    this.say({ type: "resumed", last_seqs: {} });
  }
}
