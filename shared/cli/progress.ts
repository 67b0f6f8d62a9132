/**
 * Progress: a bar with rate and ETA on a terminal, a line every few seconds with --progress, else nothing.
 * The tools of a pipeline share one terminal and know nothing of each other. So a bar is one line that names its tool,
 * is drawn at most once a second and only when more was done, and leaves the cursor at the start of the line, where the
 * next tool writes. The cursor is never hidden, moved up or restored, so a killed tool leaves nothing to repair.
 */
import { isTerminal } from "../stream/descriptors.ts";
import { inform, putBar, stderrIsText, toolName } from "./stderr.ts";

const LINE_EVERY_MS = 5_000;
const DRAW_EVERY_MS = 1_000;
const BAR_CELLS = 20;

export interface Progress {
  /** Adds to the total. */
  grow(n: number): void;
  /** Adds to what is done, `failed` of it without success. */
  step(n?: number, failed?: number): void;
  stop(): void;
}

/**
 * @param unit what is counted, as "guests"
 * @param also gives more text, called for each line
 */
export function startProgress(unit: string, lines: boolean, also?: () => string): Progress {
  const onTerminal = isTerminal(2) && stderrIsText() && (process.env.TERM ?? "dumb") !== "dumb";
  const began = Date.now();
  let drawn = 0;
  let total = 0;
  let done = 0;
  let failed = 0;
  const text = () => {
    const rate = done / Math.max((Date.now() - began) / 1000, 0.001);
    return [
      `${done} of ${total} ${unit}`,
      failed > 0 && `${failed} failed`,
      `${rate.toFixed(1)}/s`,
      rate > 0 && done < total && `${Math.ceil((total - done) / rate)} s to go`,
      also?.(),
    ]
      .filter(Boolean)
      .join(", ");
  };
  let later: ReturnType<typeof setTimeout> | undefined;
  const draw = () => {
    if (!onTerminal || total === 0 || later) return;
    const wait_ms = drawn + DRAW_EVERY_MS - Date.now();
    if (wait_ms > 0) {
      later = setTimeout(() => {
        later = undefined;
        draw();
      }, wait_ms);
      later.unref();
      return;
    }
    drawn = Date.now();
    const full = Math.round((BAR_CELLS * Math.min(done, total)) / total);
    putBar(`${toolName()}: ${"█".repeat(full)}${"░".repeat(BAR_CELLS - full)} ${text()}`);
  };
  const timer = lines && !onTerminal ? setInterval(() => inform(text()), LINE_EVERY_MS) : undefined;
  timer?.unref();
  return {
    grow(n) {
      total += n;
      draw();
    },
    step(n = 1, f = 0) {
      done += n;
      failed += f;
      draw();
    },
    stop() {
      if (timer) {
        clearInterval(timer);
        if (total > 0) inform(text());
      }
      clearTimeout(later);
      if (drawn > 0) putBar("");
    },
  };
}
