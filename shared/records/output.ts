/**
 * What a command printed, as an `exit` record carries it: text for people, and the bytes themselves where
 * text would lose some of them.
 */
import type { Exit } from "./exit.ts";

/** @param cut whether more came than is here: a character that was cut in two at the end is no loss then */
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
