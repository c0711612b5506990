import { mkdir, open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { acquireLock } from './file-lock.ts';
import { sha256OfFile } from './hash-file.ts';
import { draftOf, noteDraft } from './run-drafts.ts';

export interface StoreRequest {
  /** Directory of the entry; its last part is the content key. */
  readonly dir: string;
  /** Names of the files the entry consists of. */
  readonly files: readonly string[];
  readonly signal?: AbortSignal | undefined;
  /** Something worth a line: a wait for another run, a damaged entry. */
  readonly note?: ((text: string) => void) | undefined;
  /** Makes the files in an empty directory beside the entry. */
  readonly make: (dir: string) => Promise<void>;
}

const EntryRecord = z.object({
  schema: z.literal(1),
  files: z.record(z.string(), z.object({ size: z.number(), mtimeMs: z.number(), sha256: z.string() })),
});
type EntryRecord = z.infer<typeof EntryRecord>;

/**
 * An entry of a content-addressed store: made at most once, whoever asks and however many at a time.
 *
 * The files are made in a directory of their own, which is renamed into place complete with `entry.json`, so
 * a run that is killed leaves no half entry. An entry whose files changed size, went missing or no longer
 * have the recorded hash (compared only when size or time differ, so the usual check costs nothing) is made
 * anew. Its files are never written to afterwards.
 */
export async function storeEntry(request: StoreRequest): Promise<{ readonly cached: boolean }> {
  if ((await checkEntry(request)) === 'whole') return { cached: true };
  const { dir, signal, note } = request;
  await using _lock = await acquireLock(`${dir}.lock`, {
    signal,
    onWait: (owner) =>
      note?.(
        `waiting for ${owner === undefined ? 'another run' : `process ${owner}`}, which makes ${basename(dir)}`,
      ),
  });
  const state = await checkEntry(request);
  if (state === 'whole') return { cached: true };
  if (state === 'damaged') note?.(`the cache entry ${dir} is damaged; making it anew`);
  await makeEntry(request);
  return { cached: false };
}

async function makeEntry({ dir, files, make, signal }: StoreRequest): Promise<void> {
  // The name is fixed and we hold the lock: what a killed run left there is ours to remove.
  const draft = draftOf(dir);
  await using _noted = await noteDraft(dir);
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  try {
    await make(draft);
    signal?.throwIfAborted();
    const record: EntryRecord = { schema: 1, files: {} };
    for (const name of files) record.files[name] = await recordFile(join(draft, name));
    await writeFile(join(draft, 'entry.json'), `${JSON.stringify(record, undefined, 2)}\n`);
    await rm(dir, { recursive: true, force: true });
    await rename(draft, dir);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

async function recordFile(path: string): Promise<EntryRecord['files'][string]> {
  const file = await open(path, 'r+');
  try {
    // The data has to be on the disk before its name is: otherwise a power cut leaves a whole-looking entry.
    await file.sync();
    const { size, mtimeMs } = await file.stat();
    return { size, mtimeMs: Math.round(mtimeMs), sha256: await sha256OfFile(path) };
  } finally {
    await file.close();
  }
}

async function checkEntry({ dir, files }: StoreRequest): Promise<'whole' | 'damaged' | 'missing'> {
  const record = await readRecord(join(dir, 'entry.json'));
  if (record === undefined) return (await exists(dir)) ? 'damaged' : 'missing';
  for (const name of files) {
    const expected = record.files[name];
    if (expected === undefined || !(await isUnchanged(join(dir, name), expected))) return 'damaged';
  }
  // When it was used last, for whoever makes room.
  await utimes(join(dir, 'entry.json'), new Date(), new Date()).catch(() => undefined);
  return 'whole';
}

async function isUnchanged(path: string, expected: EntryRecord['files'][string]): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (found?.size !== expected.size) return false;
  if (Math.round(found.mtimeMs) === expected.mtimeMs) return true;
  if ((await sha256OfFile(path)) !== expected.sha256) return false;
  // Same content under another time: a cache restored from an archive. Remember it, or each run hashes again.
  await utimes(path, found.atime, new Date(expected.mtimeMs)).catch(() => undefined);
  return true;
}

async function readRecord(path: string): Promise<EntryRecord | undefined> {
  try {
    return EntryRecord.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
