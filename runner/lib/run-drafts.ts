import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { acquireLock } from './file-lock.ts';
import { cacheDir } from './paths.ts';
import { RUN_LABEL } from './run-record.ts';

/** Where an entry of the store is made before it gets its name. */
export function draftOf(entry: string): string {
  return join(dirname(entry), `.${basename(entry)}.draft`);
}

const DRAFTS = 'drafts';

/**
 * Notes in this run's record that it makes that entry: a run that dies leaves a draft of up to hundreds of
 * megabytes, which otherwise stays until somebody makes the same entry again. To be disposed when the draft is gone.
 */
export async function noteDraft(entry: string): Promise<AsyncDisposable> {
  const run = process.env[RUN_LABEL];
  const below = relative(cacheDir(), entry);
  const notes = cacheDir('runs', run ?? '', DRAFTS);
  const note = join(notes, basename(entry));
  if (run !== undefined && isEntry(below)) {
    // Not `mkdir -p`: a run without a record is not one that is cleaned up after.
    await mkdir(notes).catch(() => undefined);
    await writeFile(note, below).catch(() => undefined);
  }
  return {
    [Symbol.asyncDispose]: async () => {
      if (run !== undefined) await rm(note, { force: true });
    },
  };
}

/** How long the death of a run may take to give back its locks. Milliseconds. */
const LOCK_MS = 3_000;

/** Removes what a dead run was making. Whoever is making the same entry by now holds its lock, and keeps his draft. */
export async function removeDrafts(runDir: string, lockMs = LOCK_MS): Promise<void> {
  for (const name of await readdir(join(runDir, DRAFTS)).catch(() => [])) {
    const below = await readFile(join(runDir, DRAFTS, name), 'utf8').catch(() => '');
    if (!isEntry(below)) continue;
    const entry = join(dirname(dirname(runDir)), below);
    try {
      await using _lock = await acquireLock(`${entry}.lock`, { signal: AbortSignal.timeout(lockMs) });
      await rm(draftOf(entry), { recursive: true, force: true });
    } catch {
      // Its new maker begins by removing it.
    }
  }
}

/** Something in a folder of the cache, by a name that leads nowhere else: a damaged note must do no harm. */
function isEntry(below: string): boolean {
  return /^[a-z]+\/[0-9a-f]{32,64}$/.test(below);
}
