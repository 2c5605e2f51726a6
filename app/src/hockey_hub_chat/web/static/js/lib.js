/** The one place that names the vendored file, so that an upgrade touches one line. */
export * from "../vendor/preact-11.2.0.js";
