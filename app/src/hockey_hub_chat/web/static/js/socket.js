/**
 * The WebSocket: connect, hello, resume, heartbeat, and coming back after every kind of close as docs/protocol.md says.
 * It knows frames only as far as the connection needs them; what they mean is the store's.
 *
 * @import { ClientFrame, ServerFrame } from "#frames"
 * @import { Clock } from "#api"
 *
 * @typedef {"stopped" | "connecting" | "online" | "waiting" | "offline" | "draining"} State
 * @typedef {object} Status
 * @property {State} state
 * @property {number} retryAt when the next attempt is due, in ms (waiting); 0 otherwise
 * @property {boolean} before whether it was online before (a first connection is no interruption)
 *
 * @typedef {Pick<WebSocket, "send" | "close"> & {
 *   onmessage: ((event: any) => void) | null,
 *   onclose: ((event: any) => void) | null,
 * }} Pipe
 */

/** Silence after which a connection that is being made, or was asked for a pong, is given up. */
export const SILENCE_MS = 10_000;
/** The first wait is random up to this, then twice as much each time. */
export const BACKOFF_FIRST_MS = 1_000;
export const BACKOFF_MOST_MS = 30_000;
/** Attempts to count at once when the server says that we broke the rules: trying again quickly cannot help. */
const PENALTY_ATTEMPTS = 4;

export const CLOSE = {
  PROTOCOL_ERROR: 1002,
  UNSUPPORTED: 1003,
  ABNORMAL: 1006,
  BAD_UTF8: 1007,
  POLICY: 1008,
  TOO_BIG: 1009,
  RESTART: 1012,
  NOT_AUTHENTICATED: 4401,
  SESSION_ENDED: 4403,
  SLOW_CONSUMER: 4408,
  TOO_MANY_ERRORS: 4429,
};

/**
 * How long to wait before attempt number `attempt` (0, 1, …): a random time up to 1 s, doubling to at most 30 s.
 *
 * @param {number} attempt
 * @param {() => number} [random]
 * @returns {number} ms
 */
export function backoff(attempt, random = Math.random) {
  return Math.round(random() * Math.min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS * 2 ** attempt));
}

export class Connection {
  /** @type {Pipe | null} */
  #pipe = null;
  /** @type {() => void} */
  #forget = () => {};
  /** @type {State} */
  #state = "stopped";
  #attempt = 0;
  #before = false;
  /** Whether an immediate reconnection (after 4401, 4408) is still allowed: once for each time of being online. */
  #atOnce = true;
  #drainMs = -1;
  #heartbeatMs = 25_000;
  #nonce = 0;

  /**
   * @param {object} options
   * @param {() => Pipe} options.open
   * @param {Clock} options.clock
   * @param {() => Record<string, number>} options.cursors the newest seq held of each conversation
   * @param {(frame: ServerFrame) => void} options.onFrame
   * @param {(status: Status) => void} options.onStatus
   * @param {() => Promise<"renewed" | "ended" | "unreachable">} options.refresh
   * @param {() => void} options.onEnded the session is over: show the log-in
   * @param {() => number} [options.random]
   */
  constructor({ open, clock, cursors, onFrame, onStatus, refresh, onEnded, random = Math.random }) {
    this.open = open;
    this.clock = clock;
    this.cursors = cursors;
    this.onFrame = onFrame;
    this.onStatus = onStatus;
    this.refresh = refresh;
    this.onEnded = onEnded;
    this.random = random;
  }

  get online() {
    return this.#state === "online" || this.#state === "draining";
  }

  start() {
    if (this.#state === "stopped") this.#connect();
  }

  /** Leave for good (logged out). */
  stop() {
    this.#drop(1000);
    this.#enter("stopped");
  }

  /**
   * @param {ClientFrame} frame
   * @returns {boolean} false when there is no resumed connection; nothing is kept here
   */
  send(frame) {
    if (!this.online || !this.#pipe) return false;
    this.#pipe.send(JSON.stringify(frame));
    return true;
  }

  /** The network came back, or the page is looked at again: do not wait out a back-off, and doubt an open connection. */
  wake() {
    if (this.#state === "waiting" || this.#state === "offline") {
      this.#forget();
      this.#attempt = 0;
      this.#connect();
    } else if (this.#state === "online") {
      this.#ping();
    }
  }

  /** The browser says that there is no network. */
  lost() {
    if (this.#state === "stopped") return;
    this.#drop(CLOSE.ABNORMAL);
    this.#enter("offline");
  }

  #connect() {
    this.#drainMs = -1;
    this.#enter("connecting");
    const pipe = this.open();
    this.#pipe = pipe;
    pipe.onmessage = (event) => this.#receive(event.data);
    pipe.onclose = (event) => this.#closed(event.code);
    this.#limit();
  }

  /** @param {State} state @param {number} [retryAt] */
  #enter(state, retryAt = 0) {
    this.#state = state;
    this.onStatus({ state, retryAt, before: this.#before });
  }

  /** Give the connection up unless something is heard in time. */
  #limit() {
    this.#forget();
    this.#forget = this.clock.later(SILENCE_MS, () => {
      this.#drop(CLOSE.ABNORMAL);
      this.#closed(CLOSE.ABNORMAL);
    });
  }

  #ping() {
    this.#pipe?.send(JSON.stringify({ type: "ping", nonce: String(++this.#nonce) }));
    this.#limit();
  }

  /** Let go of the pipe without waiting for its close event: on a dead network that one takes minutes. @param {number} code */
  #drop(code) {
    this.#forget();
    const pipe = this.#pipe;
    this.#pipe = null;
    if (!pipe) return;
    pipe.onmessage = null;
    pipe.onclose = null;
    pipe.close(code === 1000 ? 1000 : undefined);
  }

  /** @param {string} text */
  #receive(text) {
    /** @type {ServerFrame} */
    const frame = JSON.parse(text);
    if (this.online) {
      this.#forget();
      this.#forget = this.clock.later(this.#heartbeatMs, () => this.#ping());
    } else {
      this.#limit();
    }
    if (frame.type === "hello") {
      this.#heartbeatMs = frame.heartbeat_seconds * 1000;
      this.onFrame(frame); // may stop the connection: it may be somebody else's by now
      this.#pipe?.send(JSON.stringify({ type: "resume", cursors: this.cursors() }));
    } else if (frame.type === "resumed") {
      this.#attempt = 0;
      this.#atOnce = true;
      this.#before = true;
      this.#forget();
      this.#forget = this.clock.later(this.#heartbeatMs, () => this.#ping());
      this.#enter("online");
    } else if (frame.type === "drain") {
      this.#drainMs = frame.reconnect_after_ms;
      if (this.online) this.#enter("draining");
    }
    if (frame.type !== "hello") this.onFrame(frame);
  }

  /** @param {number} code */
  #closed(code) {
    this.#forget();
    this.#pipe = null;
    const atOnce = this.#atOnce;
    switch (code) {
      case CLOSE.SESSION_ENDED:
        this.#end();
        break;
      case CLOSE.NOT_AUTHENTICATED:
        this.#atOnce = false;
        void this.#renew(atOnce);
        break;
      case CLOSE.SLOW_CONSUMER:
        this.#atOnce = false;
        this.#wait(atOnce ? 0 : this.#nextBackoff());
        break;
      case CLOSE.RESTART:
        this.#wait(this.#drainMs >= 0 ? this.#drainMs : this.#nextBackoff());
        break;
      case CLOSE.PROTOCOL_ERROR:
      case CLOSE.UNSUPPORTED:
      case CLOSE.BAD_UTF8:
      case CLOSE.POLICY:
      case CLOSE.TOO_BIG:
      case CLOSE.TOO_MANY_ERRORS:
        console.error(`The server closed the connection with ${code}: the page broke a rule of the protocol.`);
        this.#attempt = Math.max(this.#attempt, PENALTY_ATTEMPTS);
        this.#wait(this.#nextBackoff());
        break;
      default:
        this.#wait(this.#nextBackoff());
    }
  }

  #nextBackoff() {
    return backoff(this.#attempt++, this.random);
  }

  /** @param {number} ms */
  #wait(ms) {
    this.#enter("waiting", this.clock.now() + ms);
    this.#forget = this.clock.later(ms, () => this.#connect());
  }

  #end() {
    this.#enter("stopped");
    this.onEnded();
  }

  /** @param {boolean} atOnce */
  async #renew(atOnce) {
    this.#enter("connecting");
    const outcome = await this.refresh();
    if (this.#state !== "connecting" || this.#pipe) return; // stopped, offline or connected by other means meanwhile
    if (outcome === "ended") this.#end();
    else if (outcome === "renewed" && atOnce) this.#connect();
    else this.#wait(this.#nextBackoff());
  }
}
