/**
 * How far it is: a bar with rate and ETA on a terminal, a line every few seconds with --progress, else
 * nothing.
 */
import type { SingleBar } from "cli-progress";
import { inform, stderrIsText } from "./stderr.ts";

const LINE_EVERY_MS = 5_000;

export interface Progress {
  /** More is wanted in all. */
  grow(n: number): void;
  /** More is done; `failed` counts those that failed. */
  step(n?: number, failed?: number): void;
  stop(): void;
}

/**
 * @param unit what is counted, as "guests"
 * @param also what else is worth seeing meanwhile, asked for each time
 */
export async function startProgress(unit: string, lines: boolean, also?: () => string): Promise<Progress> {
  const bar = process.stderr.isTTY && stderrIsText() ? await makeBar(unit) : undefined;
  const extra = () => (also ? `, ${also()}` : "");
  const began = Date.now();
  let total = 0;
  let done = 0;
  let failed = 0;
  const say = () => {
    const seconds = (Date.now() - began) / 1000;
    const rate = done / Math.max(seconds, 0.001);
    const eta = rate > 0 && done < total ? `, ${Math.ceil((total - done) / rate)} s to go` : "";
    inform(
      `${done} of ${total} ${unit}${failed > 0 ? `, ${failed} failed` : ""}, ${rate.toFixed(1)}/s${eta}${extra()}`,
    );
  };
  const timer = lines && !bar ? setInterval(say, LINE_EVERY_MS) : undefined;
  timer?.unref();
  return {
    grow(n) {
      total += n;
      bar?.setTotal(total);
    },
    step(n = 1, f = 0) {
      done += n;
      failed += f;
      if (!bar) return;
      const rate = (done / Math.max((Date.now() - began) / 1000, 0.001)).toFixed(1);
      bar.update(done, { failed, rate, extra: extra() });
    },
    stop() {
      if (timer) {
        clearInterval(timer);
        if (total > 0) say();
      }
      bar?.stop();
    },
  };
}

async function makeBar(unit: string): Promise<SingleBar> {
  const { SingleBar, Presets } = await import("cli-progress");
  const bar = new SingleBar(
    {
      format: `{bar} {value}/{total} ${unit}, {failed} failed, {rate}/s, ETA {eta_formatted}{extra}`,
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  );
  bar.start(0, 0, { failed: 0, rate: "0.0", extra: "" });
  return bar;
}
