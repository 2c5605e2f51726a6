/**
 * What was written here and is not yet known to be committed. Each message lies under its own key in localStorage, so that it
 * survives a reload and two tabs never overwrite each other, and it is sent with the same client_id until it is acknowledged.
 *
 * @import { Shelf, Unsent } from "#api"
 */

/** @returns {string} a random (version 4) UUID; crypto.randomUUID is missing where the page came by plain http */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (Number(bytes[6]) & 0x0f) | 0x40;
  bytes[8] = (Number(bytes[8]) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export class Outbox {
  /** @type {Map<string, Unsent>} client_id → message, in the order of writing */
  #items = new Map();
  #lastWritten = 0;

  /** @param {Shelf} shelf @param {number} userId */
  constructor(shelf, userId) {
    this.shelf = shelf;
    this.prefix = `hhc.outbox.${userId}.`;
    const found = shelf
      .keys()
      .filter((key) => key.startsWith(this.prefix))
      .flatMap((key) => this.#read(key))
      .sort((a, b) => a.written_at - b.written_at);
    for (const item of found) {
      this.#items.set(item.client_id, item);
      this.#lastWritten = item.written_at;
    }
  }

  /**
   * @param {number} conversationId
   * @param {string} body
   * @param {number} now ms
   * @returns {Unsent}
   */
  add(conversationId, body, now) {
    this.#lastWritten = Math.max(now, this.#lastWritten + 1);
    /** @type {Unsent} */
    const item = {
      client_id: uuid(),
      conversation_id: conversationId,
      body,
      written_at: this.#lastWritten,
      state: "pending",
    };
    this.#items.set(item.client_id, item);
    this.#keep(item);
    return item;
  }

  /** @param {string | null} clientId */
  get(clientId) {
    return clientId === null ? undefined : this.#items.get(clientId);
  }

  /** @param {string} clientId @returns {Unsent | undefined} what was removed */
  remove(clientId) {
    const item = this.#items.get(clientId);
    this.#items.delete(clientId);
    this.shelf.remove(this.prefix + clientId);
    return item;
  }

  /** Committed: nothing to send any more, but shown until its own copy arrives. @param {Unsent} item */
  acknowledged(item) {
    item.state = "sent";
    this.shelf.remove(this.prefix + item.client_id);
  }

  /** Refused for good; the person decides. @param {Unsent} item @param {string} code */
  failed(item, code) {
    item.state = "failed";
    item.code = code;
    this.#keep(item);
  }

  /** Try a refused one again. @param {Unsent} item */
  again(item) {
    item.state = "pending";
    delete item.code;
    this.#keep(item);
  }

  /** @returns {Unsent[]} still to be acknowledged, in the order of writing */
  pending() {
    return [...this.#items.values()].filter((item) => item.state === "pending");
  }

  /** @param {number} conversationId @returns {Unsent[]} */
  of(conversationId) {
    return [...this.#items.values()].filter((item) => item.conversation_id === conversationId);
  }

  /** @returns {number} how many are not committed */
  get size() {
    return [...this.#items.values()].filter((item) => item.state !== "sent").length;
  }

  /** Forget everything, on the shelf too. */
  clear() {
    for (const id of [...this.#items.keys()]) this.remove(id);
  }

  /** @param {string} key @returns {Unsent[]} none when what lies there cannot be read */
  #read(key) {
    try {
      return [JSON.parse(this.shelf.get(key) ?? "")];
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      console.warn("An unsent message could not be read again.", key);
      this.shelf.remove(key);
      return [];
    }
  }

  /** @param {Unsent} item */
  #keep(item) {
    this.shelf.set(this.prefix + item.client_id, JSON.stringify(item));
  }
}
