/**
 * The list of conversations, the newest first, with unread counts and last lines.
 *
 * @import { Client } from "./client.js"
 * @import { Conversation } from "./conversation.js"
 * @import { Store } from "./store.js"
 */
import { html, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { Avatar } from "./avatar.js";
import { shortWhen } from "./format.js";
import { icons } from "./icons.js";
import { open, route } from "./route.js";
import { errorText, strings } from "./strings.js";

/** @param {{ client: Client, store: Store, onCreate: () => void }} props */
export function Sidebar({ client, store, onCreate }) {
  const [problem, setProblem] = useState("");
  const { sidebar } = strings;
  const list = [...store.conversations.value.values()].sort((a, b) => activity(b, store) - activity(a, store));

  async function logout() {
    const unsent = store.outbox.size;
    if (unsent && !window.confirm(strings.logoutUnsent(unsent))) return;
    try {
      await client.logout();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(errorText(error.code));
    }
  }

  return html`
    <nav class="sidebar" aria-label=${sidebar.label}>
      <header class="bar">
        <${Avatar} id=${store.me.id} name=${store.me.display_name} />
        <h1 class="grow ellipsis">${store.me.display_name}</h1>
        <button
          class="icon-button"
          title=${strings.logout}
          aria-label=${strings.logout}
          onClick=${logout}
          data-testid="logout"
        >
          ${icons.leave()}
        </button>
        <button
          class="icon-button accent"
          title=${sidebar.new}
          aria-label=${sidebar.new}
          onClick=${onCreate}
          data-testid="new-conversation"
        >
          ${icons.plus()}
        </button>
      </header>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <div class="conversations" data-testid="conversation-list" aria-busy=${client.list.value === "loading"}>
        ${
          list.length
            ? html`<ul>
                ${list.map((conversation) => html`<${Item} key=${conversation.id} ...${{ client, conversation, store }} />`)}
              </ul>`
            : html`<${Nothing} client=${client} onCreate=${onCreate} />`
        }
      </div>
    </nav>
  `;
}

/** @param {{ client: Client, onCreate: () => void }} props */
function Nothing({ client, onCreate }) {
  const { sidebar } = strings;
  switch (client.list.value) {
    case "loading":
      return html`<p class="empty">${sidebar.loading}</p>`;
    case "failed":
      return html`<div class="empty">
        <p role="alert">${strings.errors.network}</p>
        <button class="button" onClick=${() => client.loadConversations()}>${sidebar.retry}</button>
      </div>`;
    case "loaded":
      return html`<div class="empty">
        <p>${sidebar.empty}<br />${sidebar.emptyHint}</p>
        <button class="button primary" onClick=${onCreate}>${sidebar.new}</button>
      </div>`;
  }
}

/** @param {Conversation} conversation @param {Store} store @returns {number} ms of the last thing that happened in it */
function activity(conversation, store) {
  void conversation.revision.value;
  const unsent = store.outbox.of(conversation.id).at(-1)?.written_at ?? 0;
  return Math.max(unsent, Date.parse(conversation.newest?.created_at ?? conversation.createdAt) || 0);
}

/** @param {{ client: Client, conversation: Conversation, store: Store }} props */
function Item({ client, conversation, store }) {
  void conversation.revision.value;
  const { sidebar } = strings;
  const current = route.value === conversation.id;
  const title = store.titleOf(conversation);
  const unread = conversation.unread(store.me.id);
  const when = activity(conversation, store);
  const draft = current ? "" : client.draft(conversation.id);
  return html`
    <li>
      <a
        class="conversation"
        href=${`#/c/${conversation.id}`}
        aria-current=${current ? "page" : undefined}
        data-testid="conversation-item"
        data-conversation-id=${conversation.id}
        data-unread=${unread}
        onClick=${(/** @type {MouseEvent} */ event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          open(conversation.id);
        }}
      >
        <${Avatar}
          id=${conversation.kind === "direct" ? store.otherOf(conversation)?.id : conversation.id}
          name=${title}
          group=${conversation.kind === "group"}
        />
        <span class="what">
          <span class="line">
            <span class="name ellipsis">${title}</span>
            ${when > 0 && html`<time datetime=${new Date(when).toISOString()}>${shortWhen(when, Date.now())}</time>`}
          </span>
          <span class="line">
            <span class="preview ellipsis">
              ${draft ? html`<b class="draft">${sidebar.draft}</b> ${draft}` : lastLine(conversation, store)}
            </span>
            ${
              unread > 0 &&
              html`<span class="badge" aria-hidden="true">${unread > 99 ? "99+" : unread}</span>
                <span class="visually-hidden">, ${sidebar.unread(unread)}</span>`
            }
          </span>
        </span>
      </a>
    </li>
  `;
}

/** @param {Conversation} conversation @param {Store} store @returns {string} */
function lastLine(conversation, store) {
  const unsent = store.outbox.of(conversation.id).at(-1);
  const newest = conversation.newest;
  if (unsent && unsent.written_at > Date.parse(newest?.created_at ?? "1970-01-01")) {
    return `${strings.sidebar.you}: ${unsent.body}`;
  }
  if (!newest) return conversation.lastSeq === 0 ? strings.sidebar.noMessages : "";
  if (newest.sender_id === store.me.id) return `${strings.sidebar.you}: ${newest.body}`;
  return conversation.kind === "group" ? `${store.nameOf(newest.sender_id)}: ${newest.body}` : newest.body;
}
