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
