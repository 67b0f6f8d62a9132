/** The formats that `mt-topo import` reads, a line a format: its name is what `--format` takes. */
import { extname } from "node:path";
import type { Format } from "./format.ts";

const FORMATS: Readonly<Record<string, () => Promise<Format>>> = {
  gml: async () => (await import("./gml/gml.ts")).gml,
  native: async () => (await import("./native.ts")).native,
};

export const FORMAT_NAMES: readonly string[] = Object.keys(FORMATS);

export const formatNamed = (name: string): Promise<Format> => FORMATS[name]!();

const allFormats = () => Promise.all(FORMAT_NAMES.map(formatNamed));

/** By the ending of the file's name, then by how its text begins. */
export async function formatOf(name: string, text: string): Promise<Format> {
  const ending = extname(name).toLowerCase();
  const formats = await allFormats();
  return (
    formats.find(({ endings }) => endings.includes(ending)) ??
    formats.find(({ begins }) => begins(text.slice(0, 4096))) ??
    formats[0]!
  );
}

/** The other format that this text is in. */
export async function fittingFormat(
  text: string,
  but: Format,
): Promise<{ name: string; title: string } | undefined> {
  for (const name of FORMAT_NAMES) {
    const format = await formatNamed(name);
    if (format !== but && format.fits?.(text)) return { name, title: format.title };
  }
}
