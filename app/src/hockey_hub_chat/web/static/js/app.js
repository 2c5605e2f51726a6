/**
 * The frame of the page: log-in, or the list beside the open conversation. On a phone one of the two is shown; the address
 * (`#/c/<id>`) says which, so that the phone's back gesture works.
 *
 * @import { Client } from "./client.js"
 */
import { effect, html, useEffect, useState } from "./lib.js";
import { Banner } from "./banner.js";
import { CreateDialog } from "./create.js";
import { icons } from "./icons.js";
import { Login } from "./login.js";
import { Room } from "./room.js";
import { open, route } from "./route.js";
import { Sidebar } from "./sidebar.js";
import { strings } from "./strings.js";

/** @param {{ client: Client }} props */
export function App({ client }) {
  switch (client.phase.value) {
    case "starting":
      return html`<main class="splash" aria-busy="true">${icons.puck()}</main>`;
    case "unreachable":
      return html`<main class="splash">
        ${icons.puck()}
        <p role="alert">${strings.errors.network}</p>
        <button class="button" onClick=${() => client.start()}>${strings.sidebar.retry}</button>
      </main>`;
    case "out":
      return html`<${Login} client=${client} />`;
    case "in":
      return html`<${Chat} client=${client} key=${client.store?.me.id} />`;
  }
}

/** @param {{ client: Client }} props */
function Chat({ client }) {
  const [creating, setCreating] = useState(false);
  const store = client.store;
  useEffect(() => (store ? effect(() => showUnreadInTitle(store)) : undefined), [store]);
  if (!store) return null;
  const id = route.value;
  return html`
    <main class=${`chat ${id ? "in-room" : "in-list"}`}>
      <${Banner} status=${client.status} onWake=${() => client.wake()} />
      <${Sidebar} client=${client} store=${store} onCreate=${() => setCreating(true)} />
      <${Room} key=${id} id=${id} client=${client} store=${store} />
      <${Announcer} store=${store} />
      ${
        creating &&
        html`<${CreateDialog}
          client=${client}
          onClose=${() => setCreating(false)}
          onCreated=${(/** @type {number} */ created) => {
            setCreating(false);
            open(created);
          }}
        />`
      }
    </main>
  `;
}

/** @param {import("./store.js").Store} store */
function showUnreadInTitle(store) {
  let unread = 0;
  for (const conversation of store.conversations.value.values()) {
    void conversation.revision.value;
    unread += conversation.unread(store.me.id);
  }
  document.title = unread ? `(${unread}) ${strings.appName}` : strings.appName;
}

/** Tells screen readers of what comes in; the list itself would also read out old messages being loaded. */
function Announcer(/** @type {{ store: import("./store.js").Store }} */ { store }) {
  const message = store.arrived.value;
  const name = message ? store.nameOf(message.sender_id) : "";
  return html`<p class="visually-hidden" aria-live="polite">
    ${message && strings.room.announce(name, message.body)}
  </p>`;
}
