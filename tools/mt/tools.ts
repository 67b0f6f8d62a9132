/** The tools that `mt` carries; loading one runs it. */
export const TOOLS: Readonly<Record<string, () => Promise<unknown>>> = {
  "mt-boot": () => import("../mt-boot/main.ts"),
  "mt-image": () => import("../mt-image/main.ts"),
  "mt-ksm": () => import("../mt-ksm/main.ts"),
  "mt-push": () => import("../mt-push/main.ts"),
  "mt-route": () => import("../mt-route/main.ts"),
  "mt-status": () => import("../mt-status/main.ts"),
  "mt-topo": () => import("../mt-topo/main.ts"),
  "mt-tree": () => import("../mt-tree/main.ts"),
  "mt-vnet": () => import("../mt-vnet/main.ts"),
};
