/** Errors in the pages: references to pages that are not there, flags that are not described. */
import { argsOf, commandsOf, type ToolSpec } from "../shared/cli/spec.ts";

/** References to our pages, in sections 1, 5 and 7: `mt-x(1)`, `**mt-x**(1)`. */
const REFERENCE = /\b(mt(?:-[a-z]+)?|megatux)(?:\*\*)?\(([157])\)/g;

/** @param pages text by name, as `mt-boot.1` */
export function brokenReferences(pages: ReadonlyMap<string, string>, tools: readonly ToolSpec[]): string[] {
  const out: string[] = [];
  const look = (where: string, text: string) => {
    for (const [, name, section] of text.matchAll(REFERENCE))
      if (!pages.has(`${name}.${section}`))
        out.push(`${where} refers to ${name}(${section}): there is no such page`);
  };
  for (const [name, text] of pages) look(`man/${name}.md`, text);
  for (const tool of tools) look(`${tool.name}'s spec.ts`, tool.seeAlso.join(" "));
  return out;
}

export function missingFlags(tool: ToolSpec, page: string): string[] {
  return commandsOf(tool).flatMap(([command, c]) =>
    Object.entries(argsOf(c))
      .filter(([flag, a]) => a.type !== "positional" && !page.includes(`\`--${flag}\``))
      .map(([flag]) => `man/${tool.name}.1.md does not describe --${flag} of ${command}`),
  );
}
