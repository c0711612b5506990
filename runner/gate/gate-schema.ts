import { z } from 'zod';

/** The `gate` of report.json: what every other output of the gate is made of. */

const counts = z.object({ passes: z.int(), runs: z.int() });
const evidence = z.object({ label: z.string(), path: z.string() });

const advice = z.object({ source: z.string(), text: z.string() });

const patch = z.object({
  /** From 1. */
  index: z.int(),
  subject: z.string(),
  state: z.enum(['built', 'not-built', 'not-applied', 'not-run']),
  /** The patch (0: the base) whose kernel this one's equals; its verdicts count for both. */
  sameAs: z.int().nullable(),
  message: z.string().nullable(),
  evidence: z.array(evidence),
  /** Compiler warnings of touched files that the parent does not have. */
  warnings: z.array(z.string()),
  /** Symbols of the parent's configuration that this patch took away. */
  lostSymbols: z.array(z.string()),
  /** checkpatch.pl and the series' own hygiene; never a reason to fail. */
  advice: z.array(advice),
});

const verdict = z.object({
  /** The test's id, or with `[fingerprint]` a complaint of the kernel during it. */
  id: z.string(),
  test: z.string(),
  kind: z.enum([
    'regressed',
    'fixed',
    'pre-existing',
    'known-failure',
    'flaky',
    'infra',
    'skipped',
    'not-run',
    'passed',
  ]),
  /** The patches that can have done it; one, unless some between did not build. */
  patch: z.object({ first: z.int(), last: z.int() }).nullable(),
  /** The patch that takes a regression back. */
  mendedBy: z.int().nullable(),
  base: counts,
  patched: counts,
  /** That the blame is false. */
  odds: z.number().nullable(),
  confirmed: z.boolean(),
  fault: z.object({ kind: z.string(), title: z.string(), fingerprint: z.string() }).nullable(),
  message: z.string().nullable(),
  evidence: z.array(evidence),
  /** By patch, 0 for the base; patches with the same kernel are counted once. */
  runs: z.array(z.object({ patch: z.int(), passes: z.int(), runs: z.int() })),
});

const step = z.object({
  patch: z.int(),
  wanted: z.union([z.literal('all'), z.array(z.string())]),
  times: z.int(),
  why: z.string(),
  cached: z.boolean(),
  durationMs: z.number(),
});

/** An earlier version of the series, which stands where otherwise the base does. */
const against = z.object({
  name: z.string(),
  /** What it was called by on the command line. */
  spec: z.string(),
  ref: z.string().nullable(),
  /** Patches of the earlier version and of this one. */
  count: z.int(),
  newCount: z.int(),
  /** Numbers of this version's patches. */
  same: z.array(z.int()),
  changed: z.array(z.int()),
  added: z.array(z.int()),
  /** Subjects of the earlier version's. */
  dropped: z.array(z.string()),
});

export const gateSchema = z.object({
  series: z.object({ name: z.string(), title: z.string(), count: z.int() }),
  /** Then the one entry of `patches` is the whole series. */
  against: against.nullable().default(null),
  /** What the patches were put on, for people. */
  base: z.string(),
  /** Commit of the tree that they were put on; `null`: the source as it was. */
  ref: z.string().nullable(),
  patches: z.array(patch),
  verdicts: z.array(verdict),
  steps: z.array(step),
  /** The time that was given was over before everything was known. */
  outOfTime: z.boolean(),
  notes: z.array(z.string()),
});

export type GateResult = z.infer<typeof gateSchema>;
export type GatePatch = GateResult['patches'][number];
export type GateVerdict = GateResult['verdicts'][number];
export type GateStep = GateResult['steps'][number];
