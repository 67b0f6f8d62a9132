/** stdin as chunks of bytes, 64 KiB at a time, read only as fast as they are taken. */
import { createReadStream } from "node:fs";

export function stdinChunks(): AsyncIterable<Buffer> {
  return createReadStream("", { fd: 0, highWaterMark: 64 * 1024, autoClose: false }) as AsyncIterable<Buffer>;
}

/** All of stdin, for what has to see the whole before it can begin. */
export async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdinChunks()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * The next chunk, or undefined where the run is aborted. Not Promise.race with one promise for the abort: that
 * would hold every chunk until the stream has ended.
 */
export function nextUnlessAborted<T>(
  iterator: AsyncIterator<T>,
  signal: AbortSignal,
): Promise<IteratorResult<T> | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const interrupted = () => resolve(undefined);
    signal.addEventListener("abort", interrupted, { once: true });
    iterator
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", interrupted));
  });
}
