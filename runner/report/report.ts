import { z } from 'zod';
import { gateSchema } from '#runner/gate/gate-schema.ts';

/** `<out>/report.json`: the only primary result of a run (DESIGN.md, section 2). Every other format is made of it. */

const evidence = z.object({ label: z.string(), path: z.string() });

const outcome = z.enum(['passed', 'failed', 'skipped', 'crashed', 'timed-out', 'not-run', 'known-failure']);

const kernel = z.object({
  id: z.string(),
  profile: z.string(),
  /** As `uname -r` prints it. */
  release: z.string(),
  role: z.enum(['base', 'patched']),
  series: z.string().nullable(),
  patch: z.object({ index: z.int(), subject: z.string() }).nullable(),
  imageSha256: z.string(),
  /** `null` when no machine was started. */
  accelerator: z.enum(['kvm', 'tcg']).nullable(),
});

const testResult = z.object({
  /** `area/file: title` */
  id: z.string(),
  area: z.string(),
  title: z.string(),
  /** `id` of one of `kernels`; `null` when there was none. */
  kernel: z.string().nullable(),
  outcome,
  durationMs: z.number(),
  message: z.string().nullable(),
  evidence: z.array(evidence),
});

const fault = z.object({
  kernel: z.string().nullable(),
  kind: z.string(),
  title: z.string(),
  fingerprint: z.string(),
  /** Id of the test during which it came. */
  test: z.string().nullable(),
  evidence: z.array(evidence),
});

const milliseconds = z.number().nullable();
/** `null`: the stage did not run. */
const timings = z.object({
  sourceMs: milliseconds,
  applyMs: milliseconds,
  configMs: milliseconds,
  buildMs: milliseconds,
  imageMs: milliseconds,
  bootMs: milliseconds,
  deployMs: milliseconds,
  suitesMs: milliseconds,
  totalMs: z.number(),
});

const failure = z.object({
  code: z.string(),
  blame: z.enum(['user', 'series', 'kernel', 'test', 'infra', 'interrupted']),
  message: z.string(),
  hint: z.string().nullable(),
  evidence: z.array(evidence),
  /** The lines of the evidence that matter most. */
  excerpt: z.array(z.string()).default([]),
});

const span = z.object({
  kind: z.enum(['stage', 'boot', 'restore', 'machine', 'file', 'lease', 'test']),
  name: z.string(),
  machine: z.string().nullable(),
  startMs: z.number(),
  durationMs: z.number(),
});

export const reportSchema = z.object({
  schema: z.literal(1),
  verdict: z.enum(['pass', 'fail', 'inconclusive']),
  kernels: z.array(kernel),
  tests: z.array(testResult),
  faults: z.array(fault),
  timings,
  counts: z.object({
    passed: z.int(),
    failed: z.int(),
    skipped: z.int(),
    knownFailures: z.int(),
  }),
  gate: gateSchema.nullable(),
  /** Why the run ended before its end; `null` when it did not. An addition to the contract, as all below. */
  failure: failure.nullable(),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
  profile: z.string(),
  /** The command that makes the same kernel and machine again, ready for `--suite` and `--match`. */
  rerun: z.string(),
  notes: z.array(z.string()),
  /**
   * Where the run's time went, in milliseconds from its beginning: stages, boots and restores, machines, files,
   * leases (from the wish for a machine until that is cleaned), tests (from the machine to the outcome).
   */
  timeline: z.array(span).optional(),
});

export type Report = z.infer<typeof reportSchema>;
export type ReportTest = Report['tests'][number];
export type ReportFault = Report['faults'][number];
export type ReportFailure = NonNullable<Report['failure']>;

/** Outcomes that count as failed: everything that is not good news and not a skip. */
export function isFailure(test: Pick<ReportTest, 'outcome'>): boolean {
  return test.outcome === 'failed' || test.outcome === 'crashed' || test.outcome === 'timed-out';
}

/** A test that did not run is counted as skipped, and makes the verdict inconclusive. */
export function countTests(tests: readonly ReportTest[]): Report['counts'] {
  const count = (wanted: (test: ReportTest) => boolean): number => tests.filter(wanted).length;
  return {
    passed: count((test) => test.outcome === 'passed'),
    failed: count(isFailure),
    skipped: count((test) => test.outcome === 'skipped' || test.outcome === 'not-run'),
    knownFailures: count((test) => test.outcome === 'known-failure'),
  };
}
