/**
 * Rates, delays, losses and degrees as files have them, numbers or text with a unit, in our units. What can be meant in
 * two ways is not understood, and the reason comes back: whoever asks tells it.
 */
import { err, ok, type Result } from "neverthrow";

/** A number in our unit, or why the value is not taken. */
type Read = Result<number, string>;

const not = (): Read => err("not understood");

/** A value for a message: text in quotes, one line of sane length. */
export function shown(value: unknown): string {
  if (typeof value === "object") return "a list";
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length > 40 ? `${value.slice(0, 37)}...` : value);
}

/** `2.5`, `2,5`, `10,000,000`; undefined where a comma may be either (`1,000`). */
function decimal(text: string): number | undefined {
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text)) return Number(text);
  if (/^[+-]?\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?$/.test(text)) return Number(text.replaceAll(",", ""));
  if (/^[+-]?\d{1,3},\d{3}$/.test(text) && !/^[+-]?0,/.test(text)) return undefined;
  return /^[+-]?\d*,\d+$/.test(text) ? Number(text.replace(",", ".")) : undefined;
}

const NUMBER = "[+-]?[\\d.,]*\\d[.,]?(?:e[+-]?\\d+)?";
const WITH_UNIT = new RegExp(`^(${NUMBER})\\s*([^\\d\\s].*)?$`, "i");

/** Text as a number and what follows it, or undefined. */
function taken(value: unknown): { n: number; unit: string } | undefined {
  if (typeof value === "object") return undefined;
  if (typeof value !== "string") return { n: Number(value), unit: "" };
  const m = WITH_UNIT.exec(value.trim());
  const n = m ? decimal(m[1]!) : undefined;
  return n === undefined ? undefined : { n, unit: (m![2] ?? "").trim() };
}

const SCALE: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
const SCALE_WORD: Readonly<Record<string, number>> = { kilo: 1e3, mega: 1e6, giga: 1e9, tera: 1e12 };

/** Bit/s in a unit, whatever way it is written: Gbps, Gbit/s, Mb/s, MB/s (bytes), G, GE, GigE, kilobit per second. */
export function bitsIn(unit: string): number | undefined {
  const u = unit.replaceAll(/\s+/g, " ");
  if (/^(?:gig|gige|gbe|ge)$/i.test(u)) return 1e9;
  let m = /^([mg]?)base-?\w+$/i.exec(u);
  if (m) return /g/i.test(m[1]!) ? 1e9 : 1e6;
  m = /^(kilo|mega|giga|tera)[ -]?(bit|byte)s?(?: ?(?:\/|per )? ?s(?:ec(?:ond)?)?)?$/i.exec(u);
  if (m) return SCALE_WORD[m[1]!.toLowerCase()]! * (/^byte/i.test(m[2]!) ? 8 : 1);
  m = /^([kmgt]?)(bits?|bytes?)(?: ?(?:\/|per) ?s(?:ec(?:ond)?)?|ps)?$/i.exec(u);
  if (m) return SCALE[m[1]!.toLowerCase()]! * (/^byte/i.test(m[2]!) ? 8 : 1);
  // A B of its own is a byte, a b a bit.
  m = /^([kmgtKMGT]?)([bB])(?:ps|\/s|\/sec)$/.exec(u) ?? /^([kmgtKMGT])(b)$/.exec(u);
  if (m) return SCALE[m[1]!.toLowerCase()]! * (m[2] === "B" ? 8 : 1);
  if (/^[kmgt]$/i.test(u)) return SCALE[u.toLowerCase()];
  return /^[kmgt]?bps$/i.test(u) ? SCALE[u.slice(0, -3).toLowerCase()] : undefined;
}

const LINES: Readonly<Record<string, number>> = {
  E1: 2.048,
  E3: 34.368,
  T1: 1.544,
  T3: 44.736,
  DS1: 1.544,
  DS3: 44.736,
  "FAST ETHERNET": 100,
  "GIGABIT ETHERNET": 1000,
};

/** Lines that are named after their rate: OC-48c, STM-16, E3, T1, Gigabit Ethernet. */
function lineRate(text: string): number | undefined {
  const m = /^(OC|STM)[ -]?(\d{1,4})c?$/i.exec(text);
  if (m) return Number(m[2]) * (/^oc$/i.test(m[1]!) ? 51.84 : 155.52);
  const name = text.toUpperCase().replace(/^(DS|[ET])-(\d)$/, "$1$2");
  return Object.hasOwn(LINES, name) ? LINES[name] : undefined;
}

/** Slower than this as a number alone is no count of bits: somebody meant another unit. */
const BARE_BITS_MIN = 1000;
const RATE_MBIT_MAX = 1e9;

/** @param unit bit/s of a number without a unit; undefined where nothing says what it would be */
export function rateMbit(value: unknown, unit: number | undefined): Read {
  const text = typeof value === "string" ? value.trim() : "";
  const several = /^(\d{1,3})\s*[x*×]\s*(\S.*)$/i.exec(text);
  if (several) return rateMbit(several[2]!, undefined).map((rate) => tidy(rate * Number(several[1])));
  const line = lineRate(text);
  if (line !== undefined) return ok(line);
  const it = taken(value);
  if (!it || !Number.isFinite(it.n)) return not();
  if (it.unit === "" && unit === undefined) return err("without a unit");
  const bits = it.unit === "" ? unit : bitsIn(it.unit);
  if (bits === undefined) return not();
  const rate = tidy((it.n * bits) / 1e6);
  if (rate <= 0) return err("not above 0");
  if (it.unit === "" && unit === 1 && it.n < BARE_BITS_MIN)
    return err("too slow to be meant in bit/s, and without a unit");
  return rate > RATE_MBIT_MAX ? err("out of range") : ok(rate);
}

const MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  nsec: 1e-6,
  us: 1e-3,
  usec: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  msec: 1,
  millisecond: 1,
  milliseconds: 1,
  microseconds: 1e-3,
  nanoseconds: 1e-6,
  s: 1000,
  sec: 1000,
  second: 1000,
  seconds: 1000,
};
const DELAY_MS_MAX = 60_000;

/** Milliseconds in a unit of time. */
export const msIn = (unit: string) => {
  const u = unit.toLowerCase();
  return Object.hasOwn(MS, u) ? MS[u] : undefined;
};

/** @param unit ms of a number without a unit */
export function delayMs(value: unknown, unit: number): Read {
  const it = taken(value);
  if (!it || !Number.isFinite(it.n)) return not();
  const scale = it.unit === "" ? unit : msIn(it.unit);
  if (scale === undefined) return not();
  const ms = tidy(it.n * scale);
  if (ms < 0) return err("negative");
  return ms > DELAY_MS_MAX ? err("out of range") : ok(ms);
}

/** A share of frames: 0.01, or "1 %". */
export function lossShare(value: unknown): Read {
  const it = taken(value);
  if (!it || !Number.isFinite(it.n)) return not();
  if (it.unit !== "" && it.unit !== "%") return not();
  // 1 is all, or one in a hundred: a number has to say which.
  if (it.unit === "" && it.n >= 1) return err("neither below 1 nor with a %");
  const share = tidy(it.unit === "%" ? it.n / 100 : it.n);
  return share < 0 || share > 1 ? err("out of range") : ok(share);
}

const ONE = "(\\d+(?:[.,]\\d+)?)";
const DEGREES = new RegExp(
  `^([NSEW])?\\s*([+-])?\\s*${ONE}\\s*(?:[°ºd]\\s*(?:${ONE}\\s*['′’m]\\s*(?:${ONE}\\s*(?:["″”s]|''|′′)?\\s*)?)?)?([NSEW])?$`,
  "i",
);

/** 48.85, "48,85", "48.85N", "48°51'24\"N"; `most` is 90 for a latitude, 180 for a longitude. */
export function degrees(value: unknown, most: 90 | 180): Read {
  let n = Number.NaN;
  if (typeof value === "string") {
    const text = value.trim();
    const m = DEGREES.exec(text);
    if (!m) {
      if (!/^[+-]?\d*\.?\d+e[+-]?\d+$/i.test(text) && !/^[+-]?\.\d+$/.test(text)) return not();
      n = Number(text);
    } else {
      const [, before, sign, whole, minutes = "0", seconds = "0", after] = m;
      const letter = (before ?? after)?.toUpperCase();
      const [d, min, s] = [whole!, minutes, seconds].map((part) => Number(part.replace(",", ".")));
      if ((before && after) || (letter && sign) || min! >= 60 || s! >= 60) return not();
      if (letter !== undefined && !(most === 90 ? "NS" : "EW").includes(letter)) return not();
      n = d! + min! / 60 + s! / 3600;
      if (sign === "-" || letter === "S" || letter === "W") n = -n;
    }
  } else if (typeof value !== "object") n = Number(value);
  if (Number.isNaN(n)) return not();
  return Math.abs(n) > most ? err("out of range") : ok(tidy(n));
}

/** Without the dust of floating point. */
const tidy = (n: number) => Number(n.toPrecision(12));
