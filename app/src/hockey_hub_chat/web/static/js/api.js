/**
 * HTTP: one request function with typed errors, a time limit, and one refresh when the access token has run out.
 * Knows no state of the page; whoever makes it says what to do when the session is over.
 *
 * @import { ConversationJson, Message, Page, User } from "#api"
 */

const TIMEOUT_MS = 15_000;
const REFRESHED_KEY = "hhc.refreshed";

/** An answer that is an error, or no answer at all (`network`, `timeout`). `code` is the contract. */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, retryable?: boolean, details?: Record<string, unknown>, requestId?: string }} [more]
   */
  constructor(code, message, { status = 0, retryable = false, details = {}, requestId = "" } = {}) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    this.retryable = retryable;
    this.details = details;
    this.requestId = requestId;
  }
}

/**
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
async function errorOf(response) {
  const requestId = response.headers.get("X-Request-ID") ?? "";
  const more = {
    status: response.status,
    requestId,
    retryable: response.status >= 500,
  };
  if (!response.headers.get("Content-Type")?.includes("json")) {
    return new ApiError("internal", `HTTP ${response.status}`, more); // a proxy's own page, such as maintenance
  }
  const { error } = /** @type {{ error?: any }} */ (await response.json());
  if (!error) return new ApiError("internal", `HTTP ${response.status}`, more);
  return new ApiError(error.code, error.message, {
    ...more,
    retryable: error.retryable,
    details: error.details,
  });
}

export class Api {
  /** @type {Promise<void> | null} */
  #refreshing = null;

  /**
   * @param {object} [options]
   * @param {typeof fetch} [options.fetch]
   * @param {(work: () => Promise<void>) => Promise<void>} [options.exclusive] runs work in one tab at a time
   * @param {number} [options.timeoutMs]
   */
  constructor({ fetch: door = (...args) => fetch(...args), exclusive = oneTabAtATime, timeoutMs = TIMEOUT_MS } = {}) {
    this.fetch = door;
    this.exclusive = exclusive;
    this.timeoutMs = timeoutMs;
    /** Called once the session cannot be renewed any more. */
    this.onSessionEnded = () => {};
  }

  /** @param {string} username @param {string} password @returns {Promise<User>} */
  async login(username, password) {
    return (await this.#once("POST", "/api/auth/login", { username, password })).user;
  }

  /** @returns {Promise<void>} */
  async logout() {
    await this.#once("POST", "/api/auth/logout");
  }

  /** @returns {Promise<User>} */
  me() {
    return this.#request("GET", "/api/me");
  }

  /** @param {string} query @param {number} [limit] @returns {Promise<User[]>} */
  async users(query, limit = 20) {
    return (await this.#request("GET", `/api/users?${new URLSearchParams({ query, limit: String(limit) })}`)).users;
  }

  /** @returns {Promise<ConversationJson[]>} */
  async conversations() {
    return (await this.#request("GET", "/api/conversations")).conversations;
  }

  /** @param {number} id @returns {Promise<ConversationJson>} */
  conversation(id) {
    return this.#request("GET", `/api/conversations/${id}`);
  }

  /**
   * @param {{ kind: "direct" | "group", member_ids: number[], name?: string }} wanted
   * @returns {Promise<ConversationJson>}
   */
  createConversation(wanted) {
    return this.#request("POST", "/api/conversations", wanted);
  }

  /** @param {number} id @param {Page} page @returns {Promise<Message[]>} ascending */
  async history(id, page) {
    const query = new URLSearchParams(Object.entries(page).map(([name, value]) => [name, String(value)]));
    return (await this.#request("GET", `/api/conversations/${id}/messages?${query}`)).messages;
  }

  /** @param {number} id @param {number} userId @returns {Promise<ConversationJson>} */
  addMember(id, userId) {
    return this.#request("POST", `/api/conversations/${id}/members`, { user_id: userId });
  }

  /** @param {number} id @param {number} userId */
  async removeMember(id, userId) {
    await this.#request("DELETE", `/api/conversations/${id}/members/${userId}`);
  }

  /**
   * Renew both cookies. One at a time, in all tabs: using a rotated refresh token twice ends the session.
   *
   * @returns {Promise<void>} rejects with status 401 when the session is over
   */
  refresh() {
    this.#refreshing ??= this.exclusive(() => this.#once("POST", "/api/auth/refresh")).finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>}
   */
  async #request(method, path, body) {
    try {
      return await this.#once(method, path, body);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      if (error.code === "not_authenticated") {
        this.onSessionEnded(); // no cookie at all: there is nothing to renew
        throw error;
      }
    }
    try {
      await this.refresh();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.onSessionEnded();
      throw error;
    }
    return this.#once(method, path, body);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>}
   */
  async #once(method, path, body) {
    let response;
    try {
      response = await this.fetch(path, {
        method,
        credentials: "same-origin",
        cache: "no-store",
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? null : JSON.stringify(body),
        signal: AbortSignal.timeout(this.timeoutMs),
      });
      if (!response.ok) throw await errorOf(response);
      return response.status === 204 ? {} : await response.json();
    } catch (error) {
      if (error instanceof ApiError) throw error;
      const late = error instanceof DOMException && error.name === "TimeoutError";
      throw new ApiError(late ? "timeout" : "network", String(error), {
        retryable: true,
        status: response?.status ?? 0,
      });
    }
  }
}

/**
 * @param {() => Promise<void>} work
 * @returns {Promise<void>}
 */
async function oneTabAtATime(work) {
  if (!navigator.locks) return work(); // plain http on a foreign address: no locks there, and one tab is the rule
  const asked = Date.now();
  return navigator.locks.request("hhc.refresh", async () => {
    const renewed = Number(localStorage.getItem(REFRESHED_KEY));
    if (renewed > asked) return; // while we waited, another tab renewed the cookies that all tabs share
    await work();
    localStorage.setItem(REFRESHED_KEY, String(Date.now()));
  });
}
