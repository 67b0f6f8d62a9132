/** The parts of a tool's page that come from its spec.ts: synopsis, options, records, exit status, as Markdown. */
import { exitRows, flagRows, flagText, recordsText, usageLine } from "../shared/cli/help.ts";
import { argsOf, commandsOf, commonArgs, type ToolSpec, twinOf } from "../shared/cli/spec.ts";

/** What is left of 80 columns inside a block of a page. */
export const WIDTH = 71;

/** The parts by the names that `<!-- generated: options -->` uses. */
export const PARTS: Readonly<Record<string, (tool: ToolSpec) => string>> = {
  synopsis: (tool) =>
    commandsOf(tool)
      .map(([name, c]) => {
        const flags = Object.entries(argsOf(c)).filter(
          ([f, a]) => a.type !== "positional" && !Object.hasOwn(commonArgs, f),
        );
        const words = flags.map(([f, a]) => {
          const text = flagText(f, a).replace(/^(\S+)/, "`$1`");
          return a.required ? text : `[${text}]`;
        });
        const rest = usageLine(tool, name, c, "").slice(`${tool.name} ${name}`.length);
        const called =
          name === tool.defaultCommand ? `\`${tool.name}\` [\`${name}\`]` : `\`${tool.name} ${name}\``;
        return `${called} ${words.join(" ")}${rest.replace(" --", " `--`")}`.trim();
      })
      .join("\n\n"),
  options: (tool) =>
    flagRows(commandsOf(tool))
      .map((r) => {
        const facts = [
          r.commands.length > 0 ? r.commands.join(", ") : "",
          r.standard ?? "",
          twinOf(r.name) ?? "",
        ].filter(Boolean);
        return `${r.text.replaceAll(/(-{1,2}[a-z-]+)/g, "`$1`")}\n  ${sentence(r.means)} (${facts.join("; ")})`.replace(
          " ()",
          "",
        );
      })
      .join("\n\n"),
  records: (tool) => block(commandsOf(tool).map(([name, c]) => [name, recordsText(c)])),
  exit: (tool) => exitTable(tool),
};

/** What exit codes mean: in this tool, or, without one, in all tools. */
export const exitTable = (tool: Pick<ToolSpec, "exits"> = {}) => block(exitRows(tool));

const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** Two columns as an indented block, wrapped. */
function block(rows: [string, string][]): string {
  const width = Math.max(...rows.map(([a]) => a.length));
  return rows
    .flatMap(([a, b]) =>
      wrap(b, WIDTH - width - 2).map((line, i) => `    ${(i === 0 ? a : "").padEnd(width)}  ${line}`),
    )
    .join("\n");
}

export function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
