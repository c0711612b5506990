import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';

const recordedRuns = z.strictObject({
  profiles: z.record(
    z.string(),
    z.strictObject({
      /** As `uname -r` prints it. */
      release: z.string(),
      /** Tests that said something about this kernel: passed, or failed as it is known. */
      ran: z.array(z.string()),
    }),
  ),
});
/** suites/recorded-runs.json: which tests say something on which kernel, as runs of everything have shown. */
export type RecordedRuns = z.infer<typeof recordedRuns>;

/** @throws Failure E_CONFIG_INVALID (user). A missing file is an empty record. */
export async function loadRecordedRuns(path: string): Promise<RecordedRuns> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { profiles: {} };
    throw error;
  }
  try {
    return recordedRuns.parse(JSON.parse(text));
  } catch (cause) {
    throw new Failure('E_CONFIG_INVALID', 'user', `${path} is not a record of runs`, {
      hint: 'write it anew: `npx fusegate coverage --record DIR` for a run of everything on each profile',
      cause,
    });
  }
}

/** The record with this run in place of what its profile had. Pure. */
export function withRun({ profiles }: RecordedRuns, report: Report): RecordedRuns {
  const ran = report.tests
    .filter(({ outcome }) => outcome !== 'skipped' && outcome !== 'not-run')
    .map(({ id }) => id)
    .toSorted();
  const release = report.kernels.at(-1)?.release ?? 'unknown';
  const all = Object.entries({ ...profiles, [report.profile]: { release, ran } });
  return { profiles: Object.fromEntries(all.toSorted(([a], [b]) => (a < b ? -1 : 1))) };
}
