/** The time of `make demo`, and the memory of a guest once it is up and merged (TCG). */
import { benchLab, report } from "./measure.ts";

const GUESTS = 32;
const root = new URL("../../", import.meta.url).pathname;
const lab = benchLab();

try {
  // As `make demo` runs it, with the machine's own directories: so the image is built already.
  const demo = lab.sh(`unset MT_RUN MT_STATE; ${root}examples/demo 2>/dev/null`, 420);
  report("make demo, installed and built: 44 guests, 4 hosts", JSON.parse(demo).seconds, "s", {
    atMost: 240,
  });

  lab.sh("mt-image build tux --cache /var/lib/megatux/cache/packages", 120);
  lab.sh("mt-topo gen ring --routers 2 --id bench >bench.jsonl", 10);
  const up = performance.now();
  lab.sh(`mt-launch up bench.jsonl --hosts mb1 --guests ${GUESTS}`);
  report(
    `${GUESTS} guests on one host, their template made meanwhile, mt-launch up to verdict`,
    (performance.now() - up) / 1000,
    "s",
  );
  const told = JSON.parse(lab.sh("mt-tree exec mb1 -- mt-ksm report --experiment bench", 60)).stdout;
  const sample = JSON.parse(told.split("\n")[0]);
  report("a guest of 128 MiB: resident, VMM included", sample.rss_mib / GUESTS, "MiB");
  report("a guest of 128 MiB: proportional, VMM included, merged", sample.pss_mib / GUESTS, "MiB");
} finally {
  lab.remove();
}
