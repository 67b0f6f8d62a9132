/**
 * What an agent's own environment tells the runtime that it is compiled with; its commands do not see it (cleanEnv).
 * No timer for the collector: an idle agent would wake ten times a second. No compiler for what it runs: an agent does a
 * little of everything, hundreds of them share a machine, and interpreted they take a third less memory and a fifth
 * less time for a command; streams are moved by what is compiled anyway.
 */
export const AGENT_ENVIRONMENT = { BUN_GC_TIMER_DISABLE: "1", BUN_JSC_useJIT: "0" } as const;
