import { describe, expect, test } from "vitest";
import { commandHelp, toolHelp } from "../../../shared/cli/help.ts";
import { didYouMean, numberArg, parse } from "../../../shared/cli/parse.ts";
import type { ToolSpec } from "../../../shared/cli/spec.ts";

const none = { stdin: "none", reads: [], writes: [] } as const;
const tool: ToolSpec = {
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
      args: { env: { type: "string", valueHint: "K=V", description: "a variable" } },
      repeatable: ["env"],
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
        shape: { type: "positional", valueHint: "ring|grid", description: "how" },
        routers: { type: "string", valueHint: "N", required: true, description: "how many" },
      },
    },
    serve: { ...none, summary: "inside", args: {}, hidden: true },
  },
};
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
    ["up -- kn1", ["kn1", undefined, undefined, []]],
    ["up --paused kn1 -- -f", ["kn1", "-f", true, []]],
    ["up -- --paused --help", ["--paused", "--help", undefined, []]],
    ["up kn1 --", ["kn1", undefined, undefined, []]],
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

test("a repeatable flag has all its values, in order; its twin is one", () => {
  const lists = (line: string, env = {}) => {
    const request = asked(line, env);
    if (request.ask !== "run") throw new Error(request.ask);
    return [request.parsed.lists, request.parsed.args.env];
  };
  expect(lists("set --env A=1 --env=B=x,y --env A=2")).toEqual([{ env: ["A=1", "B=x,y", "A=2"] }, "A=2"]);
  expect(lists("set")).toEqual([{ env: [] }, undefined]);
  expect(lists("set", { MT_ENV: "C=3" })).toEqual([{ env: ["C=3"] }, "C=3"]);
  expect(lists("set --env A=1", { MT_ENV: "C=3" })).toEqual([{ env: ["A=1"] }, "A=1"]);
  expect(lists("up kn1")).toEqual([{}, undefined]);
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
    ["up --port 7 kn1", { port: "7", "no-port": undefined }],
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
    expect(args("up kn1", { MT_NO_PORT: "0" })["no-port"]).toBeUndefined();
    expect(args("up kn1", { MT_PAUSED: "0", MT_FANOUT: "" })).toMatchObject({ fanout: "16" });
    expect(args("up kn1", { MT_PAUSED: "0" }).paused).not.toBe(true);
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
    expect(args("gen ring", { MT_ROUTERS: "3" })).toMatchObject({ shape: "ring", routers: "3" });
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
  test.each<[string, Parameters<typeof numberArg>[2], number]>([
    ["4", {}, 4],
    ["0", {}, 0],
    ["0.5", { integer: false }, 0.5],
    ["-3", { min: -5 }, -3],
  ])("%s", (text, range, n) => expect(numberArg({ n: text }, "n", range)._unsafeUnwrap()).toBe(n));

  test.each<[string | undefined, Parameters<typeof numberArg>[2]]>([
    ["", {}],
    ["x", {}],
    ["4k", {}],
    ["0x10", {}],
    ["1e3", {}],
    ["1.5", {}],
    ["-1", {}],
    ["11", { max: 10 }],
    ["NaN", {}],
    ["Infinity", {}],
    [undefined, {}],
  ])("%j is none", (text, range) => {
    expect(numberArg({ n: text }, "n", range)._unsafeUnwrapErr()).toMatchObject({
      code: "usage",
      message: /^Cannot use --n /,
    });
  });
});
