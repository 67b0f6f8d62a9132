/**
 * `make demo` for ordinary users: examples/demo run by `nobody` with a stock Debian's
 * /dev/net/tun, from a copy that this user can read: the same network, nothing left, and errors that name what is missing.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, records, until } from "../lab.ts";

const repository = resolve(import.meta.dirname, "../../..");
const AS_USER = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
const PACKAGES = "/var/lib/megatux/cache/packages";

/** In a mount namespace of its own: the device as Debian has it (or as `$1` says), then the user. */
const USER = `
mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m "$1" /dev/net/tun c 10 200 && shift || exit 99
exec env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$HOME" TMPDIR="$HOME" \\
  DEMO_GUESTS=3 DEMO_HOSTS=2 DEMO_PREFIX=tl setpriv ${AS_USER.join(" ")} "$@"
`;

function whySkipped(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root, to become another user";
  const tried = spawnSync("setpriv", [...AS_USER, "unshare", "--user", "--map-root-user", "true"], {
    encoding: "utf8",
  });
  return tried.status === 0 ? undefined : `this kernel forbids user namespaces: ${tried.stderr.trim()}`;
}
const skipped = whySkipped();
if (skipped) process.stderr.write(`test/e2e/laptop: skipped, ${skipped}\n`);

describe.skipIf(skipped !== undefined)("a laptop without root", () => {
  let lab: Lab;
  let clone: string;

  beforeAll(() => {
    lab = new Lab();
    // Fetches package lists and packages where this machine has none: only root can do the former.
    lab.image();
    chmodSync(lab.dir, 0o755);
    clone = join(lab.dir, "clone");
    const home = join(lab.dir, "home");
    lab.env.HOME = home;
    writeFileSync(join(lab.dir, "user"), USER);
    const dist = join(clone, "dist");
    mkdirSync(dist, { recursive: true });
    // All tools in one: the others are links to it, as `make install` has them.
    for (const file of ["mt", "mt-launch"]) cpSync(join(repository, "dist", file), join(dist, file));
    for (const tool of readdirSync(join(repository, "tools")).filter((name) => /^mt-/.test(name)))
      if (!existsSync(join(dist, tool))) symlinkSync("mt", join(dist, tool));
    for (const part of ["examples", ".ci"])
      cpSync(join(repository, part), join(clone, part), { recursive: true });
    cpSync(PACKAGES, join(home, ".local/state/megatux/cache/packages"), { recursive: true });
    expect(lab.sh("chown -R 65534:65534 clone home").code).toBe(0);
  });
  afterAll(() => lab?.remove());

  const asUser = (tunMode: string, words: string[]) =>
    lab.start("/usr/bin/unshare", ["--mount", "bash", join(lab.dir, "user"), tunMode, ...words]);
  const demo = (tunMode = "666") => asUser(tunMode, [join(clone, "examples/demo")]);

  /** Command lines of the user's processes that know this lab. */
  const processes = () =>
    readdirSync("/proc").flatMap((pid) => {
      try {
        if (!/^\d+$/.test(pid) || !/^Uid:\s+65534/m.test(readFileSync(`/proc/${pid}/status`, "utf8")))
          return [];
        const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        return environment.includes(lab.dir) ? [words] : [];
      } catch {
        return [];
      }
    });

  test("an ordinary user gets the same network, and nothing is left", async () => {
    const done = await demo().done;
    expect(done.stderr).not.toMatch(/Cannot/);
    expect(done.code).toBe(0);
    expect(records(done.stdout)).toMatchObject([
      {
        ...{ kind: "verdict", id: "abilene", hosts: 2, routers: 11, converged: 11, guests: 3, ready: 3 },
        ...{ pairs_tried: 6, pairs_reached: 6, left_behind: 0 },
      },
    ]);
    expect(done.stderr.match(/memory is not merged/g)).toHaveLength(1);
    expect(processes()).toEqual([]);
  });

  test("nothing survives its being killed; a second one at the same time is told to wait", async () => {
    const running = demo();
    await until("a guest", () => processes().some((words) => /^\S*qemu-system/.test(words)));
    const second = await demo().done;
    expect(second.code).toBe(75);
    expect(second.stderr).toMatch(/another one is at it since \d{4}-/);
    running.child.kill("SIGKILL");
    await running.done;
    await until("the end of all of it", () => processes().length === 0, 10);
  });

  test("mt-ksm passes the plan on where merging is not ours to set, says so once, and down forgets it", async () => {
    const plan = [
      { kind: "experiment", id: "x", version: 1, seed: 1 },
      { kind: "end", id: "x", counts: { host: 0 } },
    ];
    const each = (command: string) =>
      `for host in a b; do "$1"/mt-ksm ${command} --host $host <"$0"/plan || exit; done`;
    writeFileSync(join(lab.dir, "plan"), plan.map((record) => `${JSON.stringify(record)}\n`).join(""));
    const script = `${each("settle")}; ${each("down --only")}; [ ! -e /run/megatux-leases ]`;
    const done = await asUser("666", [
      join(clone, "examples/rootless"),
      ...["bash", "-c", script, lab.dir, join(clone, "dist")],
    ]).done;
    expect(done.code).toBe(0);
    expect(done.stderr).toMatch(
      /^mt-ksm: memory is not merged: only the machine's own root may set [^\n]*\n$/,
    );
    const off = { kind: "sample", id: "ksm", merging: "off", why: expect.stringMatching(/may set/) };
    expect(records(done.stdout)).toMatchObject(
      ["a", "b"].flatMap((host) => [plan[0]!, { ...off, host }, plan[1]!]),
    );
  });

  test("what the machine's root sets meanwhile is not counted as left behind here", async () => {
    const done = await asUser("666", [
      join(clone, "examples/rootless"),
      join(clone, "dist/mt-status"),
      "snapshot",
    ]).done;
    expect(done.code).toBe(0);
    const settings = Object.keys(records(done.stdout)[0]!.settings as object);
    expect(settings).toContain("/proc/sys/net/ipv4/ip_forward");
    expect(settings.filter((path) => path.startsWith("/sys/"))).toEqual([]);
  });

  test("what is missing is named, with the command that mends it", async () => {
    const closed = await demo("600").done;
    expect(closed.code).toBe(77);
    expect(closed.stdout).toBe("");
    expect(closed.stderr).toMatch(/Cannot make taps: .*\n {2}hint: as root: chmod 666 \/dev\/net\/tun/);
    const forbidden = lab.sh(
      `unshare --user --map-root-user bash -c 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" true' ${clone}/examples/rootless`,
    );
    expect(forbidden.code).toBe(77);
    expect(forbidden.stderr).toMatch(/hint: as root: sysctl -w user.max_user_namespaces=/);
  });
});
