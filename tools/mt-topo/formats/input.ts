/** Files and stdin as lines or as a whole, until a signal says stop. */
import { createReadStream } from "node:fs";
import { type ErrorCode, MtFailure, mtError } from "../../../shared/errors.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";

const WHY: Readonly<Record<string, { code: ErrorCode; state: string }>> = {
  ENOENT: { code: "data", state: "no such file" },
  EISDIR: { code: "data", state: "it is a directory" },
  EACCES: { code: "permission", state: "no permission" },
};

/** The chunks of a file, or of stdin for `-`. Ends by throwing where the signal comes. */
export async function* chunksOf(file: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const input = file === "-" ? stdinChunks() : (createReadStream(file) as AsyncIterable<Buffer>);
  const iterator = input[Symbol.asyncIterator]();
  const aborted = new Promise<never>((_, reject) => {
    const stop = () =>
      reject(new MtFailure(mtError("failed", `Cannot read ${file === "-" ? "stdin" : file}: interrupted`)));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
  aborted.catch(() => {});
  for (;;) {
    const reading = iterator.next().catch((thrown: NodeJS.ErrnoException) => {
      const why = WHY[thrown.code ?? ""];
      throw why === undefined
        ? thrown
        : new MtFailure(mtError(why.code, `Cannot read ${file}: ${why.state}`));
    });
    const next = await Promise.race([reading, aborted]);
    if (next.done) return;
    yield next.value;
  }
}
