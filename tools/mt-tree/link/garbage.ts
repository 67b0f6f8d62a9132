/**
 * Bun's collector counts the bytes of buffers too late: a stream that passes through leaves hundreds of MiB of them
 * behind; and in a daemon, whose collector has no timer (an idle process must not wake for it), they stay. Whoever
 * moves much tells it every so often. Node and Deno do this by themselves.
 */
const EVERY_BYTES = 20 * 2 ** 20;
/** What is not worth a collection once all is quiet. */
const LITTLE_BYTES = 2 ** 20;
const QUIET_MS = 2_000;

const gc = (globalThis as { Bun?: { gc?(force: boolean): number } }).Bun?.gc;
let moved = 0;
let quiet: NodeJS.Timeout | undefined;

/** Call with the length of each chunk that has been dealt with. */
export function collectAfter(bytes: number): void {
  moved += bytes;
  if (moved < EVERY_BYTES || !gc) return;
  moved = 0;
  gc(true);
}

/** For daemons: call when something has ended; collects a while after the last call, where it pays or `always`. */
export function collectWhenQuiet(always = false): void {
  if (!gc || (moved < LITTLE_BYTES && !always)) return;
  clearTimeout(quiet);
  quiet = setTimeout(() => {
    moved = 0;
    gc(true);
  }, QUIET_MS);
}
