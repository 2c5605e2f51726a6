/**
 * What the connection is doing, when it is not simply there.
 *
 * @import { Signal } from "./lib.js"
 * @import { Status } from "./socket.js"
 */
import { html, useEffect, useState } from "./lib.js";
import { strings } from "./strings.js";

/** A hiccup shorter than this is not worth a word. */
const PATIENCE_MS = 700;

/** @param {{ status: Signal<Status>, onWake: () => void }} props */
export function Banner({ status, onWake }) {
  const { state, retryAt, before } = status.value;
  const quiet = state === "online" || state === "stopped";
  const patient = !quiet && state !== "offline" && state !== "draining";
  const [patienceOver, setPatienceOver] = useState(false);
  const [now, setNow] = useState(Date.now());

  useEffect(() => {
    if (!patient) return setPatienceOver(false);
    const timer = setTimeout(() => setPatienceOver(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [patient]);

  useEffect(() => {
    if (state !== "waiting") return undefined;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [state, retryAt]);

  const shown = !quiet && (!patient || patienceOver);
  const seconds = Math.max(1, Math.ceil((retryAt - now) / 1000));
  const { banner } = strings;
  const spoken =
    state === "offline"
      ? banner.offline
      : state === "draining"
        ? banner.draining
        : before || state === "waiting"
          ? banner.reconnecting
          : banner.connecting;
  return html`
    <div class="banner" role="status" data-testid="connection-banner" data-state=${state} hidden=${!shown}>
      ${
        shown &&
        (state === "waiting"
          ? html`<span aria-hidden="true">${banner.waiting(seconds)}</span>
              <span class="visually-hidden">${spoken}</span>
              <button class="link" onClick=${onWake}>${banner.now}</button>`
          : html`<span>${spoken}</span>`)
      }
    </div>
  `;
}
