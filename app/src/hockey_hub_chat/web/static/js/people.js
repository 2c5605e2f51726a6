/**
 * Finding people by name: a search field with results to choose from, used to start conversations and to invite.
 *
 * @import { Client } from "./client.js"
 * @import { User } from "#api"
 */
import { html, useEffect, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { Avatar } from "./avatar.js";
import { icons } from "./icons.js";
import { errorText, strings } from "./strings.js";

/** Typing is let settle for so long before the server is asked. */
const SETTLE_MS = 200;

/**
 * @param {object} props
 * @param {Client} props.client
 * @param {Map<number, User>} props.chosen
 * @param {(user: User) => void} props.onToggle
 * @param {(user: User) => boolean} [props.hide] who is not offered
 */
export function PeoplePicker({ client, chosen, onToggle, hide = () => false }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(/** @type {User[] | null} */ (null));
  const [problem, setProblem] = useState("");
  const { create } = strings;

  useEffect(() => {
    let current = true;
    async function ask() {
      try {
        const users = await client.api.users(query.trim());
        if (current) {
          setFound(users);
          setProblem("");
        }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (current) setProblem(errorText(error.code));
      }
    }
    const timer = setTimeout(ask, query ? SETTLE_MS : 0);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [query]);

  const offered = found?.filter((user) => user.id !== client.store?.me.id && !hide(user));
  return html`
    <label class="field search">
      <span class="visually-hidden">${create.search}</span>
      ${icons.search()}
      <input
        type="search"
        placeholder=${create.search}
        value=${query}
        autocomplete="off"
        autofocus
        onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ event) => setQuery(event.currentTarget.value)}
        data-testid="people-search"
      />
    </label>
    <ul class="people" aria-busy=${found === null}>
      ${offered?.map((user) => {
        const isChosen = chosen.has(user.id);
        return html`<li key=${user.id}>
          <button
            type="button"
            class="person"
            aria-pressed=${isChosen}
            onClick=${() => onToggle(user)}
            data-testid="person"
            data-username=${user.username}
          >
            <${Avatar} id=${user.id} name=${user.display_name} />
            <span class="grow">
              <span class="name ellipsis">${user.display_name}</span>
              <span class="subtitle ellipsis">@${user.username}</span>
            </span>
            <span class="tick">${isChosen && icons.check()}</span>
          </button>
        </li>`;
      })}
    </ul>
    <p class="hint" role="status">
      ${problem || (found === null ? create.searching : offered?.length === 0 ? create.nobody : "")}
    </p>
  `;
}
