/**
 * localStorage, or memory where it is refused (private windows, full disk): typed text must never be lost to an exception.
 *
 * @import { Shelf } from "#api"
 */

/** @returns {Shelf} */
export function memoryShelf() {
  /** @type {Map<string, string>} */
  const map = new Map();
  return {
    get: (key) => map.get(key) ?? null,
    set: (key, value) => void map.set(key, value),
    remove: (key) => void map.delete(key),
    keys: () => [...map.keys()],
  };
}

/** @param {Storage} storage @returns {Shelf} writes go to memory as well, so that a refused one still lasts as long as the page */
export function storageShelf(storage) {
  const memory = memoryShelf();
  return {
    get: (key) => storage.getItem(key) ?? memory.get(key),
    set(key, value) {
      memory.set(key, value);
      try {
        storage.setItem(key, value);
      } catch (error) {
        if (!(error instanceof DOMException)) throw error;
        console.warn("The browser keeps nothing more; it lasts as long as this page.", error.name);
      }
    },
    remove(key) {
      memory.remove(key);
      storage.removeItem(key);
    },
    keys: () => [...new Set([...Object.keys(storage), ...memory.keys()])],
  };
}

/** @returns {Shelf} */
export function browserShelf() {
  try {
    return storageShelf(window.localStorage);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // SecurityError: site data is blocked
    return memoryShelf();
  }
}
