/** stdin as chunks of bytes, 64 KiB at a time, read only as fast as they are taken. */
import { createReadStream, read } from "node:fs";

export function stdinChunks(): AsyncIterable<Buffer> {
  return createReadStream("", { fd: 0, highWaterMark: 64 * 1024, autoClose: false }) as AsyncIterable<Buffer>;
}

/**
 * The same from one buffer that is filled again and again: whoever keeps bytes of a chunk copies them. For streams
 * of which nothing is kept, where a new buffer for every chunk is what most of the time and memory goes to.
 */
export async function* stdinRefilled(): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(256 * 1024);
  for (;;) {
    let n: number;
    try {
      n = await new Promise<number>((resolve, reject) =>
        read(0, buffer, 0, buffer.length, null, (error, bytes) => (error ? reject(error) : resolve(bytes))),
      );
    } catch (thrown) {
      // Somebody made our stdin non-blocking, and nothing is there yet.
      if ((thrown as NodeJS.ErrnoException).code !== "EAGAIN") throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    if (n === 0) return;
    yield buffer.subarray(0, n);
  }
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
