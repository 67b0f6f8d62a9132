/** mt-tree: its commands, flags, kinds and examples. */
import type { ToolSpec } from "../../shared/cli/spec.ts";
import { WAY_NAMES } from "./via/ways.ts";

export const spec = {
  name: "mt-tree",
  summary: "join hosts into a tree and run things on them",
  description: `Every host runs one agent. Agents speak TLS on one port, with a certificate authority made for this cluster,
and form a tree under the head, which runs here. A command goes down the tree and its output comes back up. An
agent whose parent dies joins the nearest ancestor that lives, and its commands go on; a host that does not
come back is reported as lost, with every record that it had. MT_RUN holds the tree's keys and socket.`,
  commands: {
    up: {
      summary: "make (or mend) the tree, and print its hosts",
      args: {
        hosts: {
          type: "positional",
          required: false,
          description:
            "node set, as rack[1-4]n[01-32] or @gpu (default: the hosts of the tree that is here, or all nodes of the Slurm job)",
        },
        via: {
          type: "enum",
          options: WAY_NAMES,
          default: "local",
          description:
            "how hosts are reached: network namespaces of this machine, machines by ssh, nodes of a Slurm job",
        },
        ssh: {
          type: "string",
          valueHint: "WORDS",
          description: "the ssh command, as: ssh -F FILE (default: ssh)",
        },
        head: {
          type: "string",
          valueHint: "ADDR",
          description:
            "with ssh: IPv4 address at which hosts reach this machine (default: the source address of ssh)",
        },
        fanout: {
          type: "number",
          min: 1,
          max: 1024,
          valueHint: "N",
          default: 16,
          description: "children a node",
        },
        port: {
          type: "number",
          min: 1,
          max: 65_535,
          valueHint: "PORT",
          default: 7420,
          description: "TCP port of the agents",
        },
        "no-port": {
          type: "boolean",
          description:
            "with ssh: every link runs inside ssh, the tree is one level deep, and no port is opened",
        },
        mtu: {
          type: "list",
          valueHint: "N|SET=N",
          description:
            "with local: MTU of the links between hosts (default: 1500); may be given several times",
        },
        silence: {
          type: "number",
          min: 1,
          valueHint: "S",
          default: 2,
          description: "seconds of silence after which a node counts as lost",
        },
        timeout: {
          type: "number",
          min: 1,
          valueHint: "S",
          default: 30,
          description: "seconds that a host may take to join",
        },
        upgrade: {
          type: "boolean",
          description: "with ssh: replace agents of another release by this one",
        },
      },
      stdin: "none",
      reads: [],
      writes: ["host"],
    },
    map: {
      summary:
        "lift a filter: run it on every host that the stream names, on that host's share of the stream",
      args: {
        all: { type: "boolean", description: "run it on every host of the tree" },
        buffer: {
          type: "number",
          min: 1,
          valueHint: "MIB",
          default: 4,
          description: "how much may wait for one slow host before the stream is held back",
        },
        reduce: {
          type: "string",
          valueHint: "CMD",
          description:
            "a shell command that merges several outputs into one, run at every inner node and here",
        },
        timeout: {
          type: "number",
          min: 1,
          valueHint: "S",
          default: 3600,
          description: "seconds for the whole",
        },
      },
      rest: { name: "CMD [ARG...]", required: true, description: "the filter, as mt-boot up" },
      stdin: "records",
      reads: ["experiment", "host", "image", "segment", "router", "guest", "end"],
      writes: ["router", "guest"],
    },
    exec: {
      summary: "run a command on hosts; one exit record a host",
      args: {
        hosts: { type: "positional", description: "node set, as kn[1-4,7], @gpu!kn3 or @all" },
        stdin: { type: "boolean", description: "send stdin to every host, down the tree" },
        human: {
          type: "boolean",
          description: "print output with the host's name in front instead of records",
        },
        fold: {
          type: "boolean",
          description: "print equal outputs once, under the node set of their hosts, instead of records",
        },
        env: {
          type: "list",
          valueHint: "K=V",
          description: "set a variable for the command; may be given several times",
        },
        cwd: { type: "string", valueHint: "DIR", description: "run it in this directory (default: /)" },
        timeout: {
          type: "number",
          min: 1,
          valueHint: "S",
          default: 600,
          description: "seconds for the whole",
        },
      },
      rest: { name: "CMD [ARG...]", required: true, description: "the command; it is not run by a shell" },
      stdin: "optional",
      reads: [],
      writes: ["exit"],
    },
    nodes: {
      summary: "print the hosts of a node set: folded, one a line, or their number",
      args: {
        set: { type: "positional", description: "node set; - reads it from stdin" },
        fold: {
          type: "boolean",
          excludes: ["expand", "count"],
          description: "print it in as few names as it takes (the default)",
        },
        expand: { type: "boolean", excludes: ["count"], description: "print a host a line, each once" },
        count: { type: "boolean", description: "print how many hosts it has" },
      },
      stdin: "none",
      reads: [],
      writes: [],
    },
    status: {
      summary: "the hosts of the tree, their parents, and which are missing since when",
      args: {
        records: { type: "boolean", description: "host records also where stdout is a terminal" },
        human: { type: "boolean", description: "a table also where stdout is no terminal" },
      },
      stdin: "none",
      reads: [],
      writes: ["host"],
    },
    down: {
      summary: "end the agents; hosts of --via local are removed",
      args: {
        purge: {
          type: "boolean",
          description: "also remove the binaries that --via ssh copied to hosts",
        },
      },
      stdin: "none",
      reads: [],
      writes: [],
    },
    enrol: {
      summary: "run as a node of the tree that makes its own key; started by srun",
      args: {},
      stdin: "none",
      reads: [],
      writes: [],
      hidden: true,
    },
    "hand-on": {
      summary: "serve this binary to the hosts that stdin names",
      args: {
        addr: { type: "string", required: true, valueHint: "ADDR", description: "where it listens" },
      },
      stdin: "optional",
      reads: [],
      writes: [],
      hidden: true,
    },
    agent: {
      summary: "run as a node of the tree",
      args: {
        config: {
          type: "string",
          required: true,
          valueHint: "FILE",
          description: "file that mt-tree up wrote; - is stdin",
        },
        stdio: { type: "boolean", description: "the link to its parent is stdin and stdout" },
      },
      stdin: "none",
      reads: [],
      writes: [],
      hidden: true,
    },
  },
  examples: [
    { does: "four hosts on this machine", command: "mt-tree up 'kn[1-4]' --via local >hosts.jsonl" },
    {
      does: "the same, with jumbo frames between two of them only",
      command: "mt-tree up 'kn[1-4]' --via local --mtu 'kn[1-2]=9000'",
    },
    { does: "sixteen machines that ssh reaches", command: "mt-tree up 'node[01-16]' --via ssh >hosts.jsonl" },
    { does: "a command on all of them", command: "mt-tree exec 'kn[1-4]' -- uname -r" },
    {
      does: "equal answers once, with the hosts that gave them",
      command: "mt-tree exec @all --fold -- uname -r",
    },
    {
      does: "how many hosts a node set has",
      command: "mt-tree nodes 'rack[1-4]n[01-32]!rack2n[05-08]' --count",
    },
    { does: "a filter on every host of a plan", command: "mt-tree map -- mt-vnet up <abilene.plan" },
    { does: "the hosts and their states", command: "mt-tree status" },
    { does: "end the tree", command: "mt-tree down" },
  ],
  exits: {
    1: "a host failed or was lost, or its command did not exit 0; its records are in the stream",
    65: "the stream was cut off, or a line could not be read",
    69: "no tree is up, or its head cannot be reached (map: every record comes out failed); this is not inside a Slurm allocation",
    75: "another tree has a host of this name, or the port",
    77: "not root (--via local)",
  },
  seeAlso: ["mt-push(1)", "mt-launch(1)", "megatux(7)"],
} as const satisfies ToolSpec;
