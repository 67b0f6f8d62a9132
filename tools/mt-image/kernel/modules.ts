/**
 * Chooses the kernel modules of a guest and the order to load them in. Debian's kernel package has
 * no modules.dep (depmod runs on installation), so the dependencies come from the modules.
 * Reads: module files in memory.  Writes: nothing.
 */
import { basename } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError } from "../errors.ts";
import type { DebFile } from "../packages/deb.ts";
import { moduleDepends } from "../packages/elf.ts";

/** A module with its file. */
export interface KernelModule {
  name: string;
  path: string;
  data: Buffer;
  depends: string[];
}

/** The named modules and all they depend on, in the order of loading: dependencies first. */
export function chooseModules(names: string[], files: DebFile[]): Result<KernelModule[], MtError> {
  const by_name = new Map(files.map((file) => [moduleName(file.path), file]));
  const chosen = new Map<string, KernelModule>();
  const choose = (name: string): string | undefined => {
    if (chosen.has(name)) return undefined;
    const file = by_name.get(name);
    if (file?.data === undefined) return name;
    const depends = moduleDepends(file.data).map(canonicalName).sort();
    for (const depend of depends) {
      const missing = choose(depend);
      if (missing !== undefined) return missing;
    }
    chosen.set(name, { name, path: file.path, data: file.data, depends });
    return undefined;
  };
  for (const name of names) {
    const missing = choose(name);
    if (missing !== undefined) {
      return err(
        imageError("unavailable", `find kernel module ${missing}`, "the kernel package does not have it"),
      );
    }
  }
  return ok([...chosen.values()]);
}

/** modules.dep for modprobe: "path: path of each dependency, the first to be loaded last". */
export function modulesDep(modules: KernelModule[], modules_dir: string): string {
  const by_name = new Map(modules.map((module) => [module.name, module]));
  const relative = (module: KernelModule) => module.path.slice(modules_dir.length + 1);
  const all = (module: KernelModule): KernelModule[] =>
    module.depends.flatMap((name) => [...all(by_name.get(name)!), by_name.get(name)!]);
  return modules
    .map(
      (module) =>
        `${relative(module)}:${[...new Set(all(module))]
          .reverse()
          .map((depend) => ` ${relative(depend)}`)
          .join("")}\n`,
    )
    .join("");
}

/** In module names - and _ are the same. */
function canonicalName(name: string): string {
  return name.replaceAll("-", "_");
}

function moduleName(path: string): string {
  return canonicalName(basename(path).replace(/\.ko$/, ""));
}
