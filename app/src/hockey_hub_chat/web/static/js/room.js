/**
 * The open conversation: its head, its messages and the composer.
 *
 * @import { Client } from "./client.js"
 * @import { Conversation } from "./conversation.js"
 * @import { Store } from "./store.js"
 */
import { html, useEffect, useState } from "./lib.js";
import { Avatar } from "./avatar.js";
import { Composer } from "./composer.js";
import { icons } from "./icons.js";
import { MembersDialog } from "./members.js";
import { MessageList } from "./messages.js";
import { close } from "./route.js";
import { strings } from "./strings.js";

/** @param {{ id: number, client: Client, store: Store }} props */
export function Room({ id, client, store }) {
  const conversation = store.conversations.value.get(id);
  useEffect(() => () => conversation?.trim(), [conversation]);
  if (conversation) return html`<${Open} ...${{ client, conversation, store }} />`;
  const gone = id > 0 && client.list.value === "loaded";
  return html`
    <section class="room nothing">
      ${gone && html`<button class="icon-button back" aria-label=${strings.room.back} onClick=${close}>${icons.back()}</button>`}
      <p>${gone ? strings.room.gone : strings.room.none}</p>
    </section>
  `;
}

/** @param {{ client: Client, conversation: Conversation, store: Store }} props */
function Open({ client, conversation, store }) {
  void conversation.revision.value;
  const [showMembers, setShowMembers] = useState(false);
  const title = store.titleOf(conversation);
  const direct = conversation.kind === "direct";
  const people = [...conversation.members.values()];
  return html`
    <section class="room" aria-label=${title}>
      <header class="bar">
        <button class="icon-button back" aria-label=${strings.room.back} onClick=${close}>${icons.back()}</button>
        <${Avatar} id=${direct ? store.otherOf(conversation)?.id : conversation.id} name=${title} group=${!direct} />
        <div class="grow">
          <h1 class="ellipsis" data-testid="room-title">${title}</h1>
          ${!direct && html`<p class="subtitle ellipsis">${people.map((user) => user.display_name).join(", ")}</p>`}
        </div>
        ${
          !direct &&
          html`<button
            class="button quiet"
            aria-label=${strings.room.members(people.length)}
            title=${strings.room.members(people.length)}
            onClick=${() => setShowMembers(true)}
            data-testid="room-members"
          >
            ${icons.people()} ${people.length}
          </button>`
        }
      </header>
      <${MessageList} conversation=${conversation} store=${store} />
      <${Typists} conversation=${conversation} store=${store} />
      <${Composer} key=${conversation.id} client=${client} conversation=${conversation} store=${store} title=${title} />
      ${
        showMembers &&
        html`<${MembersDialog} ...${{ client, conversation, store }} onClose=${() => setShowMembers(false)} />`
      }
    </section>
  `;
}

/** @param {{ conversation: Conversation, store: Store }} props */
function Typists({ conversation, store }) {
  void conversation.revision.value;
  const names = [...conversation.typing.keys()].map((id) => store.nameOf(id));
  const { room } = strings;
  const [first = "", second = ""] = names;
  return html`<p class="typists" aria-live="polite" data-testid="typing">
    ${names.length === 1 && room.typingOne(first)} ${names.length === 2 && room.typingTwo(first, second)}
    ${names.length > 2 && room.typingMany}
  </p>`;
}
