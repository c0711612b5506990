import { readFile, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { isRunning } from './process-table.ts';

/** Environment variable that every process of a run carries; its value is the run's id. */
export const RUN_LABEL = 'FUSEGATE_RUN';

/**
 * What has to be known to clean up after a run whose own process is gone: `run.json` in the run's directory
 * below the cache. Written before anything else of the run exists.
 */
export const RunRecord = z
  .object({
    schema: z.literal(1),
    id: z.string().regex(/^[0-9a-f]{8,}$/),
    owner: z.object({ pid: z.int().positive(), startTime: z.string() }),
    /** Process numbers mean nothing after the machine was started anew. */
    bootId: z.string(),
    tempDir: z.string().startsWith('/'),
  })
  // A damaged record must never make us remove somebody else's directory.
  .refine(({ id, tempDir }) => basename(tempDir) === `fusegate-${id}`, { path: ['tempDir'] });
export type RunRecord = z.infer<typeof RunRecord>;

export async function writeRunRecord(dir: string, record: RunRecord): Promise<void> {
  const draft = join(dir, '.run.json.draft');
  await writeFile(draft, `${JSON.stringify(record, undefined, 2)}\n`);
  await rename(draft, join(dir, 'run.json'));
}

/** `undefined` when there is none or it cannot be trusted. */
export async function readRunRecord(dir: string): Promise<RunRecord | undefined> {
  try {
    return RunRecord.parse(JSON.parse(await readFile(join(dir, 'run.json'), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Whether the run's own process is still there. */
export async function isRunAlive({ bootId, owner }: RunRecord): Promise<boolean> {
  return bootId === (await currentBootId()) && (await isRunning(owner));
}

/** Different after every start of the machine (random(4)). */
export async function currentBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
