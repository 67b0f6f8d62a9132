import { describe, expect, test } from "vitest";
import { didYouMean } from "../../../shared/cli/did-you-mean.ts";
import { commandHelp, toolHelp } from "../../../shared/cli/help.ts";
import type { ArgsOf } from "../../../shared/cli/invocation.ts";
import { parse } from "../../../shared/cli/parse.ts";
import type { ToolSpec } from "../../../shared/cli/spec.ts";

const none = { stdin: "none", reads: [], writes: [] } as const;
const tool = {
  name: "mt-x",
  summary: "does x",
  description: "It does.",
  examples: [{ command: "mt-x up --fanout 4 kn1", does: "up" }],
  seeAlso: ["mt-y(1)"],
  commands: {
    up: {
      ...none,
      summary: "makes it so",
      args: {
        hosts: { type: "positional", description: "which hosts" },
        file: { type: "positional", required: false, description: "a file" },
        fanout: { type: "string", alias: "f", default: "16", valueHint: "N", description: "children a host" },
        "time-limit": { type: "string", description: "seconds" },
        paused: { type: "boolean", description: "stop at the barrier" },
        tls: { type: "boolean", default: true, description: "encrypt" },
        port: { type: "string", default: "7420", description: "where it listens" },
        "no-port": { type: "boolean", description: "it does not" },
        via: { type: "enum", options: ["local", "ssh"], default: "ssh", description: "how" },
      },
    },
    exec: {
      ...none,
      summary: "runs",
      args: {},
      rest: { name: "CMD", required: true, description: "command" },
    },
    set: {
      ...none,
      summary: "sets",
      args: { env: { type: "list", valueHint: "K=V", description: "a variable" } },
    },
    on: {
      ...none,
      summary: "runs on hosts",
      hidden: true,
      args: { hosts: { type: "positional", description: "which hosts" } },
      rest: { name: "CMD", required: true, description: "command" },
    },
    ls: { ...none, summary: "lists", args: {} },
    gen: {
      ...none,
      summary: "makes",
      args: {
        shape: { type: "positional", options: ["ring", "grid"], description: "how" },
        routers: { type: "number", valueHint: "N", required: true, description: "how many" },
      },
    },
    typed: {
      ...none,
      summary: "has every type",
      hidden: true,
      args: {
        count: { type: "positional", value: "number", max: 10, description: "a number" },
        name: { type: "positional", value: "id", required: false, description: "an id" },
        every: { type: "number", min: -5, max: 10, integer: false, default: 1, description: "a number" },
        retries: { type: "number", description: "a whole number" },
        experiment: { type: "id", description: "an id" },
        expand: { type: "boolean", excludes: ["fold", "only"], description: "x" },
        fold: { type: "boolean", description: "x" },
        only: { type: "list", description: "x" },
        between: {
          type: "string",
          needs: { arg: "retries", because: "it runs between them", example: "mt-x typed 1 --retries 2" },
          description: "x",
        },
        follow: {
          type: "boolean",
          needs: { arg: "name", because: "one is followed", example: "mt-x typed 1 a --follow" },
          description: "x",
        },
      },
    },
    serve: { ...none, summary: "inside", args: {}, hidden: true },
  },
} as const satisfies ToolSpec;
const asked = (line: string, env = {}) =>
  parse(tool, line === "" ? [] : line.split(" "), env)._unsafeUnwrap();
const args = (line: string, env = {}) => {
  const request = asked(line, env);
  if (request.ask !== "run") throw new Error(request.ask);
  return request.parsed.args;
};
const refused = (line: string, env = {}) =>
  parse(tool, line === "" ? [] : line.split(" "), env)._unsafeUnwrapErr();

describe("-- ends the flags", () => {
  const parsed = (line: string) => {
    const request = asked(line);
    if (request.ask !== "run") throw new Error(request.ask);
    const { args, rest } = request.parsed;
    return [args.hosts, args.file, args.paused, rest];
  };
  test.each<[string, unknown[]]>([
    ["up -- kn1", ["kn1", undefined, false, []]],
    ["up --paused kn1 -- -f", ["kn1", "-f", true, []]],
    ["up -- --paused --help", ["--paused", "--help", false, []]],
    ["up kn1 --", ["kn1", undefined, false, []]],
    ["on kn1 -- ls -- x", ["kn1", undefined, undefined, ["ls", "--", "x"]]],
    ["on -- kn1 -- ls --help", ["kn1", undefined, undefined, ["ls", "--help"]]],
    ["on -- -kn1 -- ls -- x", ["-kn1", undefined, undefined, ["ls", "--", "x"]]],
    ["exec -- ls -- x", [undefined, undefined, undefined, ["ls", "--", "x"]]],
  ])("mt-x %s", (line, expected) => {
    expect(parsed(line)).toEqual(expected);
  });
  test.each([
    ["up --", "Cannot run mt-x up: HOSTS is missing"],
    ["up -- a b c", 'Cannot use "c": mt-x up takes 2 arguments'],
    ["on -- ls", "Cannot run mt-x on: HOSTS is missing"],
    ["on -- a b -- ls", 'Cannot use "b": mt-x on takes 1 argument'],
  ])("mt-x %s: %s", (line, message) => {
    expect(refused(line).message).toBe(message);
  });
});

test("a list has all values of its flag, in order; its twin is one of them", () => {
  const env = (line: string, twins = {}) => args(line, twins).env;
  expect(env("set --env A=1 --env=B=x,y --env A=2")).toEqual(["A=1", "B=x,y", "A=2"]);
  expect(env("set")).toEqual([]);
  expect(env("set", { MT_ENV: "C=3" })).toEqual(["C=3"]);
  expect(env("set --env A=1", { MT_ENV: "C=3" })).toEqual(["A=1"]);
  expect(args("up kn1")).not.toHaveProperty("env");
  expect(refused("set --env").message).toBe("Cannot use --env: its value is missing");
  expect(refused("up kn1 --fanout").message).toBe("Cannot use --fanout: its value is missing");
});

describe("values", () => {
  test.each<[string, object]>([
    ["up kn1", { hosts: "kn1", fanout: "16", via: "ssh", tls: true }],
    ["up kn1 x.plan", { hosts: "kn1", file: "x.plan" }],
    ["up --fanout 4 kn1", { fanout: "4" }],
    ["up --fanout=4 kn1", { fanout: "4" }],
    ["up -f 4 kn1", { fanout: "4" }],
    ["up --fanout=-4 kn1", { fanout: "-4" }],
    ["up --time-limit=a=b kn1", { "time-limit": "a=b" }],
    ["up kn1 --paused", { hosts: "kn1", paused: true }],
    ["up --paused kn1", { hosts: "kn1", paused: true }],
    ["up --no-tls kn1", { tls: false }],
    ["up --no-port kn1", { port: "7420", "no-port": true }],
    ["up --port 7 kn1", { port: "7", "no-port": false }],
    ["up --via local kn1", { via: "local" }],
    ["up kn1 --fanout 3 --fanout 5", { fanout: "5" }],
  ])("mt-x %s", (line, expected) => {
    expect(args(line)).toMatchObject(expected);
  });

  test("each flag has a twin in the environment, which the command line beats", () => {
    const env = { MT_FANOUT: "3", MT_TIME_LIMIT: "9", MT_PAUSED: "1", MT_VIA: "local" };
    expect(args("up kn1", env)).toMatchObject({ fanout: "3", "time-limit": "9", paused: true, via: "local" });
    expect(args("up kn1 --fanout 5 --via ssh", env)).toMatchObject({ fanout: "5", via: "ssh" });
    expect(args("up kn1 --no-paused", env).paused).toBe(false);
    expect(args("up kn1", { MT_NO_PORT: "1" })).toMatchObject({ port: "7420", "no-port": true });
    expect(args("up kn1", { MT_NO_PORT: "0" })["no-port"]).toBe(false);
    expect(args("up kn1", { MT_PAUSED: "0", MT_FANOUT: "" })).toMatchObject({ fanout: "16" });
    expect(args("up kn1", { MT_PAUSED: "0" }).paused).toBe(false);
    expect(args("up kn1", { MT_TIME_LIMIT: "--paused" })).toMatchObject({ "time-limit": "--paused" });
  });

  test("a twin switches off what is on by default", () => {
    expect(args("up kn1", { MT_TLS: "0" }).tls).toBe(false);
    expect(args("up kn1", { MT_TLS: "false" }).tls).toBe(false);
    expect(args("up kn1 --tls", { MT_TLS: "no" }).tls).toBe(true);
    expect(refused("up kn1", { MT_TLS: "maybe" }).message).toBe("Cannot use MT_TLS=maybe: expected 1 or 0");
  });

  test("arguments do not come from the environment", () => {
    expect(refused("up", { MT_HOSTS: "kn1" }).message).toMatch(/HOSTS is missing/);
  });

  test("after -- everything is the command's", () => {
    const request = parse(tool, ["exec", "--", "ls", "--help", "--", "-x", ""], {})._unsafeUnwrap();
    expect(request).toMatchObject({
      ask: "run",
      parsed: { command: "exec", rest: ["ls", "--help", "--", "-x", ""] },
    });
  });
});

describe("help and version", () => {
  test.each([
    ["--help", { ask: "help" }],
    ["-h", { ask: "help" }],
    ["help", { ask: "help" }],
    ["help up", { ask: "help", command: "up" }],
    ["up --help", { ask: "help", command: "up" }],
    ["up -h --whatever", { ask: "help", command: "up" }],
    ["--version", { ask: "version" }],
    ["-V", { ask: "version" }],
    ["--schema", { ask: "schema" }],
    ["up --schema", { ask: "schema", command: "up" }],
    ["--completion zsh", { ask: "completion", shell: "zsh" }],
    ["--completion=fish", { ask: "completion", shell: "fish" }],
  ])("mt-x %s", (line, expected) => {
    expect(asked(line)).toEqual(expected);
  });

  test("help names every command that is not hidden, every flag and every exit code", () => {
    const text = toolHelp(tool);
    for (const word of ["mt-x up", "mt-x exec", "-- CMD", "mt-x ls", "does x", "mt-y(1)"])
      expect(text).toContain(word);
    for (const code of [0, 1, 64, 65, 69, 70, 74, 75, 77, 130, 143])
      expect(text).toMatch(new RegExp(`^  ${code} `, "m"));
    expect(text).not.toContain("serve");
    const up = commandHelp(tool, "up");
    for (const word of [
      "-f, --fanout N",
      "(default: 16)",
      "--via local|ssh",
      "--paused",
      "HOSTS",
      "[FILE]",
      "--log",
      "--progress",
    ])
      expect(up).toContain(word);
  });
});

describe("usage errors", () => {
  test.each<[string, string, string | undefined]>([
    ["", "Cannot run mt-x: no command", "one of: up, exec, set, ls, gen; mt-x --help says more"],
    ["pu", 'Cannot run "pu": no such command', "did you mean up?"],
    ["zzzzzz", 'Cannot run "zzzzzz": no such command', "one of: up, exec, set, ls, gen"],
    ["--fanout 4", 'Cannot run "--fanout": no such command', undefined],
    ["constructor", 'Cannot run "constructor": no such command', undefined],
    ["up kn1 --fanot 4", "Cannot use --fanot: no such flag", "did you mean --fanout?"],
    ["up kn1 --zzzzzzz", "Cannot use --zzzzzzz: no such flag", "--help lists the flags"],
    ["up kn1 -z", "Cannot use -z: no such flag", undefined],
    [
      "up kn1 --fanout",
      "Cannot use --fanout: its value is missing",
      "--fanout VALUE; a value that begins with - is written --fanout=VALUE",
    ],
    ["up kn1 --fanout --paused", "Cannot use --fanout: its value is missing", undefined],
    ["up kn1 --paused=yes", "Cannot use --paused with a value: it takes none", undefined],
    ["up kn1 --no-fanout", "Cannot use --no-fanout: no such flag", undefined],
    ["up", "Cannot run mt-x up: HOSTS is missing", "mt-x up --help"],
    ["up a b c", 'Cannot use "c": mt-x up takes 2 arguments', undefined],
    ["ls a", 'Cannot use "a": mt-x ls takes no argument', undefined],
    ["exec ls", 'Cannot use "ls": mt-x exec takes no argument', "a command stands after --"],
    ["exec", "Cannot run mt-x exec: CMD is missing", undefined],
    ["exec --", "Cannot run mt-x exec: CMD is missing", undefined],
    ["ls -- x", 'Cannot use "x": mt-x ls takes no argument', undefined],
  ])("mt-x %s: %s", (line, message, hint) => {
    const error = refused(line);
    expect(error).toMatchObject({ code: "usage", message });
    if (hint !== undefined) expect(error.hint).toBe(hint);
  });

  test.each<[string, NodeJS.ProcessEnv, string, string | undefined]>([
    [
      "up kn1 --via carrier-pigeon",
      {},
      'Cannot use --via "carrier-pigeon": expected local or ssh',
      undefined,
    ],
    ["up kn1 --via locl", {}, 'Cannot use --via "locl": expected local or ssh', "did you mean local?"],
    ["up kn1", { MT_VIA: "shs" }, 'Cannot use MT_VIA="shs": expected local or ssh', "did you mean ssh?"],
    ["gen rnig --routers 3", {}, 'Cannot use SHAPE "rnig": expected ring or grid', "did you mean ring?"],
    [
      "--completion bas",
      {},
      'Cannot use --completion "bas": expected bash or zsh or fish',
      "did you mean bash?",
    ],
    ["--completion", {}, "Cannot use --completion: its value is missing", "one of: bash, zsh, fish"],
    ["help pu", {}, 'Cannot run "pu": no such command', "did you mean up?"],
    ["gen ring", {}, "Cannot run mt-x gen: --routers is missing", "--routers N: how many"],
  ])("mt-x %s, %j: %s", (line, env, message, hint) => {
    expect(refused(line, env)).toEqual({ code: "usage", message, ...(hint ? { hint } : {}) });
  });

  test("a required flag may come from the environment", () => {
    expect(args("gen ring", { MT_ROUTERS: "3" })).toMatchObject({ shape: "ring", routers: 3 });
  });
});

test.each([
  ["fanot", ["fanout", "via"], "did you mean fanout?"],
  ["vai", ["fanout", "via"], "did you mean via?"],
  ["x", ["fanout"], undefined],
])("near %s among %j: %s", (word, known, expected) => {
  expect(didYouMean(word, known)).toBe(expected);
});

describe("numbers", () => {
  test.each<[string, number]>([
    ["4", 4],
    ["0", 0],
    ["0.5", 0.5],
    ["-3", -3],
    ["10", 10],
  ])("--every=%s", (text, n) =>
    expect(args(`typed 3 --every=${text}`)).toMatchObject({ count: 3, every: n }),
  );

  test.each(["", "x", "4k", "0x10", "1e3", "11", "-6", "NaN", "Infinity"])("--every=%s is none", (text) => {
    const message = `Cannot use --every ${JSON.stringify(text)}: expected a number from -5 to 10`;
    expect(refused(`typed 3 --every=${text}`)).toEqual({ code: "usage", message });
  });

  test.each<[string, NodeJS.ProcessEnv, string]>([
    ["typed 3 --retries 1.5", {}, 'Cannot use --retries "1.5": expected a whole number from 0'],
    ["typed 3 --retries=-1", {}, 'Cannot use --retries "-1": expected a whole number from 0'],
    ["typed 3", { MT_RETRIES: "x" }, 'Cannot use MT_RETRIES="x": expected a whole number from 0'],
    ["typed x", {}, 'Cannot use COUNT "x": expected a whole number from 0 to 10'],
    ["typed 11", {}, 'Cannot use COUNT "11": expected a whole number from 0 to 10'],
  ])("mt-x %s, %j: %s", (line, env, message) => {
    expect(refused(line, env)).toEqual({ code: "usage", message });
  });

  test("one that is not given is its default, or undefined", () => {
    expect(args("typed 3")).toMatchObject({ every: 1, retries: undefined });
    expect(args("typed 3 --retries 0", { MT_RETRIES: "7" })).toMatchObject({ retries: 0 });
    expect(args("typed 3", { MT_RETRIES: "7" })).toMatchObject({ retries: 7 });
  });
});

test("an id is one name, not a range and not a path", () => {
  expect(args("typed 3 g0 --experiment a.b_c-1")).toMatchObject({ name: "g0", experiment: "a.b_c-1" });
  for (const [line, said] of [
    ["typed 3 g[0-3]", 'NAME "g[0-3]"'],
    ["typed 3 --experiment ../x", '--experiment "../x"'],
    ["typed 3 --experiment=", '--experiment ""'],
    [`typed 3 --experiment ${"x".repeat(41)}`, `--experiment "${"x".repeat(41)}"`],
  ] as const)
    expect(refused(line)).toEqual({
      code: "usage",
      message: `Cannot use ${said}: it is no id`,
      hint: "letters, digits, . _ -, 40 at most",
    });
});

test.each<[string, NodeJS.ProcessEnv, string | undefined]>([
  ["typed 3 --expand --fold", {}, "Cannot use --expand with --fold: take one of them"],
  ["typed 3 --expand", { MT_FOLD: "1" }, "Cannot use --expand with --fold: take one of them"],
  ["typed 3 --expand --only a", {}, "Cannot use --expand with --only: take one of them"],
  ["typed 3 --expand --no-fold", {}, undefined],
  ["typed 3 --expand", { MT_FOLD: "0" }, undefined],
  ["typed 3 --fold --only a", {}, undefined],
  ["typed 3 --between x", {}, "Cannot use --between without --retries: it runs between them"],
  ["typed 3 --between x --retries 0", {}, undefined],
  ["typed 3 --between x", { MT_RETRIES: "1" }, undefined],
  ["typed 3 --between=", {}, undefined],
  ["typed 3 --follow", {}, "Cannot use --follow without NAME: one is followed"],
  ["typed 3 g0 --follow", {}, undefined],
])("what excludes or needs another: mt-x %s, %j: %s", (line, env, message) => {
  const request = parse(tool, line.split(" "), env);
  expect(request.isErr() ? request.error.message : undefined).toBe(message);
});

/** Checked by the compiler: what a command finds in `args` has the types that its spec says. */
test("the type of args follows from the spec", () => {
  const typed = args("typed 3 --only a") as unknown as ArgsOf<typeof tool, "typed">;
  const {
    count,
    every,
    fold,
    only,
    log,
  }: { count: number; every: number; fold: boolean; only: string[]; log: "text" | "json" } = typed;
  const { name, retries }: { name?: string; retries?: number } = typed;
  const { shape, routers }: { shape: "ring" | "grid"; routers: number } = args(
    "gen ring --routers 3",
  ) as unknown as ArgsOf<typeof tool, "gen">;
  const { hosts, file, via }: { hosts: string; file?: string; via: "local" | "ssh" } = args(
    "up kn1",
  ) as unknown as ArgsOf<typeof tool, "up">;
  // @ts-expect-error: it may be absent
  const absent: string = typed.name;
  // @ts-expect-error: there is no such flag
  const missing = typed.nothing;
  expect([count, every, fold, only, log, name, retries, absent, missing]).toEqual([
    3,
    1,
    false,
    ["a"],
    "text",
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  expect([shape, routers, hosts, file, via]).toEqual(["ring", 3, "kn1", undefined, "ssh"]);
});
