/**
 * Bun's collector counts the bytes of buffers too late: a stream that passes through leaves hundreds of MiB of them
 * behind. Whoever moves much tells it every so often. Node and Deno do this by themselves.
 */
const EVERY_BYTES = 48 * 2 ** 20;

const gc = (globalThis as { Bun?: { gc?(force: boolean): number } }).Bun?.gc;
let moved = 0;

/** Call with the length of each chunk that has been dealt with. */
export function collectAfter(bytes: number): void {
  moved += bytes;
  if (moved < EVERY_BYTES || !gc) return;
  moved = 0;
  gc(true);
}
