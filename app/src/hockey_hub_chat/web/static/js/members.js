/**
 * Who is in a group: the list, inviting somebody, leaving.
 *
 * @import { Client } from "./client.js"
 * @import { Conversation } from "./conversation.js"
 * @import { Store } from "./store.js"
 * @import { User } from "#api"
 */
import { html, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { Avatar } from "./avatar.js";
import { Dialog } from "./dialog.js";
import { PeoplePicker } from "./people.js";
import { errorText, strings } from "./strings.js";

/** @param {{ client: Client, conversation: Conversation, store: Store, onClose: () => void }} props */
export function MembersDialog({ client, conversation, store, onClose }) {
  void conversation.revision.value;
  const [inviting, setInviting] = useState(false);
  const [problem, setProblem] = useState("");
  const { members } = strings;
  const people = [...conversation.members.values()].sort((a, b) => a.display_name.localeCompare(b.display_name));

  /** @param {() => Promise<unknown>} action */
  async function attempt(action) {
    setProblem("");
    try {
      await action();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(errorText(error.code));
    }
  }

  /** @param {User} user */
  const invite = (user) => attempt(() => client.invite(conversation.id, user.id));
  const leave = () => {
    if (!window.confirm(members.leaveSure(store.titleOf(conversation)))) return;
    void attempt(() => client.leaveConversation(conversation.id));
  };

  return html`
    <${Dialog} title=${inviting ? members.invite : members.title} onClose=${onClose} testid="members-dialog">
      ${
        inviting
          ? html`<${PeoplePicker}
              client=${client}
              chosen=${new Map()}
              onToggle=${invite}
              hide=${(/** @type {User} */ user) => conversation.members.has(user.id)}
            />`
          : html`<ul class="people">
              ${people.map(
                (user) =>
                  html`<li class="person" key=${user.id}>
                    <${Avatar} id=${user.id} name=${user.display_name} />
                    <span class="grow">
                      <span class="name ellipsis">${user.display_name}</span>
                      <span class="subtitle ellipsis">@${user.username}</span>
                    </span>
                  </li>`,
              )}
            </ul>`
      }
      <p class="problem" role="alert">${problem}</p>
      <div class="row">
        ${!inviting && html`<button type="button" class="button danger" onClick=${leave}>${members.leave}</button>`}
        <button type="button" class="button" onClick=${() => setInviting(!inviting)}>
          ${inviting ? members.back : members.invite}
        </button>
      </div>
    <//>
  `;
}
