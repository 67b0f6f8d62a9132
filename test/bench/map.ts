/** What mt-tree does with a warm tree of 16 local hosts: records through map, a command on all, a file to all. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchLab, median, report, timed } from "./measure.ts";

const HOSTS = 16;
const RECORDS = 400_000;
const FILE_MIB = 64;
const { dir, sh, remove } = benchLab();

try {
  sh(`mt-tree up 'mb[1-${HOSTS}]' >hosts`);
  const lines: string[] = [];
  for (let i = 0; i < RECORDS; i++)
    lines.push(
      `{"kind":"guest","id":"g${i}","host":"mb${(i % HOSTS) + 1}","index":${i},"image":"tux","cores":1,"mem_mib":128,"interfaces":[{"segment":"lan-chi","ip":"10.1.0.10/16"}]}`,
    );
  lines.push('{"kind":"end","id":"bench","counts":{}}\n');
  writeFileSync(join(dir, "records"), lines.join("\n"));
  writeFileSync(join(dir, "file"), Buffer.alloc(FILE_MIB * 2 ** 20, 7));
  const exec = timed(5, () => sh(`mt-tree exec 'mb[1-${HOSTS}]' -- hostname >/dev/null`));
  report(`mt-tree exec hostname, ${HOSTS} hosts, whole command`, median(exec) * 1000, "ms");
  const map = timed(5, () => sh("mt-tree map -- cat <records >back"));
  if (sh("sort records | md5sum") !== sh("sort back | md5sum"))
    throw new Error("map lost or changed a record");
  report(`mt-tree map -- cat, ${HOSTS} hosts, 150-byte records`, RECORDS / median(map), "records/s");
  const cat = timed(5, () => sh("cat <records | cat >back"));
  report("– for scale: cat | cat", RECORDS / median(cat), "records/s");
  const push = timed(3, () => sh(`mt-tree exec 'mb[1-${HOSTS}]' --stdin -- sha256sum <file >/dev/null`));
  report(`${FILE_MIB} MiB to ${HOSTS} hosts down the tree, digested there`, median(push), "s");
} finally {
  remove();
}
