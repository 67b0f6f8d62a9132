/** Shell completion of a tool, from its spec: commands, flags, and the options of enums. */
import { argsOf, type CommandSpec, choices, SHELLS, type Shell, type ToolSpec } from "./spec.ts";

interface Flag {
  name: string;
  /** One letter. */
  alias?: string;
  means: string;
  /** Set if it takes a value: the options to choose from, or empty for any text. */
  value?: readonly string[];
  /** Its value names a file or a directory. */
  file?: boolean;
}

const OF_THE_TOOL: readonly Flag[] = [
  { name: "help", means: "show the help" },
  { name: "version", means: "tool, schema version, commit" },
  { name: "schema", means: "print the JSON Schema of its records" },
  { name: "completion", means: "print completion for a shell", value: SHELLS },
];

function flagsOf(spec: CommandSpec): Flag[] {
  return Object.entries(argsOf(spec))
    .filter(([, a]) => a.type !== "positional")
    .map(([name, a]) => ({
      name,
      ...("alias" in a ? { alias: a.alias } : {}),
      means: a.description ?? "",
      ...(a.type === "boolean" ? {} : { value: choices(a), file: /^(FILE|DIR)$/.test(a.valueHint ?? "") }),
    }));
}
const choicesOfArguments = (spec: CommandSpec) =>
  Object.values(argsOf(spec)).flatMap((a) => (a.type === "positional" ? choices(a) : []));
const shown = (tool: ToolSpec) => Object.entries(tool.commands).filter(([, c]) => !c.hidden);
const dashed = (flags: readonly Flag[]) => flags.map((f) => `--${f.name}`).join(" ");
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

export function completion(tool: ToolSpec, shell: Shell): string {
  return { bash, zsh, fish }[shell](tool);
}

function bash(tool: ToolSpec): string {
  const fn = `_${tool.name.replaceAll("-", "_")}`;
  const names = shown(tool).map(([n]) => n);
  const values = (command: string, flags: readonly Flag[]) =>
    flags
      .filter((f) => f.value)
      .map((f) => `    ${quote(`${command} --${f.name}`)}) words=${quote(f.value!.join(" "))} ;;\n`)
      .join("");
  return `# bash completion of ${tool.name}, printed by: ${tool.name} --completion bash
${fn}() {
  local word words command=${quote(tool.defaultCommand ?? "")} at=$COMP_CWORD
  local current=\${COMP_WORDS[at]} before=\${COMP_WORDS[at-1]}
  COMPREPLY=()
  [ "$current" != = ] || current=
  [ "$before" != = ] || before=\${COMP_WORDS[at-2]}
  for word in "\${COMP_WORDS[@]:1:at-1}"; do [ "$word" != -- ] || return 0; done
  if [ "$at" -gt 1 ]; then case \${COMP_WORDS[1]} in ${names.join("|")}) command=\${COMP_WORDS[1]} ;; esac; fi
  case "$command $before" in
${shown(tool)
  .map(([n, c]) => values(n, flagsOf(c)))
  .join("")}    *' --completion') words='bash zsh fish' ;;
    *) case "$at $command" in
${tool.defaultCommand ? `      "1 ${tool.defaultCommand}") words=${quote(`${names.join(" ")} ${dashed(OF_THE_TOOL)} ${dashed(flagsOf(tool.commands[tool.defaultCommand]!))}`)} ;;\n` : ""}      "1 "*) words=${quote(`${names.join(" ")} ${dashed(OF_THE_TOOL)}`)} ;;
${shown(tool)
  .map(
    ([n, c]) =>
      `      *" ${n}") words=${quote([dashed(flagsOf(c)), ...choicesOfArguments(c), ...(c.rest ? ["--"] : [])].join(" "))} ;;\n`,
  )
  .join("")}    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F ${fn} ${tool.name}`;
}

function zsh(tool: ToolSpec): string {
  const fn = `_${tool.name.replaceAll("-", "_")}`;
  const plain = (text: string) => text.replaceAll(/[[\]:\\]/g, "\\$&");
  const words = (f: Flag) => (f.value?.length ? `(${f.value.join(" ")})` : f.file ? "_files" : " ");
  const value = (f: Flag) => (f.value ? `:${f.name}:${words(f)}` : "");
  const specs = (c: CommandSpec) => {
    const flags = flagsOf(c).flatMap((f) =>
      [`--${f.name}`, ...(f.alias ? [`-${f.alias}`] : [])].map((n) =>
        quote(`${n}[${plain(f.means)}]${value(f)}`),
      ),
    );
    const words = choicesOfArguments(c);
    return [...flags, words.length > 0 ? quote(`*:argument:(${words.join(" ")})`) : "'*:file:_files'"].join(
      " ",
    );
  };
  const commands = shown(tool).map(([n, c]) => quote(`${n}:${plain(c.summary)}`));
  const own = OF_THE_TOOL.map((f) => quote(`--${f.name}:${plain(f.means)}`));
  const standard = tool.defaultCommand
    ? `_arguments ${specs(tool.commands[tool.defaultCommand]!)}`
    : "_files";
  return `#compdef ${tool.name}
# zsh completion of ${tool.name}, printed by: ${tool.name} --completion zsh
${fn}() {
  local -a commands=(${commands.join(" ")} ${own.join(" ")})
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  case $words[2] in
    --completion) _values shell bash zsh fish ;;
${shown(tool)
  .map(([n, c]) => `    ${n}) shift words; (( CURRENT-- )); _arguments ${specs(c)} ;;\n`)
  .join("")}    *) ${standard} ;;
  esac
}
if [[ $funcstack[1] == ${quote(`_${tool.name}`)} ]]; then ${fn} "$@"; else compdef ${fn} ${tool.name}; fi`;
}

function fish(tool: ToolSpec): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const names = shown(tool).map(([n]) => n);
  const line = (when: string, f: Flag) =>
    [
      `complete -c ${tool.name} -n ${quoted(when)}`,
      f.alias && `-s ${f.alias}`,
      `-l ${f.name}`,
      f.value && (f.value.length > 0 ? `-x -a ${quoted(f.value.join(" "))}` : "-r"),
      `-d ${quoted(f.means)}`,
    ]
      .filter(Boolean)
      .join(" ");
  const none = `not __fish_seen_subcommand_from ${names.join(" ")}`;
  const flags = tool.defaultCommand ? flagsOf(tool.commands[tool.defaultCommand]!) : [];
  const lines = [`# fish completion of ${tool.name}, printed by: ${tool.name} --completion fish`];
  for (const f of [...OF_THE_TOOL, ...flags.filter((f) => !OF_THE_TOOL.some((o) => o.name === f.name))])
    lines.push(line(none, f));
  for (const [n, c] of shown(tool)) {
    const when = `__fish_seen_subcommand_from ${n}`;
    lines.push(`complete -c ${tool.name} -f -n ${quoted(none)} -a ${n} -d ${quoted(c.summary)}`);
    const words = choicesOfArguments(c);
    if (words.length > 0)
      lines.push(`complete -c ${tool.name} -f -n ${quoted(when)} -a ${quoted(words.join(" "))}`);
    for (const f of flagsOf(c)) lines.push(line(when, f));
  }
  return lines.join("\n");
}
