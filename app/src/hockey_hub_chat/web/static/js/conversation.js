/**
 * One conversation as the page holds it: a window of messages without gaps, `from` … `to`, that grows at both ends.
 * Messages are applied strictly by seq; one that comes too early waits here until what is before it has come.
 *
 * @import { ConversationJson, Message, User } from "#api"
 */
import { signal } from "./lib.js";

/** What is kept of a conversation that is not open. */
const KEPT = 100;

export class Conversation {
  /** @type {Message[]} `from` … `to`, ascending, one for each seq */
  messages = [];
  /** The seq of the oldest message held; 1 when there is nothing older. */
  from = 1;
  /** The newest seq up to which nothing is missing: the cursor for resuming. */
  to = 0;
  /** @type {Map<number, Message>} seq → message that came before its predecessor */
  #early = new Map();
  /** The highest seq read here, and the highest that the server knows of. */
  readSeq = 0;
  serverReadSeq = 0;
  /** The highest seq known to exist. */
  lastSeq = 0;
  /** A history request for newer (`filling`) or older messages is under way. */
  filling = false;
  loadingOlder = false;
  /** @type {Map<number, () => void>} user id → takes back the timer that forgets them */
  typing = new Map();
  /** @type {"direct" | "group"} */
  kind = "group";
  /** @type {string | null} */
  name = null;
  /** @type {Map<number, User>} */
  members = new Map();
  createdAt = "";
  /** Counts changes; reading its value in a component makes that component follow this conversation. */
  revision = signal(0);

  /** @param {ConversationJson} json */
  constructor(json) {
    this.id = json.id;
    this.describe(json);
    this.restart(json.last_seq);
    if (json.last_message && json.last_message.seq >= json.last_seq) {
      this.restart(json.last_message.seq);
      this.messages = [json.last_message];
      this.from = json.last_message.seq;
    }
  }

  /** Take over what is not a message: name, members, read marker. @param {ConversationJson} json */
  describe(json) {
    this.kind = json.kind;
    this.name = json.name;
    this.members = new Map(json.members.map((user) => [user.id, user]));
    this.createdAt = json.created_at;
    this.readUpTo(json.read_seq);
  }

  /** Forget the messages and go on after `seq`. @param {number} seq */
  restart(seq) {
    this.messages = [];
    this.from = seq + 1;
    this.to = seq;
    this.lastSeq = Math.max(this.lastSeq, seq);
    for (const early of [...this.#early.keys()]) if (early <= seq) this.#early.delete(early);
    this.#applyEarly();
  }

  /** Tell the components that something changed. */
  touch() {
    this.revision.value += 1;
  }

  /**
   * Apply a message from the socket or from a page of newer history.
   *
   * @param {Message} message
   * @returns {"applied" | "duplicate" | "early"} early: something before it is missing
   */
  apply(message) {
    this.lastSeq = Math.max(this.lastSeq, message.seq);
    if (message.seq <= this.to) return "duplicate";
    if (message.seq > this.to + 1) {
      this.#early.set(message.seq, message);
      return "early";
    }
    this.#append(message);
    this.#applyEarly();
    return "applied";
  }

  /** Whether messages newer than the window are known to exist. */
  get behind() {
    return this.lastSeq > this.to;
  }

  /** @returns {Message | undefined} */
  get newest() {
    return this.messages.at(-1);
  }

  /**
   * Put a page of older history before the window.
   *
   * @param {Message[]} page ascending, ending right before `from`
   */
  prepend(page) {
    const older = page.filter((message) => message.seq < this.from);
    this.messages = [...older, ...this.messages];
    this.from = older[0]?.seq ?? 1;
  }

  /** @param {number} seq @returns {boolean} whether the server's marker moved */
  readUpTo(seq) {
    const moved = seq > this.serverReadSeq;
    this.serverReadSeq = Math.max(this.serverReadSeq, seq);
    this.readSeq = Math.max(this.readSeq, seq);
    return moved;
  }

  /** How many messages of others are unread. @param {number} me @returns {number} */
  unread(me) {
    const before = Math.max(0, Math.min(this.lastSeq, this.from - 1) - this.readSeq); // not held: counted by seq
    const held = this.messages.filter((message) => message.seq > this.readSeq && message.sender_id !== me).length;
    return before + held;
  }

  /** Drop old messages of a conversation that nobody looks at; they can be loaded again. */
  trim() {
    if (this.messages.length <= KEPT) return;
    this.messages = this.messages.slice(-KEPT);
    this.from = this.messages[0]?.seq ?? this.to + 1;
  }

  /** @param {Message} message */
  #append(message) {
    this.messages.push(message);
    this.to = message.seq;
  }

  #applyEarly() {
    for (let next = this.#early.get(this.to + 1); next; next = this.#early.get(this.to + 1)) {
      this.#early.delete(next.seq);
      this.#append(next);
    }
  }
}
