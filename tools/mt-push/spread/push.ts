/**
 * mt-push: for each image of the plan, asks its hosts which files they lack, and sends each file once down the
 * tree to those. A copy record says how the image stands on each host.
 */
import { existsSync } from "node:fs";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { type Progress, startProgress } from "../../../shared/cli/progress.ts";
import { type MtError, MtFailure, mtError } from "../../../shared/errors.ts";
import { storePath, treeFile } from "../../../shared/host/names.ts";
import { storeHas, storeSize, storeVerify } from "../../../shared/host/store.ts";
import { noTree } from "../../../shared/no-tree.ts";
import type { Copy, Image } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import type { spec } from "../spec.ts";
import { type Answer, hostsOfTree, onHosts } from "./cluster.ts";

export const push: Run<typeof spec, "push"> = async (invocation) => {
  const { timeout: timeout_s, retries } = invocation.args;
  const progress = startProgress("copies", invocation.args.progress);
  let tree: ReturnType<typeof hostsOfTree> | undefined;
  try {
    return await runFilterCommand(invocation, {
      changes: true,
      reads: {
        image: async (image, context) => {
          tree ??= hostsOfTree(context.signal);
          const hosts = await tree;
          if (hosts.isOk())
            return new Pushing(image, image.hosts ?? hosts.value, {
              timeout_s,
              retries,
              progress,
              context,
            }).run();
          // Only where no tree was made is this host all there is; one that does not answer is an error.
          if (hosts.error.code === "unavailable" && !existsSync(treeFile())) return here(image, context);
          for (const host of image.hosts ?? []) context.emit(copyRecord(image, host, 0, hosts.error));
          throw new MtFailure(hosts.error);
        },
      },
    });
  } finally {
    progress.stop();
  }
};

const digestsOf = (image: Image) => [
  ...new Set(Object.values(image.files ?? {}).filter((d): d is string => typeof d === "string")),
];

const notBuilt = (image: Image) =>
  mtError(
    "data",
    `Cannot push image ${image.id}: the plan does not say which files it has`,
    `mt-image build ${image.id}, then write the plan again`,
  );
const notHere = (image: Image, digest: string) =>
  mtError(
    "data",
    `Cannot push image ${image.id}: ${digest} is not in the store here, or damaged`,
    `mt-image build ${image.id}, then write the plan again`,
  );

function copyRecord(image: Image, host: string, bytes: number, error?: MtError): Copy {
  const record = { kind: "copy" as const, id: image.id, host };
  return error
    ? { ...record, state: "failed", error: { by: "mt-push", ...error } }
    : { ...record, state: "present", bytes };
}

/** No tree is up: checks this host's own store; no other host is reached. */
function here(image: Image, context: FilterContext): void {
  for (const host of image.hosts ?? [])
    if (host !== context.host) context.emit(copyRecord(image, host, 0, noTree(`host ${host}`)));
  if (image.hosts && !image.hosts.includes(context.host)) return;
  const digests = digestsOf(image);
  const lacking = digests.find((d) => !storeHas(d));
  const error = digests.length === 0 ? notBuilt(image) : lacking ? notHere(image, lacking) : undefined;
  context.emit(copyRecord(image, context.host, 0, error));
}

interface Options {
  timeout_s: number;
  retries: number;
  progress: Progress;
  context: FilterContext;
}

/** Brings one image to its hosts. */
class Pushing {
  readonly #image: Image;
  readonly #options: Options;
  readonly #bytes = new Map<string, number>();
  /** Errors by host and file: a file that arrives at last clears its own error only. */
  readonly #errors = new Map<string, Map<string, MtError>>();

  constructor(image: Image, hosts: string[], options: Options) {
    this.#image = image;
    this.#options = options;
    for (const host of hosts) this.#bytes.set(host, 0);
  }

  async run(): Promise<void> {
    const { progress, context } = this.#options;
    const hosts = [...this.#bytes.keys()];
    progress.grow(hosts.length);
    const digests = digestsOf(this.#image);
    if (digests.length === 0) for (const host of hosts) this.#fail(host, "", notBuilt(this.#image));
    else await this.#bring(digests, hosts);
    for (const host of hosts) {
      const error = [...(this.#errors.get(host)?.values() ?? [])][0];
      context.emit(copyRecord(this.#image, host, this.#bytes.get(host)!, error));
      progress.step(1, error ? 1 : 0);
    }
  }

  async #bring(digests: string[], hosts: string[]): Promise<void> {
    const { timeout_s, signal } = { ...this.#options, signal: this.#options.context.signal };
    const asked = await onHosts(hosts, ["mt-push", "has", "--", ...digests], { timeout_s: 60, signal });
    const lacking = new Map<string, string[]>();
    for (const [host, answer] of asked) {
      if (answer.isErr()) this.#fail(host, "", answer.error);
      else
        for (const digest of answer.value.split("\n").filter(Boolean))
          lacking.set(digest, [...(lacking.get(digest) ?? []), host]);
    }
    for (const [digest, needy] of lacking) {
      const file = storePath(digest);
      if (file.isErr()) {
        for (const host of needy) this.#fail(host, digest, file.error);
        continue;
      }
      if (!(await storeVerify(digest))) {
        for (const host of needy) this.#fail(host, digest, notHere(this.#image, digest));
        continue;
      }
      const size = storeSize(digest);
      let left = needy;
      for (let attempt = 0; attempt <= this.#options.retries && left.length > 0 && !signal.aborted; attempt++)
        left = this.#took(
          digest,
          await onHosts(left, ["mt-push", "receive", digest], { file: file.value, timeout_s, signal }),
          size,
        );
    }
  }

  #fail(host: string, digest: string, error: MtError): void {
    const errors = this.#errors.get(host);
    if (errors) errors.set(digest, error);
    else this.#errors.set(host, new Map([[digest, error]]));
  }

  /** Notes which hosts took the file; returns those to try again. */
  #took(digest: string, answers: Map<string, Answer>, size: number): string[] {
    const again: string[] = [];
    for (const [host, answer] of answers) {
      if (answer.isOk()) {
        this.#errors.get(host)?.delete(digest);
        this.#bytes.set(host, this.#bytes.get(host)! + size);
      } else {
        this.#fail(host, digest, answer.error);
        // A host that is gone is not tried again.
        if (answer.error.code !== "lost") again.push(host);
      }
    }
    return again;
  }
}
