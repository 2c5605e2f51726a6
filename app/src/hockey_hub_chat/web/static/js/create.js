/**
 * Starting a conversation: choose one person to write to, or several and a name for a group.
 *
 * @import { Client } from "./client.js"
 * @import { User } from "#api"
 */
import { html, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { Dialog } from "./dialog.js";
import { PeoplePicker } from "./people.js";
import { errorText, strings } from "./strings.js";

/** @param {{ client: Client, onClose: () => void, onCreated: (id: number) => void }} props */
export function CreateDialog({ client, onClose, onCreated }) {
  const [chosen, setChosen] = useState(/** @type {Map<number, User>} */ (new Map()));
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const { create } = strings;
  const people = [...chosen.values()];
  const [only] = people;
  const group = people.length > 1;
  const ready = !busy && only !== undefined && (!group || name.trim() !== "");

  /** @param {User} user */
  function toggle(user) {
    const next = new Map(chosen);
    if (!next.delete(user.id)) next.set(user.id, user);
    setChosen(next);
  }

  async function submit() {
    if (!ready) return;
    const member_ids = people.map((user) => user.id);
    setBusy(true);
    try {
      onCreated(
        await client.create(group ? { kind: "group", member_ids, name: name.trim() } : { kind: "direct", member_ids }),
      );
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(errorText(error.code));
      setBusy(false);
    }
  }

  return html`
    <${Dialog} title=${create.title} onClose=${onClose} onSubmit=${submit} testid="create-dialog">
      <div class="chips">
        ${people.map(
          (user) =>
            html`<button
              type="button"
              class="chip"
              key=${user.id}
              aria-label=${create.remove(user.display_name)}
              onClick=${() => toggle(user)}
            >
              ${user.display_name}<span aria-hidden="true"> ×</span>
            </button>`,
        )}
        ${people.length === 0 && html`<p class="hint">${create.hint}</p>`}
      </div>
      <${PeoplePicker} client=${client} chosen=${chosen} onToggle=${toggle} />
      ${
        group &&
        html`<label class="field">
          <span>${create.groupName}</span>
          <input
            value=${name}
            maxlength="80"
            required
            placeholder=${create.groupNameHint}
            onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ event) => setName(event.currentTarget.value)}
            data-testid="group-name"
          />
        </label>`
      }
      <p class="problem" role="alert">${problem}</p>
      <button class="button primary" disabled=${!ready} data-testid="create-submit">
        ${group ? create.group : only ? create.direct(only.display_name) : create.choose}
      </button>
    <//>
  `;
}
