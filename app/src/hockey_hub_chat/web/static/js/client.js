/**
 * Puts the parts together for one browser tab: who is logged in, their store and their connection. The components read its
 * signals and call its functions; it touches no element.
 *
 * @import { User } from "#api"
 * @import { Status } from "./socket.js"
 */
import { signal } from "./lib.js";
import { Api, ApiError } from "./api.js";
import { browserShelf } from "./shelf.js";
import { backoff, Connection } from "./socket.js";
import { Store } from "./store.js";

/** @type {import("#api").Clock} */
const clock = {
  now: () => Date.now(),
  later(ms, action) {
    const timer = setTimeout(action, ms);
    return () => clearTimeout(timer);
  },
};

export class Client {
  /** @type {import("./lib.js").Signal<"starting" | "unreachable" | "out" | "in">} */
  phase = signal(/** @type {any} */ ("starting"));
  /** @type {import("./lib.js").Signal<boolean>} the session ended by itself, not at the person's wish */
  ended = signal(false);
  /** @type {import("./lib.js").Signal<Status>} */
  status = signal({ state: "stopped", retryAt: 0, before: false });
  /** @type {import("./lib.js").Signal<"loading" | "loaded" | "failed">} the list of conversations */
  list = signal(/** @type {any} */ ("loading"));
  /** The server's limit of characters in one message. */
  maxBodyChars = 8_000;
  /** @type {Store | null} */
  store = null;
  /** @type {Connection | null} */
  connection = null;
  /** Takes back the timer of the next attempt to start or to load. */
  #forgetAttempt = () => {};
  #attempt = 0;

  constructor({ api = new Api(), shelf = browserShelf() } = {}) {
    this.api = api;
    this.shelf = shelf;
    api.onSessionEnded = () => this.#leave(true);
  }

  /** Find out whether somebody is logged in already. */
  async start() {
    this.#forgetAttempt();
    try {
      await this.#enter(await this.api.me());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) this.#leave(false);
      else {
        this.phase.value = "unreachable";
        this.#tryAgain(() => void this.start());
      }
    }
  }

  /** Rejects with ApiError. @param {string} username @param {string} password */
  async login(username, password) {
    await this.#enter(await this.api.login(username, password));
  }

  /** End the session here and on the server. Rejects with ApiError when the server could not be told. */
  async logout() {
    const store = this.store; // the socket may hear of the end before the answer is here, and then nobody is there any more
    try {
      await this.api.logout();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error; // 401: it was over already
    }
    if (store) {
      store.outbox.clear();
      this.#draftKeys(store).forEach((key) => this.shelf.remove(key));
    }
    if (!this.store || this.store === store) this.#leave(false);
  }

  /** Ask for the conversations, then connect. */
  async loadConversations() {
    const store = this.store;
    if (!store) return;
    this.#forgetAttempt();
    try {
      store.load(await this.api.conversations());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.list.value = "failed";
      if (store === this.store) this.#tryAgain(() => void this.loadConversations());
      return;
    }
    this.#attempt = 0;
    this.list.value = "loaded";
    this.connection?.start();
  }

  /** The network came back, or the page is looked at again. */
  wake() {
    if (this.phase.value === "unreachable") void this.start();
    else if (this.list.value === "failed") void this.loadConversations();
    else this.connection?.wake();
  }

  /**
   * @param {{ kind: "direct" | "group", member_ids: number[], name?: string }} wanted
   * @returns {Promise<number>} the conversation's id
   */
  async create(wanted) {
    const json = await this.api.createConversation(wanted);
    this.store?.put(json);
    return json.id;
  }

  /** Rejects with ApiError. @param {number} conversationId @param {number} userId */
  async invite(conversationId, userId) {
    const json = await this.api.addMember(conversationId, userId);
    this.store?.put(json);
  }

  /** Rejects with ApiError. @param {number} conversationId */
  async leaveConversation(conversationId) {
    const store = this.store;
    if (!store) return;
    await this.api.removeMember(conversationId, store.me.id);
    store.remove(conversationId);
  }

  /** @param {number} conversationId @returns {string} */
  draft(conversationId) {
    return this.shelf.get(this.#draftKey(conversationId)) ?? "";
  }

  /** @param {number} conversationId @param {string} text */
  keepDraft(conversationId, text) {
    if (text) this.shelf.set(this.#draftKey(conversationId), text);
    else this.shelf.remove(this.#draftKey(conversationId));
  }

  /** @param {User} me */
  async #enter(me) {
    const store = new Store(me, {
      send: (frame) => connection.send(frame),
      history: (id, page) => this.api.history(id, page),
      conversation: (id) => this.api.conversation(id),
      clock,
      shelf: this.shelf,
    });
    const connection = new Connection({
      open: () => new WebSocket(new URL("/ws", location.href.replace(/^http/, "ws"))),
      clock,
      cursors: () => store.cursors(),
      onFrame: (frame) => {
        if (frame.type === "hello") {
          this.maxBodyChars = frame.max_body_chars;
          if (frame.user_id !== me.id) return this.#swapped();
        }
        store.receive(frame);
      },
      onStatus: (status) => {
        if (status.state !== "online" && status.state !== "draining") store.disconnected();
        this.status.value = status;
      },
      refresh: () => this.#renew(),
      onEnded: () => this.#leave(true),
    });
    this.store = store;
    this.connection = connection;
    this.ended.value = false;
    this.phase.value = "in";
    await this.loadConversations();
  }

  /** @returns {Promise<"renewed" | "ended" | "unreachable">} */
  async #renew() {
    try {
      await this.api.refresh();
      return "renewed";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return error.status === 401 ? "ended" : "unreachable";
    }
  }

  /** Somebody else logged in meanwhile, in another tab: nothing of the one before may be sent in their name. */
  #swapped() {
    this.#leave(false);
    this.phase.value = "starting";
    void this.start();
  }

  /** @param {() => void} action */
  #tryAgain(action) {
    this.#forgetAttempt = clock.later(1_000 + backoff(this.#attempt++), action);
  }

  /** Show the log-in. What was typed and not sent stays on the shelf. @param {boolean} ended */
  #leave(ended) {
    this.#forgetAttempt();
    this.connection?.stop();
    this.store?.close();
    this.connection = null;
    this.store = null;
    this.list.value = "loading";
    this.ended.value = ended;
    this.phase.value = "out";
  }

  /** @param {number} conversationId */
  #draftKey(conversationId) {
    return `hhc.draft.${this.store?.me.id}.${conversationId}`;
  }

  /** @param {Store} store */
  #draftKeys(store) {
    return this.shelf.keys().filter((key) => key.startsWith(`hhc.draft.${store.me.id}.`));
  }
}
