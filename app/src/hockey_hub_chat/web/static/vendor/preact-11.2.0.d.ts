// For tsc alone: the types of the bundle beside this file.
export * from "../../../../../frontend/vendor-entry.js";
