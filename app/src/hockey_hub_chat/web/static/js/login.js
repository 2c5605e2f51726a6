/**
 * The log-in form.
 *
 * @import { Client } from "./client.js"
 */
import { html, useRef, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { icons } from "./icons.js";
import { errorText, strings } from "./strings.js";

/** @param {{ client: Client }} props */
export function Login({ client }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [visible, setVisible] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const { login } = strings;

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    if (busy || !form.current) return;
    const data = new FormData(form.current);
    setBusy(true);
    setProblem("");
    try {
      await client.login(String(data.get("username")).trim(), String(data.get("password")));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(errorText(error.code === "validation_failed" ? "invalid_credentials" : error.code));
      setBusy(false);
      const field = form.current?.elements.namedItem("password");
      if (field instanceof HTMLInputElement) field.select();
    }
  }

  return html`
    <main class="login">
      <form class="card" ref=${form} onSubmit=${submit} data-testid="login-form" aria-busy=${busy}>
        <div class="brand">
          ${icons.puck()}
          <h1>${strings.appName}</h1>
        </div>
        <p class="lead">${client.ended.value ? login.ended : login.lead}</p>
        <label class="field">
          <span>${login.username}</span>
          <input
            name="username"
            autocomplete="username"
            autocapitalize="none"
            spellcheck=${false}
            autofocus
            required
            data-testid="login-username"
          />
        </label>
        <div class="field">
          <label for="password">${login.password}</label>
          <span class="with-button">
            <input
              id="password"
              name="password"
              type=${visible ? "text" : "password"}
              autocomplete="current-password"
              required
              data-testid="login-password"
            />
            <button type="button" class="link" aria-pressed=${visible} onClick=${() => setVisible(!visible)}>
              ${visible ? login.hide : login.show}
            </button>
          </span>
        </div>
        <p class="problem" role="alert">${problem}</p>
        <button class="button primary" disabled=${busy} data-testid="login-submit">
          ${busy ? login.busy : login.submit}
        </button>
      </form>
    </main>
  `;
}
