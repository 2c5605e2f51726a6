/**
 * The one store: conversations, people, unsent messages, read markers, typing. Fed by the frames the server types, it applies
 * messages strictly by seq, drops repeats, asks the history for what is missing, and sends again until acknowledged.
 * It knows no DOM, no fetch and no WebSocket: those are its ports.
 *
 * @import { ClientFrame, ErrorFrame, ServerFrame } from "#frames"
 * @import { Clock, ConversationJson, Message, Page, Shelf, Unsent, User } from "#api"
 *
 * @typedef {object} Ports
 * @property {(frame: ClientFrame) => boolean} send false when there is no resumed connection
 * @property {(id: number, page: Page) => Promise<Message[]>} history
 * @property {(id: number) => Promise<ConversationJson>} conversation
 * @property {Clock} clock
 * @property {Shelf} shelf
 */
import { batch, signal } from "./lib.js";
import { ApiError } from "./api.js";
import { Conversation } from "./conversation.js";
import { Outbox } from "./outbox.js";
import { strings } from "./strings.js";

/** Messages in one page of history. */
export const PAGE = 50;
/** The server's most: for closing gaps. */
const FILL_PAGE = 200;
/** Missing more than this, the window starts again at the newest message instead of paging all of it. */
export const FILL_MOST = 1_000;
/** A send without an answer for so long is sent again. The server itself waits up to 10 s for its database. */
export const RESEND_MS = 15_000;
/** After a refusal that may pass (`retryable`) without a time of its own. */
const RETRY_MS = 2_000;
const TYPING_MS = 5_000;
/** Cursors in one resume frame. */
const CURSORS_MOST = 5_000;

export class Store {
  /** @type {import("./lib.js").Signal<Map<number, Conversation>>} replaced when a conversation comes or goes */
  conversations = signal(new Map());
  /** @type {import("./lib.js").Signal<Message | null>} the last message of somebody else that came in live */
  arrived = signal(null);
  /** @type {Map<number, User>} everybody seen so far, for the names of senders who have left */
  people = new Map();
  /** @type {Map<number, Message[]>} conversation not known yet → what came from it meanwhile */
  #held = new Map();
  /** @type {Map<number, boolean>} conversations being fetched, and whether one changed again meanwhile */
  #fetching = new Map();
  /** @type {Map<string, () => void>} client_id → takes back the timer of a send that is not answered yet */
  #inFlight = new Map();
  #holdUntil = 0;
  /** Logged out: nothing is asked for any more. */
  closed = false;

  /** @param {User} me @param {Ports} ports */
  constructor(me, ports) {
    this.me = me;
    this.ports = ports;
    this.outbox = new Outbox(ports.shelf, me.id);
    this.people.set(me.id, me);
  }

  /** Take over the list of conversations. @param {ConversationJson[]} list */
  load(list) {
    batch(() => list.forEach((json) => this.put(json)));
  }

  /** A conversation made, fetched or changed. @param {ConversationJson} json @returns {Conversation} */
  put(json) {
    json.members.forEach((user) => this.people.set(user.id, user));
    let conversation = this.conversations.value.get(json.id);
    if (conversation) {
      conversation.describe(json);
      conversation.lastSeq = Math.max(conversation.lastSeq, json.last_seq);
    } else {
      conversation = new Conversation(json);
      this.conversations.value = new Map(this.conversations.value).set(json.id, conversation);
    }
    const held = this.#held.get(json.id) ?? [];
    this.#held.delete(json.id);
    held.forEach((message) => this.#message(message));
    this.#settle(conversation);
    conversation.touch();
    if (conversation.behind) void this.#fill(conversation);
    return conversation;
  }

  /** @param {number} userId @returns {string} */
  nameOf(userId) {
    return this.people.get(userId)?.display_name ?? strings.room.formerMember;
  }

  /** The other person of a direct conversation. @param {Conversation} conversation @returns {User | undefined} */
  otherOf(conversation) {
    return [...conversation.members.values()].find((user) => user.id !== this.me.id);
  }

  /** @param {Conversation} conversation @returns {string} what it is called for this person */
  titleOf(conversation) {
    if (conversation.kind === "group" && conversation.name) return conversation.name;
    const others = [...conversation.members.values()].filter((user) => user.id !== this.me.id);
    return others.map((user) => user.display_name).join(", ") || strings.room.formerMember;
  }

  /** @returns {Record<string, number>} what to resume from */
  cursors() {
    const held = [...this.conversations.value.values()].slice(0, CURSORS_MOST);
    return Object.fromEntries(held.map((conversation) => [String(conversation.id), conversation.to]));
  }

  /** @param {ServerFrame} frame */
  receive(frame) {
    switch (frame.type) {
      case "message": {
        const { type: _, ...message } = frame;
        return this.#message(message);
      }
      case "ack":
        return this.#acknowledged(frame.client_id, frame.conversation_id, frame.seq);
      case "error":
        return this.#refused(frame);
      case "gap":
        return this.#gap(frame.conversation_id, frame.last_seq);
      case "resumed":
        return this.#resumed(frame.last_seqs);
      case "read_moved":
        return this.#readMoved(frame.conversation_id, frame.user_id, frame.seq);
      case "typing":
        return this.#typing(frame.conversation_id, frame.user_id);
      case "conversation_added":
      case "members_changed":
        return void this.#fetch(frame.conversation_id);
      case "conversation_removed":
        return this.remove(frame.conversation_id);
      case "hello":
      case "pong":
      case "drain":
        return; // the connection's own
    }
  }

  /** @param {number} conversationId @param {string} body @returns {Unsent} */
  send(conversationId, body) {
    const item = this.outbox.add(conversationId, body, this.ports.clock.now());
    this.#touch(conversationId);
    this.flush();
    return item;
  }

  /** Send a refused message again, at the wish of its writer. @param {Unsent} item */
  retry(item) {
    if (item.code === "conflict") {
      this.outbox.remove(item.client_id); // this client_id belongs to another message for ever: take a new one
      this.send(item.conversation_id, item.body);
      return;
    }
    this.outbox.again(item);
    this.#touch(item.conversation_id);
    this.flush();
  }

  /** Give a refused message up. @param {Unsent} item */
  discard(item) {
    this.outbox.remove(item.client_id);
    this.#touch(item.conversation_id);
  }

  /** Send everything that is not in flight, in the order of writing. */
  flush() {
    const { clock } = this.ports;
    if (clock.now() < this.#holdUntil) return;
    for (const item of this.outbox.pending()) {
      if (this.#inFlight.has(item.client_id)) continue;
      const { client_id, conversation_id, body } = item;
      if (!this.ports.send({ type: "send", client_id, conversation_id, body })) return;
      const again = () => {
        this.#inFlight.delete(client_id);
        this.flush();
      };
      this.#inFlight.set(client_id, clock.later(RESEND_MS, again));
    }
  }

  /** Stop for good. */
  close() {
    this.closed = true;
    this.disconnected();
  }

  /** The connection is gone: nothing that is in flight will be answered. */
  disconnected() {
    this.#inFlight.forEach((forget) => forget());
    this.#inFlight.clear();
  }

  /** Everything up to `seq` was seen. @param {Conversation} conversation @param {number} seq */
  markRead(conversation, seq) {
    if (seq <= conversation.readSeq) return;
    conversation.readSeq = seq;
    conversation.touch();
    this.#sendRead(conversation);
  }

  /** @param {number} conversationId */
  typingIn(conversationId) {
    this.ports.send({ type: "typing", conversation_id: conversationId });
  }

  /** Load a page before the oldest message held. Rejects with ApiError. @param {Conversation} conversation */
  async loadOlder(conversation) {
    if (conversation.loadingOlder || conversation.from <= 1) return;
    conversation.loadingOlder = true;
    conversation.touch();
    const before = conversation.from;
    try {
      const page = await this.ports.history(conversation.id, {
        before_seq: before,
        limit: PAGE,
      });
      if (conversation.from === before) conversation.prepend(page);
      this.#settle(conversation);
    } finally {
      conversation.loadingOlder = false;
      conversation.touch();
    }
  }

  /** @param {number} id */
  remove(id) {
    const rest = new Map(this.conversations.value);
    if (rest.delete(id)) this.conversations.value = rest;
  }

  /** @param {Message} message */
  #message(message) {
    const conversation = this.conversations.value.get(message.conversation_id);
    if (!conversation) {
      const held = this.#held.get(message.conversation_id) ?? [];
      this.#held.set(message.conversation_id, [...held, message]);
      if (!this.#fetching.has(message.conversation_id)) void this.#fetch(message.conversation_id);
      return;
    }
    const outcome = conversation.apply(message);
    if (outcome === "duplicate") return;
    if (outcome === "early") {
      void this.#fill(conversation);
      return;
    }
    conversation.typing.get(message.sender_id)?.();
    conversation.typing.delete(message.sender_id);
    this.#settle(conversation);
    conversation.touch();
    if (message.sender_id !== this.me.id) this.arrived.value = message;
  }

  /** Take out of the outbox what the window shows as committed. @param {Conversation} conversation */
  #settle(conversation) {
    for (const item of this.outbox.of(conversation.id)) {
      const mine = (/** @type {Message} */ m) => m.client_id === item.client_id && m.sender_id === this.me.id;
      if (conversation.messages.some(mine)) this.#done(item.client_id);
    }
  }

  /** @param {string} clientId */
  #done(clientId) {
    this.#inFlight.get(clientId)?.();
    this.#inFlight.delete(clientId);
    return this.outbox.remove(clientId);
  }

  /** @param {string} clientId @param {number} conversationId @param {number} seq */
  #acknowledged(clientId, conversationId, seq) {
    this.#inFlight.get(clientId)?.();
    this.#inFlight.delete(clientId);
    const item = this.outbox.get(clientId);
    if (!item) return;
    const conversation = this.conversations.value.get(conversationId);
    if (conversation && seq <= conversation.to)
      this.outbox.remove(clientId); // its copy came first
    else this.outbox.acknowledged(item);
    conversation?.touch();
  }

  /** @param {ErrorFrame} frame */
  #refused(frame) {
    const item = this.outbox.get(frame.client_id);
    if (!item) {
      const aboutToken = frame.code === "not_authenticated" || frame.code.startsWith("token_"); // 4401 follows
      if (!frame.client_id && !aboutToken) console.warn("The server refused a frame:", frame.code, frame.details);
      return;
    }
    this.#inFlight.get(item.client_id)?.();
    this.#inFlight.delete(item.client_id);
    if (!frame.retryable) {
      this.outbox.failed(item, frame.code);
      this.#touch(item.conversation_id);
      return;
    }
    const { clock } = this.ports;
    const ms = typeof frame.details.retry_after_ms === "number" ? frame.details.retry_after_ms : RETRY_MS;
    this.#holdUntil = Math.max(this.#holdUntil, clock.now() + ms);
    clock.later(ms, () => this.flush());
  }

  /** @param {number} id @param {number} lastSeq */
  #gap(id, lastSeq) {
    const conversation = this.conversations.value.get(id);
    if (!conversation) return void this.#fetch(id);
    conversation.lastSeq = Math.max(conversation.lastSeq, lastSeq);
    void this.#fill(conversation);
  }

  /** @param {Record<string, number>} lastSeqs */
  #resumed(lastSeqs) {
    for (const [key, seq] of Object.entries(lastSeqs)) {
      const conversation = this.conversations.value.get(Number(key));
      if (!conversation) {
        void this.#fetch(Number(key));
        continue;
      }
      conversation.lastSeq = Math.max(conversation.lastSeq, seq);
      if (conversation.behind) void this.#fill(conversation);
      this.#sendRead(conversation);
    }
    for (const id of this.conversations.value.keys()) if (!(id in lastSeqs)) this.remove(id);
    this.#holdUntil = 0;
    this.flush();
  }

  /** @param {number} id @param {number} userId @param {number} seq */
  #readMoved(id, userId, seq) {
    const conversation = this.conversations.value.get(id);
    if (conversation && userId === this.me.id && conversation.readUpTo(seq)) conversation.touch();
  }

  /** @param {Conversation} conversation */
  #sendRead(conversation) {
    const { id, readSeq, serverReadSeq } = conversation;
    if (readSeq > serverReadSeq) this.ports.send({ type: "read", conversation_id: id, seq: readSeq });
  }

  /** @param {number} id @param {number} userId */
  #typing(id, userId) {
    const conversation = this.conversations.value.get(id);
    if (!conversation || userId === this.me.id) return;
    conversation.typing.get(userId)?.();
    const forget = this.ports.clock.later(TYPING_MS, () => {
      conversation.typing.delete(userId);
      conversation.touch();
    });
    conversation.typing.set(userId, forget);
    conversation.touch();
  }

  /** Fetch a conversation that is new or changed. @param {number} id */
  async #fetch(id) {
    if (this.#fetching.has(id)) {
      this.#fetching.set(id, true);
      return;
    }
    this.#fetching.set(id, false);
    let again = false;
    try {
      const json = await this.ports.conversation(id);
      again = this.#fetching.get(id) ?? false;
      this.put(json);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "not_a_member") this.remove(id);
      else if (error.retryable) this.#later(() => void this.#fetch(id));
      else console.warn("A conversation could not be fetched:", id, error.code);
    } finally {
      this.#fetching.delete(id);
    }
    if (again) await this.#fetch(id);
  }

  /** @param {() => void} action */
  #later(action) {
    this.ports.clock.later(RETRY_MS, () => {
      if (!this.closed) action();
    });
  }

  /** Ask the history for what is missing after the window. @param {Conversation} conversation */
  async #fill(conversation) {
    if (conversation.filling) return;
    conversation.filling = true;
    const unseen = conversation.messages.length === 0;
    if (conversation.behind && (unseen || conversation.lastSeq - conversation.to > FILL_MOST)) {
      conversation.restart(conversation.lastSeq);
    }
    try {
      while (conversation.behind) {
        const page = await this.ports.history(conversation.id, {
          after_seq: conversation.to,
          limit: FILL_PAGE,
        });
        const had = conversation.to;
        page.forEach((message) => conversation.apply(message));
        if (conversation.to === had) break; // known of, but not readable here yet: the next event asks again
      }
      if (conversation.messages.length === 0) await this.loadOlder(conversation);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.retryable) this.#later(() => void this.#fill(conversation));
      else console.warn("History could not be fetched:", conversation.id, error.code);
    } finally {
      conversation.filling = false;
      this.#settle(conversation);
      conversation.touch();
    }
  }

  /** @param {number} conversationId */
  #touch(conversationId) {
    this.conversations.value.get(conversationId)?.touch();
  }
}
