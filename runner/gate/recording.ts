import { z } from 'zod';
import type { GateResult } from './gate-schema.ts';
import type { Visit } from './sample.ts';
import type { Stop } from './stops.ts';

/** What a real gate saw, without what only people read: enough to have it judged again. */
export const recordingSchema = z.strictObject({
  name: z.string(),
  patches: z.array(
    z.strictObject({
      subject: z.string(),
      state: z.enum(['built', 'not-built', 'not-applied', 'not-run']),
      /** The patch with the same kernel, 0 for the base. */
      sameAs: z.int().nullable(),
      warnings: z.array(z.string()),
      transient: z.boolean(),
    }),
  ),
  /** By test and patch (0: the base): what each run showed, in order. A fault is `fail` with its fingerprint. */
  runs: z.record(z.string(), z.record(z.string(), z.array(z.string()))),
  /** What the kernel said, by fingerprint. */
  titles: z.record(z.string(), z.string()).default({}),
  /** Those of the tests that were listed as failing. */
  known: z.array(z.string()).default([]),
});
export type Recording = z.infer<typeof recordingSchema>;

/** What a gate saw, in the form of a recording. Pure. */
export function recordingOf(
  name: string,
  { gate, stops, visits, transient, known }: RecordedGate,
): Recording {
  const runs: Record<string, Record<string, string[]>> = {};
  const titles: Record<string, string> = {};
  for (const { stop, samples } of visits) {
    const patch = String(stops[stop]?.patches[0] ?? 0);
    for (const { test, seen, faults } of samples) {
      const ofTest = (runs[test] ??= {});
      (ofTest[patch] ??= []).push(faults[0]?.fingerprint ?? seen);
      for (const { fingerprint, title } of faults.slice(0, 1)) titles[fingerprint] ??= title;
    }
  }
  const patches = gate.patches.map(({ index, subject, state, sameAs, warnings }) => {
    return { subject, state, sameAs, warnings, transient: transient.includes(index) };
  });
  return { name, patches, runs, titles, known: Object.keys(runs).filter((test) => known.has(test)) };
}

export interface RecordedGate {
  readonly gate: Pick<GateResult, 'patches'>;
  readonly stops: readonly Pick<Stop, 'patches'>[];
  readonly visits: readonly Visit[];
  /** Numbers of patches, see transientPatches. */
  readonly transient: readonly number[];
  /** Tests that are listed as failing. */
  readonly known: ReadonlySet<string>;
}
