/**
 * What an agent's own environment tells the runtime that it is compiled with; its commands do not see it (cleanEnv).
 * No timer for the collector: an idle agent would wake ten times a second. No optimizing compiler: an agent does a
 * little of everything, and with hundreds of them on a machine their compilers were an eighth of what a command cost.
 */
export const AGENT_ENVIRONMENT = { BUN_GC_TIMER_DISABLE: "1", BUN_JSC_useDFGJIT: "0" } as const;
