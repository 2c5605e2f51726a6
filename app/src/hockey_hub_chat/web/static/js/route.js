/** Which conversation is open, kept in the address so that the back gesture, a reload and a bookmark work. */
import { signal } from "./lib.js";

const routeNow = () => Number(/^#\/c\/(\d+)$/.exec(location.hash)?.[1] ?? 0);

/** The id of the open conversation, 0 for none. */
export const route = signal(routeNow());
window.addEventListener("hashchange", () => (route.value = routeNow()));

/** @param {number} id */
export const open = (id) => void (location.hash = `#/c/${id}`);

/** Leave the open conversation. */
export const close = () => void (location.hash = "#/");
