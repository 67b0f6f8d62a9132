/** A command's output as fields of an `exit` record: text, and the bytes in base64 if they are not valid UTF-8. */
import type { Exit } from "./exit.ts";

/** @param cut whether the output was cut: then half a character at its end does not count as invalid */
export function printed(
  stream: "stdout" | "stderr",
  bytes: Uint8Array,
  cut: boolean,
): Pick<Exit, "stdout" | "stderr" | "stdout_base64" | "stderr_base64"> {
  try {
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { [stream]: strict.decode(bytes, { stream: cut }) };
  } catch {
    const kept = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return { [stream]: kept.toString(), [`${stream}_base64`]: kept.toString("base64") };
  }
}
