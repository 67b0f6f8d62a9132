/** The release. The build sets the commit; run from source it is `unknown`. */
declare const MT_COMMIT: string | undefined;

export const VERSION = "0.1.0";
export const COMMIT = typeof MT_COMMIT === "string" ? MT_COMMIT : "unknown";
/** The plan format that these tools read and write. */
export const SCHEMA_VERSION = 1;
