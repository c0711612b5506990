import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { processesLabelled, signalProcess } from './process-table.ts';
import { removeDrafts } from './run-drafts.ts';
import { currentBootId, readRunRecord, RUN_LABEL, type RunRecord } from './run-record.ts';

export interface Reaped {
  /** Processes that had to be killed. */
  readonly processes: number;
  readonly mounts: number;
}

/**
 * Removes everything a run left: its processes (known by the label in their environment, whatever group or
 * parent they have by now), mounts and files below its temporary directory, what it was making for the cache, its
 * record. Safe to do twice.
 */
export async function reapRun(dir: string): Promise<Reaped> {
  const record = await readRunRecord(dir);
  const sameBoot = record?.bootId === (await currentBootId());
  const processes = record !== undefined && sameBoot ? await killRun(record) : 0;
  const mounts = record === undefined ? 0 : await unmountBelow(record.tempDir);
  if (record !== undefined) {
    await rm(record.tempDir, { recursive: true, force: true });
    await removeDrafts(dir);
  }
  await rm(dir, { recursive: true, force: true });
  return { processes, mounts };
}

/** A killed process can have started another one just before; a few rounds find those too. */
const ROUNDS = 40;
const ROUND_MS = 25;

/** SIGKILL, until none is left. A process that is stuck in the kernel cannot be waited for for ever. */
export async function killRun({ id }: Pick<RunRecord, 'id'>): Promise<number> {
  const killed = new Set<number>();
  for (let round = 0; round < ROUNDS; round++) {
    const found = (await processesLabelled(RUN_LABEL, id)).filter(({ pid }) => pid !== process.pid);
    if (found.length === 0) break;
    for (const identity of found) {
      if (await signalProcess(identity, 'SIGKILL')) killed.add(identity.pid);
    }
    await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
  }
  return killed.size;
}

/** Before anything below is removed: a bind mount would lead out of the directory. */
async function unmountBelow(dir: string): Promise<number> {
  const points = mountPointsBelow(await readFile('/proc/self/mountinfo', 'utf8'), dir);
  for (const point of points) await promisify(execFile)('umount', ['--lazy', point]);
  return points.length;
}

/** Mount points at or below a directory, the innermost first. proc(5): the fifth field, blanks as octal. */
export function mountPointsBelow(mountinfo: string, dir: string): readonly string[] {
  const points: string[] = [];
  for (const line of mountinfo.split('\n')) {
    const point = (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_match, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    if (point === dir || point.startsWith(`${dir}/`)) points.push(point);
  }
  return points.reverse();
}
