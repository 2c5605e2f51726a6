/** Starts the page: one client, its component tree, and the browser's own events that concern the connection. */
import { html, render } from "./lib.js";
import { App } from "./app.js";
import { Client } from "./client.js";

const root = document.getElementById("app");
if (!root) throw new Error("The page has no #app.");

const client = new Client();

window.addEventListener("online", () => client.wake());
window.addEventListener("offline", () => client.connection?.lost());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) client.wake(); // back from the browser's cache: the socket is long gone
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") client.wake();
});

root.replaceChildren();
render(html`<${App} client=${client} />`, root);
void client.start();
